"""Figures of one session, and percentiles of what passed lately."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from avlab.core.clock import Clock
from avlab.core.message import ItemMessage

RECENT = 2048
"""Trips that percentiles are made of: the most recent ones."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Milliseconds that items spent at one hop: median and 95th percentile of recent trips."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """Inputs and outputs of ``process`` and calls, payload bytes each way, the tier, and p50/p95 per hop.

    Hops: ``transfer`` (both ways and in queues between), ``queue`` (waiting in the worker), ``process`` (user code).
    """

    tier: str = ""
    inputs: int = 0
    outputs: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    dropped: int = 0
    hops: dict[str, Hop] = field(default_factory=dict)


class Meter:
    """Counts what passes a session."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_at: dict[int, int] = {}
        self._trips: deque[tuple[int, int, int]] = deque(maxlen=RECENT)
        self.inputs = self.outputs = self.bytes_sent = self.bytes_received = 0

    def sent(self, message: ItemMessage) -> None:
        """An input leaves."""
        self._sent_at[message.input] = self._clock()
        self.inputs += 1
        self.bytes_sent += message.nbytes

    def withdrawn(self, message: ItemMessage) -> None:
        """It could not leave after all."""
        self._sent_at.pop(message.input, None)
        self.inputs -= 1
        self.bytes_sent -= message.nbytes

    def received(self, message: ItemMessage) -> None:
        """An output arrives."""
        if message.codec:
            self.outputs += 1
            self.bytes_received += message.nbytes
        if message.last:
            sent = self._sent_at.pop(message.input, 0)
            if len(message.stamps) == 3:
                received, started, finished = message.stamps
                here, there = self._clock() - sent, finished - received
                self._trips.append((here - there, started - received, finished - started))

    def hops(self) -> dict[str, Hop]:
        """p50/p95 per hop of the recent trips, in ms; empty before the first."""
        trips = list(self._trips)
        columns = zip(("transfer", "queue", "process"), zip(*trips, strict=True), strict=True) if trips else ()
        return {name: Hop(percentile(values, 0.5) / 1e6, percentile(values, 0.95) / 1e6) for name, values in columns}


def percentile(values: tuple[int, ...] | list[int], fraction: float) -> float:
    """The value that ``fraction`` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]
