"""How long to hold back what arrives: enough for nearly all packets, and for sound and picture to stay in step."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

EARLY, LATE = 0.045, 0.125
"""Seconds by which sound may be ahead of or behind the picture before people notice (ITU-R BT.1359-1, figure 2)."""
AHEAD, BEHIND = 0.01, 0.02
"""Seconds by which it is let be: capture, coding and decoding on both sides have their part of what nobody notices."""


class Delay:
    """The delay at which ``quantile`` of the newest ``window`` packets are there in time, in seconds.

    As NetEQ's delay manager does, it takes a quantile of how late packets come; ``margin`` is added, and in the beginning,
    while little is known, ``start`` as well. It rises at once and falls by at most 2 % of the time that passes.
    """

    def __init__(
        self, quantile: float = 0.98, window: int = 400, margin: float = 0.01, start: float = 0.04, most: float = 1.0
    ) -> None:
        self._quantile, self._margin, self._start, self._most = quantile, margin, start, most
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []
        self._window = window
        self._value: float | None = None
        self._at = 0.0
        self._jitter = 0.0
        self._last: float | None = None

    def add(self, transit: float, arrival: float, again: bool = False) -> None:
        """A packet (or a picture made whole): arrival minus media time, and arrival, in seconds. ``again``: sent again after a
        loss; its lateness is to be waited for, but is no jitter."""
        if not again:
            if self._last is not None:
                # RFC 3550, 6.4.1
                self._jitter += (abs(transit - self._last) - self._jitter) / 16
            self._last = transit
        self._newest.append(transit)
        insort(self._sorted, transit)
        if len(self._newest) > self._window:
            del self._sorted[bisect_left(self._sorted, self._newest.popleft())]
        self._follow(arrival)

    def _follow(self, now: float) -> None:
        count = len(self._sorted)
        wanted = self._sorted[min(count - 1, int(count * self._quantile))] + self._margin
        wanted += self._start * max(0.0, 1 - count / 50)
        wanted = min(wanted, self._sorted[0] + self._most)
        if self._value is not None and wanted < self._value:
            wanted = max(wanted, self._value - 0.02 * max(0.0, now - self._at))
        self._value, self._at = wanted, now

    def move(self, seconds: float) -> None:
        """The track's time was moved later by so much."""
        self._newest = deque(transit - seconds for transit in self._newest)
        self._sorted = [transit - seconds for transit in self._sorted]
        if self._last is not None:
            self._last -= seconds
        if self._value is not None:
            self._value -= seconds

    @property
    def value(self) -> float | None:
        """Seconds from an item's time to its release, or None before the first packet."""
        return self._value

    @property
    def fastest(self) -> float:
        """Arrival minus media time of the fastest packets, in seconds; 0 before the first."""
        return self._sorted[0] if self._sorted else 0.0

    @property
    def added(self) -> float:
        """Seconds that the fastest packets are held back."""
        return 0.0 if self._value is None else self._value - self.fastest

    @property
    def jitter(self) -> float:
        """Interarrival jitter in seconds (RFC 3550, 6.4.1)."""
        return self._jitter


def in_step(sound: float, picture: float) -> tuple[float, float]:
    """Delays of sound and picture so that neither is noticed to be early: the earlier one is held back."""
    return max(sound, picture - AHEAD), max(picture, sound - BEHIND)
