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

    The worker's clock is estimated as by NTP (RFC 5905, section 8): the trip with the shortest transfer among the recent ones
    has the least error, half its transfer at most.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_at: dict[int, int] = {}
        self._trips: deque[tuple[int, int, int]] = deque(maxlen=RECENT)
        self._transfers: deque[tuple[int, int]] = deque(maxlen=_CLOCK_TRIPS)  # transfer, offset
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
        if len(message.stamps) != 3:
            return
        arrived = self._clock()
        received, started, finished = message.stamps
        if message.last:
            transfer = arrived - sent - finished + received
            self._trips.append((transfer, started - received, finished - started))
            self._transfers.append((transfer, (received - sent + finished - arrived) // 2))
            self.busy += finished - started
            self.offset = min(self._transfers)[1]
        message.stamps = (sent, *(stamp - self.offset for stamp in (received, started, finished)), arrived)

    def hops(self) -> dict[str, Hop]:
        """p50/p95 per hop of the recent trips, in ms; empty before the first."""
        trips = list(self._trips)
        columns = zip(("transfer", "queue", "process"), zip(*trips, strict=True), strict=True) if trips else ()
        return {name: Hop(percentile(values, 0.5) / 1e6, percentile(values, 0.95) / 1e6) for name, values in columns}


def percentile(values: tuple[int, ...] | list[int], fraction: float) -> float:
    """The value that ``fraction`` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]
