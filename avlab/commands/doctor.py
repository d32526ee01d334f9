"""``avlab doctor``: what is installed and possible on this machine, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from avlab.core.errors import AvlabError, ConfigError
from avlab.core.table import table

NEEDED = ("av", "cloudpickle", "grpcio", "numpy", "protobuf")
FOR_NOTEBOOKS = ("ipykernel", "ipython", "jupyterlab", "matplotlib", "nbclient")


@dataclass
class Finding:
    """One thing looked at. ``needed``: without it avlab does not work; otherwise something optional is missing."""

    part: str
    state: str
    ok: bool = True
    needed: bool = True
    remedy: str = ""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="check this machine: versions, coders, live media, isolation tiers, remedies"
    )
    parser.add_argument("--on", metavar="URL", default="local:", help="the executor to look at (default: local:)")
    parser.add_argument(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL",
        help="TURN server to ask instead of those in AVLAB_ICE_SERVERS; may be repeated; credentials: see docs/turn.md",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Print the findings; 1 when something needed is missing, else 0."""
    findings = [*packages(), *media(), *live(options.ice_server), *executor(options.on)]
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {True: "ok", False: "MISSING"}
        rows = [
            (f.part, marks[f.ok] if f.ok or f.needed else "absent", f.state + (f": {f.remedy}" if f.remedy else ""))
            for f in findings
        ]
        print(table(("part", "", "found"), rows))
    return int(any(f.needed and not f.ok for f in findings))


def packages() -> Iterator[Finding]:
    """Python, avlab and the libraries that it stands on."""
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("python", platform.python_version())
    yield Finding("avlab", version("avlab"))
    for name in (*NEEDED, *FOR_NOTEBOOKS):
        needed = name in NEEDED
        try:
            yield Finding(name, version(name), needed=needed)
        except PackageNotFoundError:
            remedy = f"pip install {name}" if needed else "pip install 'avlab[notebook]'"
            yield Finding(name, "not installed", ok=False, needed=needed, remedy=remedy)


def media() -> Iterator[Finding]:
    """The coders of video and sound."""
    try:
        from avlab.media.support import coders
    except ImportError as error:
        yield Finding("media", f"PyAV does not load ({error})", ok=False, remedy="pip install --force-reinstall av")
        return
    found = coders()
    absent = [name for name, there in found.items() if not there]
    if absent:
        remedy = "pip install --force-reinstall --only-binary av av"
        yield Finding("media", f"no {', no '.join(absent)}", ok=False, needed=False, remedy=remedy)
    yield Finding("media", ", ".join(name for name, there in found.items() if there))


def live(urls: Sequence[str] = ()) -> Iterator[Finding]:
    """Live media: libraries, encoder, paths to a browser. urls: TURN servers to ask."""
    from avlab.media.rtc.report import live_media

    try:
        for fact in live_media(urls):
            yield Finding(fact.part, fact.state, ok=fact.ok, needed=False, remedy=fact.remedy)
    except ConfigError as error:
        yield Finding("TURN", str(error), ok=False, needed=False, remedy="see docs/turn.md")


def executor(url: str) -> Iterator[Finding]:
    """What the executor at this address says of itself: its tiers and why one is not possible."""
    import avlab

    try:
        with avlab.connect(url) as connection:
            about = connection.describe()
    except AvlabError as error:
        yield Finding(f"executor {url}", str(error), ok=False, remedy="see docs/security.md")
        return
    yield Finding(f"executor {url}", f"avlab {about.version}, Python {about.python}, tier {about.tier}")
    for tier in about.tiers:
        yield Finding(f"tier {tier.name}", tier.reason or "possible", ok=tier.available, needed=False)
    installs = {
        "off": "off: sessions run with what is installed there",
        "wheels": "built for sessions, from wheels only",
        "any": "built for sessions, also from source",
        "no installer": "not built: neither uv nor pip is installed there",
    }
    told = installs.get(about.environments, about.environments)
    yield Finding("environments", f"{told}; Python {', '.join(about.pythons) or about.python}")
    yield Finding("nodes there", ", ".join(about.nodes))
