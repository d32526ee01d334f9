"""Waiting for an answer that is about to come: awake at first, asleep after that."""

from __future__ import annotations

import os
import select

from avlab.core.clock import Clock, monotonic

AWAKE = 150_000
"""Nanoseconds: longer than the other side needs for a small call (`make bench`: 50 µs there and back on a quick machine, 0.14 ms on a slow
one), else every call sleeps. It is spent in vain once, then not before an answer comes quickly again."""


class Patience:
    """Polls without sleeping for a moment if the wait before it was over within such a moment, and two processors are there.

    A sleeping process starts late and with cold caches. One that was disappointed once sleeps until an answer comes quickly again.
    """

    def __init__(self, poll: select.poll, clock: Clock = monotonic) -> None:
        self._poll, self._clock = poll, clock
        self._hopeful = False
        self._useful = len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else False

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        """As ``select.poll.poll``."""
        if not self._useful or milliseconds == 0:
            return self._poll.poll(milliseconds)
        began = self._clock()
        if self._hopeful:
            until = began + AWAKE
            while self._clock() < until:
                ready = self._poll.poll(0)
                if ready:
                    return ready
        ready = self._poll.poll(milliseconds)
        self._hopeful = bool(ready) and self._clock() - began < 2 * AWAKE
        return ready
