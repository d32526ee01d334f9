"""Repair of sound: which lost packets to ask the sender for again, and until when (RFC 4585, 6.2.1).

Sans-IO: times are arguments, in seconds since the origin of the receiver's `Timeline`s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

RETRIES = 3
"""How often a packet is asked for at most."""
REACH = 0.13
"""Seconds by which a repair may come after the fastest packets. With the margin of `Delay`, waiting for repairs thus makes
sound at most 0.15 s later; one that takes longer is not waited for, and soon not asked for."""
UNKNOWN = 0.1  # seconds that the first repair is thought to take
WATCHED = 512  # missing packets that are known at most
GAP = 64  # missing packets in a row that are worth asking for


class Arrived(Protocol):
    """What is looked at in a packet: see `avlab.media.rtc.jitter.Packet`."""

    @property
    def segment(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def arrival(self) -> float: ...


@dataclass(slots=True)
class _Missing:
    ticks: int
    again: float  # when to ask
    asked: int = 0
    first: float = 0.0  # when it was asked for first


class Repairs:
    """Notices what is missing in a track of sound. `missing` says what to ask for, each packet at most `RETRIES` times."""

    def __init__(self) -> None:
        self._missing: dict[int, _Missing] = {}
        self._doubtful: dict[int, float] = {}
        self._segment = self._sequence = self._ticks = -1
        self._took: float | None = None

    @property
    def takes(self) -> float:
        """Seconds from a request to its packet."""
        return UNKNOWN if self._took is None else self._took

    def came(self, packet: Arrived, patience: float) -> int:
        """Note a packet and what is missing before it, to be asked for after ``patience`` seconds: it may only have been
        overtaken. How often the packet was asked for."""
        if packet.segment != self._segment:
            self._missing.clear()
            self._doubtful.clear()
            self._segment, self._sequence, self._ticks = packet.segment, packet.sequence, packet.ticks
            return 0
        entry = self._missing.pop(packet.sequence, None)
        if packet.sequence > self._sequence:
            step = (packet.ticks - self._ticks) / (packet.sequence - self._sequence)
            for sequence in range(max(self._sequence + 1, packet.sequence - GAP), packet.sequence):
                ticks = self._ticks + round(step * (sequence - self._sequence))
                self._missing[sequence] = _Missing(ticks, packet.arrival + patience)
            self._sequence, self._ticks = packet.sequence, packet.ticks
            while len(self._missing) > WATCHED:
                del self._missing[next(iter(self._missing))]
        if entry is None:
            return 0
        if entry.asked == 1:
            longer = packet.arrival - entry.first - self.takes
            self._took = self.takes + longer / (1 if self._took is None else 2 if longer > 0 else 8)
        return entry.asked

    def doubt(self, sequence: int, transit: float) -> None:
        """A packet that was asked for once came too late to wait for such ones, unless it was the one that was sent first."""
        self._doubtful[sequence] = transit
        while len(self._doubtful) > GAP:
            del self._doubtful[next(iter(self._doubtful))]

    def resolve(self, sequence: int) -> float | None:
        """The packet came twice: the first was no repair, but late by itself. Its transit, if it was doubted."""
        return self._doubtful.pop(sequence, None)

    def missing(self, now: float, deadline: Callable[[int], float]) -> list[int]:
        """Sequence numbers (not wrapped) to ask for now; ``deadline`` gives for ticks until when a packet is of use."""
        wanted = []
        for sequence, entry in list(self._missing.items()):
            if entry.again > now:
                continue
            if entry.asked >= RETRIES or now + self.takes > deadline(entry.ticks):
                entry.again = inf
                if not entry.asked:  # what is never tried is never found to have become faster
                    self._took = 0.95 * self.takes
                continue
            entry.first = entry.first if entry.asked else now
            entry.asked, entry.again = entry.asked + 1, now + max(0.02, 1.5 * self.takes)
            wanted.append(sequence)
        return wanted

    def due(self) -> float | None:
        """When `missing` will have something to do, or None until a packet arrives."""
        due = min((entry.again for entry in self._missing.values()), default=inf)
        return None if due == inf else due
