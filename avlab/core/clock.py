"""Time, injected. A clock is a function that returns monotonic nanoseconds; tests pass a FakeClock."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]

monotonic: Clock = time.monotonic_ns


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        self.now += round(seconds * 1e9)
