"""``avlab executor status``: what an executor is, what runs there, and what is used of each quota."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab.core.scrub import cell
from avlab.core.status import QuotaStatus, Status
from avlab.core.table import table
from avlab.core.units import size, span
from avlab.remote.connect import connect
from avlab.remote.link import Description
from avlab_executor.container.commands import require

DEFAULT_URL = "grpc://127.0.0.1:7411"
MOST_ROWS = 200
_CLEAR = "\x1b[H\x1b[2J"
_CELL = 60


def add_parser(commands: Any) -> None:
    """The sub-command."""
    parser = commands.add_parser(
        "status",
        help="what an executor is, what runs there and what is used of each quota",
        description="A table of the tenant's sessions and quotas (an operator's token shows those of all tenants). On a terminal "
        "it is drawn again and again until Ctrl-C.",
    )
    parser.add_argument("given", nargs="?", metavar="URL", help=f"the executor (default: {DEFAULT_URL})")
    parser.add_argument("--url", help="the same, as an option")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with the token (or the variable AVLAB_TOKEN)")
    parser.add_argument("--tls-ca", metavar="FILE", help="PEM authorities that vouch for the executor")
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM certificate to show to the executor (mTLS)")
    parser.add_argument("--tls-key", metavar="FILE", help="its PEM key")
    parser.add_argument("--once", action="store_true", help="draw once, also on a terminal")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="time between two drawings (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON, once")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show it, once or until interrupted. Raises ConnectError, Denied, ConfigError."""
    if not 0.1 <= options.every <= 3600:
        raise ConfigError(f"--every {options.every:g}: give 0.1 to 3600 seconds")
    files = {"ca": options.tls_ca, "certificate": options.tls_cert, "key": options.tls_key}
    given = {name: path for name, path in files.items() if path}
    url = options.url or options.given or DEFAULT_URL
    contained = url.startswith("docker:")
    if contained:
        require(url)
    token = None if contained else _token(options.token_file)
    with connect(url, auth=token, **({"tls": given} if given else {})) as executor:
        about = executor.describe()
        if options.json:
            print(json.dumps(asdict(executor.status()), indent=2))
            return 0
        live = sys.stdout.isatty() and not options.once
        never = threading.Event()
        while True:
            text = "\n".join(lines(about, executor.status()))
            print(_CLEAR + text if live else text, flush=True)
            if not live or never.wait(options.every):
                return 0


def lines(about: Description, status: Status) -> Iterator[str]:
    """What is shown. Words of the executor are bounded and steer no terminal."""
    who = f"tenant {cell(status.tenant, _CELL)}" + (", operator" if status.operator else "")
    yield f"{about.url}: avlab {cell(about.version, _CELL)}, Python {cell(about.python, _CELL)}, {who}, up {span(status.uptime)}"
    yield f"isolation tier {cell(about.tier, _CELL)}, largest item {size(about.max_item)}"
    for tier in about.tiers[:10]:
        yield f"  {cell(tier.name, _CELL):<11}{'on' if tier.available else 'off':<4}{cell(tier.reason, 300)}"
    yield f"sessions {about.sessions} of {about.capacity or 'any number'}"
    yield f"environments: {cell(about.environments, _CELL)}; Python {cell(', '.join(about.pythons[:20]) or about.python, _CELL)}"
    if status.sessions:
        yield ""
        yield table(*sessions(status))
    if any(quota.most is not None for quota in status.quotas):
        yield ""
        yield table(*quotas(status.quotas))


def sessions(status: Status) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of the sessions."""
    rows = [
        (
            each.session[:_CELL],
            each.tenant[:_CELL],
            each.name[:_CELL],
            each.tier[:_CELL],
            span(each.age),
            str(each.inputs),
            str(each.outputs),
            size(each.received),
            size(each.sent),
            size(each.memory),
            f"{each.cpu_seconds:.1f} s",
        )
        for each in status.sessions[:MOST_ROWS]
    ]
    return ("session", "tenant", "runs", "tier", "age", "in", "out", "received", "sent", "memory", "CPU"), rows


def quotas(found: Sequence[QuotaStatus]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of the quotas that have a bound."""
    rows = []
    for each in found[:MOST_ROWS]:
        if each.most is not None:
            shown = size if each.name in ("bytes", "stored") else lambda number: f"{number:.6g}"
            renewed = "" if each.renewed is None else span(each.renewed)
            rows.append((each.tenant[:_CELL], each.name[:_CELL], shown(each.used), shown(each.most), renewed))
    return ("tenant", "quota", "used", "of", "renewed in"), rows


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("AVLAB_TOKEN") or None
    try:
        return file.read_text().split()[-1]
    except (OSError, UnicodeDecodeError, IndexError):
        raise ConfigError(f"--token-file {file}: no token can be read there") from None


__all__ = ["add_parser", "lines", "run"]
