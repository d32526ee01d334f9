"""RTP time: numbers that wrap, clocks that drift, senders that begin anew; out comes one line of time per track.

Nothing here reads a clock or a socket: arrival times are arguments, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import linear_regression, median
from typing import NamedTuple

JUMP = 3.0
"""Seconds by which media time and arrival time may part before the sender is taken to have begun anew."""
DROPOUT = 3000
"""Packets that one may be behind the newest and still be late rather than of a new beginning (RFC 3550, A.1)."""
ALIGN = 0.01
"""Seconds that a track must be out of step before it is moved: senders' reports are a little noisy themselves."""
FOREIGN = 5.0
"""Seconds between the capture times of two tracks above which they are taken to come from different clocks."""


class Unwrapper:
    """Numbers of ``bits`` bits that wrap, as numbers that do not: the nearest to the highest so far (RFC 3550, A.1)."""

    def __init__(self, bits: int) -> None:
        self._size = 1 << bits
        self._highest: int | None = None

    def __call__(self, value: int) -> int:
        extended = self.peek(value)
        if self._highest is None or extended > self._highest:
            self._highest = extended
        return extended

    def peek(self, value: int) -> int:
        """The same, without taking note of the value."""
        if self._highest is None:
            return value
        ahead = (value - self._highest) % self._size
        return self._highest + (ahead if ahead < self._size // 2 else ahead - self._size)


class SenderClock:
    """When the sender captured a sample, by the pairs of NTP and RTP time in its reports (RFC 3550, 6.4.1).

    The median of the newest nine pairs is used: some senders take the wall clock when they send, not when they capture.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._offsets: deque[float] = deque(maxlen=9)

    def report(self, ntp: int, ticks: int) -> None:
        """A report: 64-bit NTP time and the extended RTP time that belongs to it. An NTP time of 0 says nothing."""
        if not ntp:
            return
        offset = ntp / (1 << 32) - ticks / self._rate
        if self._offsets and abs(offset - self.offset) > JUMP:  # type: ignore[operator]  # the sender's clock was set
            self._offsets.clear()
        self._offsets.append(offset)

    @property
    def offset(self) -> float | None:
        """Seconds from RTP time to capture time, or None before the first report."""
        return median(self._offsets) if self._offsets else None


class Drift:
    """How much faster the sender's clock runs than ours: a line through the least transit of each second.

    The packets that waited least tell the clocks apart from the network (the clock filter of NTP, RFC 5905, 10).
    """

    def __init__(self, seconds: int = 60) -> None:
        self._minima: deque[tuple[float, float]] = deque(maxlen=seconds)
        self._second = -1

    def add(self, arrival: float, transit: float) -> None:
        """A packet: when it arrived, and arrival minus media time, in seconds."""
        if int(arrival) > self._second:
            self._second = int(arrival)
            self._minima.append((arrival, transit))
        elif transit < self._minima[-1][1]:
            self._minima[-1] = arrival, transit

    @property
    def ppm(self) -> float | None:
        """Parts per million, positive when the sender is fast; None until ten whole seconds were seen."""
        if len(self._minima) < 11:
            return None
        arrivals, transits = zip(*list(self._minima)[:-1], strict=True)
        return -1e6 * linear_regression(arrivals, transits).slope

    @property
    def floor(self) -> float | None:
        """The least transit of the newest seconds, or None before the first packet."""
        return min((transit for _, transit in list(self._minima)[-5:]), default=None)


class Origin:
    """The moment that all tracks of a receiver call 0: the arrival of the first packet of any of them."""

    arrival: float | None = None


class Place(NamedTuple):
    """Where a packet belongs. ``segment`` grows when the sender begins anew; ``sequence``, ``frame`` (its RTP timestamp, by
    which packets of one picture know each other) and ``ticks`` never wrap. ``ticks`` below 0: from before the first packet."""

    segment: int
    sequence: int
    frame: int
    ticks: int


class Timeline:
    """The time of one track, in ticks of 1/``rate`` s since the origin.

    It goes on over wraps of sequence number and timestamp, and over new SSRCs, reconnects and timestamps that jump: what
    follows is placed by its arrival, after all that came before.
    """

    def __init__(self, rate: int, origin: Origin) -> None:
        self.rate = rate
        self._origin = origin
        self._segment = -1
        self._ssrc: int | None = None
        self._replaced: int | None = None
        self._offset = 0  # from extended RTP time to ticks
        self._highest = -1
        self._seen = (0.0, 0.0)  # arrival and media time of the newest packet
        self._begin(None)

    def _begin(self, ssrc: int | None) -> None:
        self._replaced, self._ssrc = self._ssrc, ssrc
        self._sequences, self._timestamps = Unwrapper(16), Unwrapper(32)
        self._newest = -1
        self._clock, self.drift = SenderClock(self.rate), Drift()
        self._segment += ssrc is not None

    def place(self, ssrc: int, sequence: int, timestamp: int, arrival: float) -> Place | None:
        """Where a packet belongs, or None for a straggler of an SSRC that was replaced less than 3 s ago."""
        if self._origin.arrival is None:
            self._origin.arrival = arrival
        arrival -= self._origin.arrival
        media = self._timestamps.peek(timestamp) / self.rate
        if ssrc != self._ssrc:
            if ssrc == self._replaced and arrival - self._seen[0] < JUMP:
                return None
            self._anew(ssrc, timestamp, arrival)
        elif abs((media - self._seen[1]) - (arrival - self._seen[0])) > JUMP and not self._sent_again(sequence):
            self._anew(ssrc, timestamp, arrival)
        extended = self._timestamps(timestamp)
        ticks = extended + self._offset
        if ticks >= self._highest:
            self._highest, self._seen = ticks, (arrival, extended / self.rate)
        self.drift.add(arrival, arrival - ticks / self.rate)
        number = self._sequences(sequence)
        self._newest = max(self._newest, number)
        return Place(self._segment, number, extended, ticks)

    def _sent_again(self, sequence: int) -> bool:
        """Whether a packet is one that was lost or overtaken: after an outage those are seconds old."""
        return -DROPOUT < self._sequences.peek(sequence) - self._newest <= 0

    def _anew(self, ssrc: int, timestamp: int, arrival: float) -> None:
        floor = self.drift.floor or 0.0
        self._begin(ssrc)
        start = max(self._highest + 1, round((arrival - floor) * self.rate))
        self._offset = start - timestamp
        self._highest, self._seen = start, (arrival, timestamp / self.rate)

    def report(self, ssrc: int, ntp: int, timestamp: int) -> None:
        """A sender report; one of an unknown or replaced SSRC is ignored."""
        if ssrc == self._ssrc:
            self._clock.report(ntp, self._timestamps.peek(timestamp))

    @property
    def capture(self) -> float | None:
        """Seconds from this track's time to the sender's capture time (NTP), or None before a report."""
        offset = self._clock.offset
        return None if offset is None else offset - self._offset / self.rate

    def move(self, seconds: float) -> None:
        """Place what comes from now on later by so much."""
        ticks = round(seconds * self.rate)
        self._offset += ticks
        self._highest += ticks
        moved, self.drift = self.drift, Drift()
        for arrival, transit in moved._minima:
            self.drift.add(arrival, transit - ticks / self.rate)


def align(leader: Timeline, others: Iterable[Timeline]) -> dict[Timeline, float]:
    """Move tracks so that what was captured at one moment has one time; which moved, and by how many seconds.

    The leader (sound, if there is any) stays: its samples must follow each other. Nothing moves before both tracks have
    been reported, within `ALIGN`, or when the reports cannot be of one clock.
    """
    moved = {}
    for other in others:
        if leader.capture is None or other.capture is None:
            continue
        behind = other.capture - leader.capture
        if ALIGN < abs(behind) < FOREIGN:
            other.move(behind)
            moved[other] = behind
    return moved
