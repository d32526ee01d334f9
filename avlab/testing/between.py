"""PeerRelay: a bad network between two WebRTC peers, put there by rewriting their descriptions."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Self

from avlab.core.errors import ConfigError
from avlab.testing.fate import Faults
from avlab.testing.faults import RelayStatistics, UdpRelay

RELAYS = 64
"""Most addresses of one PeerRelay."""
_CANDIDATE = re.compile(r"(a=)?candidate:(\S+) (\d+) (\S+) (\d+) (\S+) (\d+) typ (\S+)(.*)", re.IGNORECASE)


class PeerRelay:
    """Makes all packets of two WebRTC peers go through `UdpRelay`s with the same faults.

    Pass one peer's description and candidates through `expose` on their way to the other: its addresses become those of relays. Pass
    the other's through `hide`, which takes its addresses away: it is then known only by what comes out of a relay. Where both
    peers must know where to send to, `expose` both. New connections of the same peers may go through the same PeerRelay.

    The faults are those of `Faults`; the relays' dice follow from ``seed`` and the order of the addresses. host: where relays listen;
    by default at the peer's own address if that is one of this machine (a browser whose sockets belong to a network card does
    not send to the loopback address), else at the loopback address. A context manager; `close` ends all relays.
    """

    def __init__(self, *, seed: int | str = 0, host: str = "", **faults: float) -> None:
        Faults(**faults)  # complains now, not when the first address comes
        self._faults, self._seed, self._host = faults, seed, host
        self._relays: dict[tuple[str, int], UdpRelay] = {}
        self._lock = threading.Lock()
        self._cut = self._closed = False

    @property
    def relays(self) -> list[UdpRelay]:
        """The relays so far, in the order in which addresses came."""
        return list(self._relays.values())

    def expose(self, sdp: str) -> str:
        """A description with relays' addresses in the place of the peer's own. Candidates that are no UDP, or names, are left out.

        Raises ConfigError for more than 64 addresses, and when it is closed.
        """
        return _rewritten(sdp, self._exposed)

    def hide(self, sdp: str) -> str:
        """A description without addresses, to which more could come."""
        return _rewritten(sdp, lambda line: None)

    def expose_candidate(self, candidate: Mapping[str, Any]) -> dict[str, Any] | None:
        """A trickled candidate in the browser's notation with a relay's address; None for one that is left out."""
        text = str(candidate.get("candidate") or "")
        shown = self._exposed(text) if text else text
        return None if shown is None else {**candidate, "candidate": shown}

    def cut(self) -> None:
        """Lose everything, on new relays too, until `heal`."""
        self._each(True, UdpRelay.cut)

    def heal(self) -> None:
        """Let packets through again; the faults remain."""
        self._each(False, UdpRelay.heal)

    def change(self, **faults: float) -> None:
        """Other faults from now on, by name; those that are not named are none. Raises ConfigError."""
        Faults(**faults)
        with self._lock:
            self._faults = faults
            for relay in self._relays.values():
                relay.change(**faults)

    def statistics(self) -> dict[tuple[str, int], RelayStatistics]:
        """What has become of the packets, by the address that a relay stands for."""
        return {target: relay.statistics() for target, relay in list(self._relays.items())}

    def close(self) -> None:
        """End all relays. Idempotent."""
        with self._lock:
            self._closed = True
            for relay in self._relays.values():
                relay.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _each(self, cut: bool, do: Callable[[UdpRelay], None]) -> None:
        with self._lock:
            self._cut = cut
            for relay in self._relays.values():
                do(relay)

    def _exposed(self, line: str) -> str | None:
        """A candidate's line with a relay's address, without the addresses behind it."""
        match = _CANDIDATE.fullmatch(line)
        if match is None or match[4].lower() != "udp":
            return None
        try:
            ip_address(match[6])
        except ValueError:
            return None
        host, port = self._relay((match[6], int(match[7]))).address
        related = re.sub(r" (raddr|rport) \S+", "", match[9], flags=re.IGNORECASE)
        return f"{match[1] or ''}candidate:{match[2]} {match[3]} udp {match[5]} {host} {port} typ host{related}"

    def _relay(self, target: tuple[str, int]) -> UdpRelay:
        with self._lock:
            relay = self._relays.get(target)
            if relay is None:
                if self._closed or len(self._relays) >= RELAYS:
                    raise ConfigError("this PeerRelay is closed" if self._closed else f"more than {RELAYS} addresses")
                made = f"{self._seed}:{len(self._relays)}"
                relay = self._relays[target] = self._made(target, made)
                relay.change(**self._faults)
                if self._cut:
                    relay.cut()
            return relay

    def _made(self, target: tuple[str, int], seed: str) -> UdpRelay:
        try:
            return UdpRelay(target, seed=seed, host=self._host or target[0])
        except OSError:
            if self._host:
                raise
            return UdpRelay(target, seed=seed)


def _rewritten(sdp: str, candidate: Callable[[str], str | None]) -> str:
    lines, dropped = [], False
    for line in sdp.splitlines():
        if line.lower().startswith("a=candidate:"):
            shown = candidate(line)
            dropped = dropped or shown is None
            if shown is not None:
                lines.append(shown)
        else:
            lines.append(line)
    if dropped:  # the peers must not stop to wait for what is not said
        lines = [line for line in lines if line != "a=end-of-candidates"]
    return "\r\n".join(lines) + "\r\n"
