"""``avlab nodes``: the registered nodes with their parameters."""

from __future__ import annotations

import argparse
import inspect
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from avlab.core.errors import UnknownNode
from avlab.core.registry import registered, registered_nodes
from avlab.core.table import table


@dataclass
class Entry:
    """One registered node. ``missing`` says why it cannot be loaded here, or is empty."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    missing: str = ""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("nodes", help="list the registered nodes and their parameters")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> None:
    """Print the table."""
    entries = [describe(name) for name in registered_nodes()]
    if options.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    rows = []
    for entry in entries:
        rows.append((entry.name, entry.missing or entry.summary))
        rows.extend(("", f"  {name}: {kind}") for name, kind in entry.parameters.items())
    print(table(("node", "what it does, and its parameters"), rows))


def describe(name: str) -> Entry:
    """What a registered node says about itself, or why it does not load."""
    from avlab.core.node import REQUIRED, parameters

    try:
        cls = registered(name)
    except UnknownNode as error:
        return Entry(name, missing=str(error))
    shown = {
        parameter: _type_name(kind) + ("" if default is REQUIRED else f" = {default!r}")
        for parameter, (kind, default) in parameters(cls).items()
    }
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    return Entry(name, shown, summary)


def _type_name(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return "any"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
