"""``avlab pack``: what would be sent to an executor, without sending it."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("pack", help="show what would be sent for an object")
    parser.add_argument(
        "object", metavar="MODULE:OBJECT", help="a class, function or instance, for example my_nodes:Edges"
    )
    parser.add_argument("--files", nargs="*", default=(), metavar="PATH", help="files and folders that go with it")
    parser.set_defaults(run=explain)


def explain(options: argparse.Namespace) -> None:
    """Pack the object and print the list of what it needs."""
    from avlab.commands.named import load
    from avlab.remote import bundle

    print(bundle.pack(load(options.object), files=options.files).explain())
