"""Figures of one session, percentiles of what passed lately, and the other side's clock."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from avlab.core.clock import Clock
from avlab.core.message import ItemMessage

RECENT = 2048
"""Trips that percentiles are made of: the most recent ones."""
_CLOCK_TRIPS = 16


@dataclass(frozen=True, slots=True)
class Hop:
    """Milliseconds that items spent at one hop: median and 95th percentile of recent trips."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """Inputs and outputs of ``process`` and calls, payload bytes each way, the tier, and p50/p95 per hop.

    Hops: ``transfer`` (both ways and in queues between), ``queue`` (waiting in the worker), ``process`` (user code).
    dropped: items of live streams that were not sent. restarts: workers that have followed one that died. busy: seconds that user code has worked. offset: nanoseconds that the worker's clock is ahead of the one here, estimated.
    """

    tier: str = ""
    inputs: int = 0
    outputs: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    dropped: int = 0
    restarts: int = 0
    busy: float = 0.0
    offset: int = 0
    hops: dict[str, Hop] = field(default_factory=dict)


class Meter:
    """Counts what passes a session.

    Nothing arrives before it has left: each way bounds how far the worker's clock is ahead, and the estimate lies in the middle of
    the narrowest bounds of recent trips (K. Marzullo, 1984), so it errs by half the shortest transfer at most. A busy worker does not
    read, and cannot say when an input came: such an input is taken to have been on its way for that half.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_at: dict[int, int] = {}
        self._trips: deque[tuple[int, int, int]] = deque(maxlen=RECENT)
        self._there: deque[int] = deque(maxlen=_CLOCK_TRIPS)  # nanoseconds on the way, by two clocks
        self._back: deque[int] = deque(maxlen=_CLOCK_TRIPS)
        self.dropped = 0
        self.inputs = self.outputs = self.bytes_sent = self.bytes_received = self.busy = self.offset = 0

    def sent(self, message: ItemMessage) -> None:
        """An input leaves."""
        self._sent_at[message.input] = self._clock()
        self.inputs += 1
        self.bytes_sent += message.nbytes

    def drop(self, count: int) -> None:
        """So many items of a live stream were not sent."""
        self.dropped += count

    def withdrawn(self, message: ItemMessage) -> None:
        """It could not leave after all."""
        self._sent_at.pop(message.input, None)
        self.inputs -= 1
        self.bytes_sent -= message.nbytes

    def received(self, message: ItemMessage) -> None:
        """An output arrives. Its stamps become times of the clock here: sent, received, started, finished, arrived."""
        if message.codec:
            self.outputs += 1
            self.bytes_received += message.nbytes
        sent = self._sent_at.get(message.input, 0)
        if message.last:
            self._sent_at.pop(message.input, None)
        if len(message.stamps) not in (2, 3):
            message.stamps = ()  # nobody knows of which hops
            return
        arrived = self._clock()
        *known, started, finished = message.stamps
        self._back.append(arrived - finished)
        if known:
            self._there.append(known[0] - sent)
        there, back = min(self._there, default=started - sent), min(self._back)
        self.offset = (there - back) // 2
        received = known[0] if known else min(sent + there, started)
        if message.last:
            self._trips.append((arrived - sent - finished + received, started - received, finished - started))
            self.busy += max(0, finished - started)
        message.stamps = (sent, *(stamp - self.offset for stamp in (received, started, finished)), arrived)

    def hops(self) -> dict[str, Hop]:
        """p50/p95 per hop of the recent trips, in ms; empty before the first."""
        trips = list(self._trips)
        columns = zip(("transfer", "queue", "process"), zip(*trips, strict=True), strict=True) if trips else ()
        return {name: Hop(percentile(values, 0.5) / 1e6, percentile(values, 0.95) / 1e6) for name, values in columns}


def percentile(values: tuple[int, ...] | list[int], fraction: float) -> float:
    """The value that ``fraction`` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]
