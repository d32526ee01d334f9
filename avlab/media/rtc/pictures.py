"""Pictures from packets: whole ones, in order, and after a loss none until one that needs no other (a key picture).

Sans-IO: times are arguments, in seconds since the origin of the receiver's `Timeline`s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from avlab.media.rtc.delay import Delay
from avlab.media.rtc.jitter import Arrivals, Counts, Encoded, Packet

CAPACITY = 2048
"""Packets that wait at most."""
ASK_AGAIN = 0.3
"""Seconds between requests for a key picture."""
RETRIES = 10
HOLE = 0.5
"""Seconds of missing pictures that are worth asking for; after more, only what is new is."""


@dataclass(slots=True)
class _Missing:
    since: float
    asked: int = 0
    again: float = 0.0


class VideoBuffer:
    """Puts pictures together. Each needs the one before it, so after a loss that is not repaired in time they are dropped
    until a key picture comes, which `wants_key` says to ask for; `missing` says which packets to ask for again."""

    def __init__(self, rate: int, delay: Delay | None = None) -> None:
        self.counts = Counts()
        self.delay = delay or Delay(quantile=0.95, window=300, margin=0.0, start=0.0)
        self.hold: float | None = None
        """Seconds from an item's time to its release, or None: as soon as a picture is whole (low latency)."""
        self.waiting_for_key = True
        self._rate = rate
        self._arrivals = Arrivals(self.counts)
        self._packets: dict[int, Packet] = {}
        self._missing: dict[int, _Missing] = {}
        self._segment = -1
        self._next: int | None = None
        self._highest: int | None = None
        self._oldest = 0  # sequence number before which nothing is of use any more
        self._newest_ticks = 0
        self._last_ticks = -1
        self._asked: float | None = None
        self._repairs = deque([0.05], maxlen=15)  # seconds that packets which were asked for took to come
        self._whole: tuple[int, int] | None = None  # sequence numbers of the next picture, once it is whole

    def add(self, packet: Packet) -> None:
        """A packet has arrived."""
        if not self._arrivals.add(packet):
            return
        if packet.segment != self._segment:
            self._segment, self._highest, self._oldest = packet.segment, None, packet.sequence - CAPACITY
            self._packets.clear()
            self._missing.clear()
            self.lose(count=False)
            if packet.key:  # the rest of it is on its way
                self._asked = packet.arrival
        self._note_missing(packet)
        if packet.sequence < (self._oldest if self._next is None else self._next):
            self.counts.late += 1
            return
        self._packets[packet.sequence] = packet
        if len(self._packets) > CAPACITY:
            self._packets.clear()
            self.lose()

    def pop(self, now: float) -> list[Encoded]:
        """The pictures whose time has come by ``now``, in order."""
        self._give_up(now)
        out: list[Encoded] = []
        while (whole := self._next_whole()) is not None and self._release(whole) <= now:
            out.append(self._take(*whole))
        return out

    @property
    def waiting(self) -> bool:
        """Whether there is a whole picture to be given yet."""
        return self._next_whole() is not None

    def _release(self, whole: tuple[int, int]) -> float:
        if self.hold is None:
            return self._packets[whole[1]].arrival
        return self._packets[whole[0]].ticks / self._rate + self.hold

    def due(self) -> float | None:
        """When `pop` will have something to do, or None until a packet arrives."""
        whole = self._next_whole()
        times = [entry.since + self._patience for entry in self._gaps()] if whole is None else []
        times += [entry.again for entry in self._missing.values() if entry.asked < RETRIES]
        if whole is not None:
            times.append(self._release(whole))
        if self.waiting_for_key and self._asked is not None:
            times.append(self._asked + ASK_AGAIN)
        return min(times, default=None)

    def missing(self, now: float) -> list[int]:
        """Sequence numbers (not wrapped) to ask for again now; each is asked for a bounded number of times."""
        wanted = []
        for sequence, entry in self._missing.items():
            if entry.again <= now and entry.asked < RETRIES:
                entry.asked += 1
                entry.again = now + max(0.02, 1.5 * self._repair)
                wanted.append(sequence)
        self.counts.requests += len(wanted)
        return wanted

    def wants_key(self, now: float) -> bool:
        """Whether to ask for a key picture now; True again after a while if none comes."""
        if not self.waiting_for_key or self._segment < 0 or (self._asked is not None and now < self._asked + ASK_AGAIN):
            return False
        self._asked = now
        return True

    def lose(self, count: bool = True) -> None:
        """The next picture cannot be decoded: drop pictures until a key picture."""
        if count and not self.waiting_for_key:
            self.counts.skipped += 1
        self.waiting_for_key, self._next, self._asked, self._whole = True, None, None, None

    @property
    def _repair(self) -> float:
        # The median: a request or its answer may have been lost as well, or the packet only overtaken.
        return median(self._repairs)

    @property
    def _patience(self) -> float:
        # The third try is sent after three of them, and takes one to come.
        return max(0.15, min(0.6, 4.5 * self._repair), 1.5 * self._repair)

    def _gaps(self) -> Iterator[_Missing]:
        """What is missing and still needed."""
        if self._next is not None:
            yield from (entry for sequence, entry in self._missing.items() if sequence >= self._next)

    def _note_missing(self, packet: Packet) -> None:
        found = self._missing.pop(packet.sequence, None)
        if found is not None:
            self._repairs.append(packet.arrival - found.since)
        highest, hole = self._highest, (packet.ticks - self._newest_ticks) / self._rate
        self._newest_ticks = max(self._newest_ticks, packet.ticks)
        self._highest = packet.sequence if highest is None else max(highest, packet.sequence)
        if highest is None or packet.sequence <= highest + 1:
            return
        if packet.sequence - highest + len(self._missing) > CAPACITY // 4 or hole > HOLE:
            self._packets.clear()
            self._missing.clear()
            self.lose()
            self._oldest = packet.sequence
            return
        for sequence in range(highest + 1, packet.sequence):
            # The first request goes out with the packet that shows the gap; ours are the later ones.
            self._missing[sequence] = _Missing(packet.arrival, 1, packet.arrival + max(0.02, 1.5 * self._repair))

    def _give_up(self, now: float) -> None:
        if any(entry.since + self._patience <= now for entry in self._gaps()) and self._next_whole() is None:
            self.lose()
        horizon = now - 2.0
        for sequence in [s for s, entry in self._missing.items() if entry.since < horizon]:
            del self._missing[sequence]

    def _next_whole(self) -> tuple[int, int] | None:
        if self._whole is not None:
            return self._whole
        # After a loss the first whole key picture is next; else what follows the last one, and nothing before it is there.
        keys = sorted(sequence for sequence, packet in self._packets.items() if packet.key)
        seen = -1
        for sequence in keys if self._next is None else [self._next]:
            if sequence < seen:
                continue  # what the one before it lacks, it lacks too
            whole, seen = self._end(sequence)
            if whole:
                self._whole = sequence, seen
                return self._whole
        return None

    def _end(self, first: int) -> tuple[bool, int]:
        """Whether all of the picture that begins at ``first`` is there, and its last packet, or else the first one that is missing."""
        packets, frame, sequence = self._packets, None, first
        while (packet := packets.get(sequence)) is not None:
            if packet.data:  # others only fill the line
                if frame is None:
                    frame = packet.frame
                elif packet.frame != frame:
                    return True, sequence - 1
            if packet.marker and frame is not None:
                return True, sequence
            sequence += 1
        return False, sequence

    def _take(self, first: int, last: int) -> Encoded:
        parts = [self._packets[sequence] for sequence in range(first, last + 1)]
        for sequence in [s for s in self._packets if s <= last]:
            del self._packets[sequence]
        for sequence in [s for s in self._missing if s <= last]:
            del self._missing[sequence]
        self._next, self._whole, self.waiting_for_key, self._asked = last + 1, None, False, None
        filled = [part for part in parts if part.data]
        arrival = max(part.arrival for part in parts)
        # A picture that is moved to an earlier time still comes after the one before it.
        self._last_ticks = max(filled[0].ticks, self._last_ticks + 1)
        self.delay.add(arrival - filled[0].ticks / self._rate, arrival)
        self.counts.played += 1
        return Encoded(self._last_ticks, b"".join(part.data for part in parts), arrival, codec=filled[0].codec)
