"""When a path counts as silent and as lost, and how often a new one is tried. No clock and no network of its own."""

from __future__ import annotations

STALLED, LOST = 2.0, 5.0
"""Seconds without any packet after which the other side counts as silent, and after which a new connection is made."""
FIRST, LONGEST, PATIENCE = 0.5, 8.0, 60.0
BEAT = 0.5
"""Seconds between two signs of life, so that a path without media is heard too."""


class Silence:
    """How long nothing has come, from the count of packets as it was seen; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._packets, self._since = -1, now

    def seen(self, now: float, packets: int) -> float:
        """Seconds since the count has last grown."""
        if packets != self._packets:
            self._packets, self._since = packets, now
        return now - self._since


class Backoff:
    """Pauses between attempts: 0.5 s, then twice as long each time up to 8 s; over after a minute."""

    def __init__(self, now: float) -> None:
        self._began, self._next = now, FIRST

    def pause(self, now: float) -> float | None:
        """Seconds to wait before the next attempt, or None when it is time to give up."""
        if now - self._began >= PATIENCE:
            return None
        pause, self._next = self._next, min(self._next * 2, LONGEST)
        return pause
