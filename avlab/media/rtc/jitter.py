"""Sound from packets that come late, twice, in another order or not at all: one frame after the other, each at its time.

Sans-IO: times are arguments, in seconds since the origin of the receiver's `Timeline`s.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Any

from avlab.media.rtc.delay import Delay
from avlab.media.rtc.repair import REACH, Repairs

CONCEALED = 0.2
"""Seconds of lost sound in a row that are concealed; what is missing beyond is a gap in the times."""
CAPACITY = 2.0
"""Seconds of sound that wait at most."""
MOST = 1024
"""Packets of sound that wait at most: more than that many of the shortest ones (2.5 ms) are 2 s of nothing that can be played."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet placed on its track's timeline. ``duration`` in ticks (sound); ``marker``: the last of its picture;
    ``key``: a picture that needs no other begins here."""

    segment: int
    sequence: int
    frame: int
    ticks: int
    data: bytes
    arrival: float
    duration: int = 0
    marker: bool = False
    key: bool = False
    codec: Any = None


@dataclass(slots=True)
class Encoded:
    """What goes to the decoder: one frame of sound, or one whole picture. ``data`` None: conceal what was lost."""

    ticks: int
    data: bytes | None
    arrival: float
    duration: int = 0
    codec: Any = None


@dataclass(slots=True)
class Counts:
    """Packets of a track since its beginning. ``lost`` never came; ``late`` came after their time; ``concealed`` frames were
    made up, ``played`` ones were real; ``skipped`` times is a number of holes too long to conceal. ``requests``: how often a
    missing packet was asked for; ``repaired``: packets of sound that came after that."""

    received: int = 0
    lost: int = 0
    late: int = 0
    duplicates: int = 0
    played: int = 0
    concealed: int = 0
    skipped: int = 0
    requests: int = 0
    repaired: int = 0


@dataclass(slots=True)
class Arrivals:
    """Which sequence numbers have come: duplicates and losses (RFC 3550, A.3), with the newest 1024 known one by one."""

    counts: Counts
    _segment: int = -1
    _first: int = 0
    _highest: int = 0
    _unique: int = 0
    _before: int = 0
    _seen: set[int] = field(default_factory=set)
    _order: deque[int] = field(default_factory=deque)

    def add(self, packet: Packet) -> bool:
        """Note a packet; False when it came before."""
        self.counts.received += 1
        if packet.segment != self._segment:
            self._segment, self._before, self._unique = packet.segment, self.counts.lost, 0
            self._first = self._highest = packet.sequence
            self._seen.clear()
            self._order.clear()
        if packet.sequence in self._seen:
            self.counts.duplicates += 1
            return False
        self._seen.add(packet.sequence)
        self._order.append(packet.sequence)
        if len(self._order) > 1024:
            self._seen.discard(self._order.popleft())
        self._first, self._highest = min(self._first, packet.sequence), max(self._highest, packet.sequence)
        self._unique += 1
        self.counts.lost = self._before + max(0, self._highest - self._first + 1 - self._unique)
        return True


class AudioBuffer:
    """Holds packets of sound until their time and gives one frame after the other, concealing what is missing then."""

    def __init__(self, rate: int, delay: Delay | None = None) -> None:
        self.counts = Counts()
        self.delay = delay or Delay()
        self.hold: float | None = None
        """Seconds from an item's time to its release if that is later than the buffer's own delay (lips)."""
        self.repairs: Repairs | None = None
        """Asks for what is missing, where the sender has agreed to send it again."""
        self.ended = False
        """Whether the sender has said that no more comes: after the last packet nothing is concealed then."""
        self._rate = rate
        self._arrivals = Arrivals(self.counts)
        self._waiting: list[Packet] = []
        self._next: int | None = None
        self._last: Packet | None = None
        self._run = 0

    def add(self, packet: Packet) -> None:
        """A packet has arrived."""
        if not self._arrivals.add(packet):
            if self.repairs is not None and (transit := self.repairs.resolve(packet.sequence)) is not None:
                self.delay.add(transit, packet.arrival)
            return
        self._note_transit(packet)
        if packet.ticks < (0 if self._next is None else self._next - packet.duration // 2):
            self.counts.late += 1
            return
        insort(self._waiting, packet, key=lambda waiting: waiting.ticks)
        if self._waiting[-1].ticks - self._waiting[0].ticks > CAPACITY * self._rate or len(self._waiting) > MOST:
            self.counts.late += 1
            self._skip_to(self._waiting[1])
            del self._waiting[0]

    def _note_transit(self, packet: Packet) -> None:
        transit, repairs = packet.arrival - packet.ticks / self._rate, self.repairs
        asked = 0 if repairs is None else repairs.came(packet, 2 * self.delay.jitter)
        self.counts.repaired += asked > 0
        if not asked or transit <= self.delay.fastest + REACH:
            self.delay.add(transit, packet.arrival, asked > 0)
        elif repairs is not None and asked == 1:
            repairs.doubt(packet.sequence, transit)

    def missing(self, now: float) -> list[int]:
        """Sequence numbers (not wrapped) to ask for again now: what may come before its time, or so little after it that the
        delay can rise to it."""
        if self.repairs is None:
            return []
        wanted = self.repairs.missing(now, self._deadline)
        self.counts.requests += len(wanted)
        return wanted

    def _deadline(self, ticks: int) -> float:
        return max(self._release(ticks), ticks / self._rate + self.delay.fastest + REACH)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to be given yet."""
        return bool(self._waiting)

    def pop(self, now: float) -> list[Encoded]:
        """The frames whose time has come by ``now``, in order and without overlap."""
        out: list[Encoded] = []
        while (due := self._plays()) is not None and due <= now:
            out += self._step()
        return out

    def due(self) -> float | None:
        """When `pop` or `missing` will have something to do, or None until a packet arrives."""
        asks = None if self.repairs is None else self.repairs.due()
        plays = self._plays()
        return min((time for time in (asks, plays) if time is not None), default=None)

    def _plays(self) -> float | None:
        if self._next is None:
            return self._release(self._waiting[0].ticks) if self._waiting else None
        if not self._waiting and (self.ended or not self._can_conceal()):
            return None
        return self._release(self._next)

    def _release(self, ticks: int) -> float:
        return ticks / self._rate + max(self.delay.value or 0.0, -inf if self.hold is None else self.hold)

    def _can_conceal(self) -> bool:
        return self._last is not None and self._run * self._last.duration < CONCEALED * self._rate

    def _step(self) -> list[Encoded]:
        head, last = (self._waiting[0] if self._waiting else None), self._last
        if self._next is None:
            assert head is not None
            self._next = head.ticks
        if head is not None and head.ticks < self._next - head.duration // 2:
            del self._waiting[0]  # it came in time, and so did another one of its time
            self.counts.late += 1
            return []
        if head is not None and head.ticks <= self._next + head.duration // 2:
            return self._play(head)
        if head is not None and last is not None and not self._run and _follows(head, last):
            self._next = head.ticks  # the sender was silent: nothing is missing
            return []
        if self._can_conceal():
            return self._conceal()
        assert head is not None
        self._skip_to(head)
        return []

    def _play(self, head: Packet) -> list[Encoded]:
        del self._waiting[0]
        self._last, self._run, self._next = head, 0, head.ticks + head.duration
        self.counts.played += 1
        return [Encoded(head.ticks, head.data, head.arrival, head.duration, head.codec)]

    def _conceal(self) -> list[Encoded]:
        last, ticks = self._last, self._next
        assert last is not None and ticks is not None
        self._run, self._next = self._run + 1, ticks + last.duration
        self.counts.concealed += 1
        return [Encoded(ticks, None, self._release(ticks), last.duration, last.codec)]

    def _skip_to(self, head: Packet) -> None:
        self._next, self._run = head.ticks, 0
        self.counts.skipped += 1


def _follows(head: Packet, last: Packet) -> bool:
    return head.segment == last.segment and head.sequence == last.sequence + 1
