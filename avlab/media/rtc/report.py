"""What ``avlab doctor`` and ``%avlab doctor`` say about live media here: one plain sentence for each part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

INSTALL = "pip install 'avlab[notebook]'"
WITHIN = 2.0  # seconds for all TURN servers together


@dataclass(frozen=True, slots=True)
class Fact:
    """One part of live media. ``remedy``: what to do when it is not ``ok``."""

    part: str
    state: str
    ok: bool = True
    remedy: str = ""

    def __str__(self) -> str:
        return self.state + (f": {self.remedy}" if self.remedy else "")


def live_media(urls: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> Iterator[Fact]:
    """Libraries, the kernel's subshells, the encoder, addresses for a direct path, and each TURN server that is configured.

    urls: servers to ask instead of those that the environment names; credentials come from there. Takes about two seconds
    when a server does not answer. Raises ConfigError for servers that are malformed.
    """
    missing = []
    for name in ("aiortc", "anywidget"):
        try:
            yield Fact(name, version(name))
        except PackageNotFoundError:
            missing.append(name)
            yield Fact(name, "not installed, so there is no live view", ok=False, remedy=INSTALL)
    yield from _kernel()
    yield from _encoder()
    if "aiortc" not in missing:
        yield from _paths(urls, environment)


def _kernel() -> Iterator[Fact]:
    try:
        number = version("ipykernel")
    except PackageNotFoundError:
        return
    major = int(re.match(r"\d*", number)[0] or 0)  # type: ignore[index]
    if major >= 7:
        yield Fact("subshells", f"ipykernel {number} has them, so a view's messages come through while a cell runs")
    else:
        state = f"ipykernel {number} has none, so a view's messages wait while a cell runs (a direct path does not)"
        yield Fact("subshells", state, ok=False, remedy="pip install 'ipykernel>=7'")


def _encoder() -> Iterator[Fact]:
    try:
        from avlab.media.support import coders
    except ImportError:
        return  # the part about PyAV says so
    if coders()["encode libx264"]:
        yield Fact("H.264", "libx264 is there, so one encode serves all views of a size")
    else:
        remedy = "pip install --force-reinstall --only-binary av av"
        yield Fact("H.264", "there is no encoder, so nothing can be shown live", ok=False, remedy=remedy)


def _paths(urls: Sequence[str], environment: Mapping[str, str]) -> Iterator[Fact]:
    from aioice.ice import get_host_addresses

    found = [each for each in get_host_addresses(True, True) if not each.startswith(("127.", "fe80:", "169.254."))]
    if found:
        direct = f"who reaches {' or '.join(found)} over UDP"
        yield Fact("direct path", f"possible for {direct}")
    else:
        direct = "a browser on this machine"
        state = f"this machine has no address besides loopback, so only {direct} connects directly"
        yield Fact("direct path", state, ok=False, remedy="name a TURN server, see docs/turn.md")
    from avlab.media.rtc.relay import best, probe
    from avlab.media.rtc.turn import SERVERS, from_environment
    from avlab.media.runtime import MediaRuntime

    servers = from_environment({**environment, SERVERS: " ".join(urls)} if urls else environment)
    runtime = MediaRuntime()
    try:
        tried = runtime.run(probe(servers, within=WITHIN))
    finally:
        runtime.close()
    for each in tried:
        if each.works:
            yield Fact(each.url, f"works over {each.way.upper()} ({each.milliseconds:.0f} ms for an allocation)")
        else:
            yield Fact(each.url, each.reason, ok=False, remedy="see docs/turn.md")
    if not tried:
        yield Fact("TURN", f"no server is configured ({SERVERS} or ice_servers= name one, see docs/turn.md)")
    choice = best(tried)
    otherwise = f"through {choice.relay.url}" if choice.relay else f"over the notebook's own connection, because {choice.reason}"
    yield Fact("path", f"live pictures go directly to {direct}, to others {otherwise}")
