"""The timeline of a live stream: times that only increase, whatever the items' own times do."""

from __future__ import annotations

import threading
from fractions import Fraction

from avlab.core.clock import Clock
from avlab.core.item import Item

_JUMP = 5  # seconds that times may jump ahead before the timeline counts as a new one
_BACK = 1  # seconds that times may lie back before the same


class StreamTime:
    """Times that only increase, whatever the items' own times do: runs that begin again, jumps, items without time."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._began = clock, clock()
        self._lock = threading.Lock()
        self._offset: Fraction | None = None
        self._last: dict[str, Fraction] = {}

    def restart(self) -> None:
        with self._lock:
            self._offset = None

    def place(self, kind: str, item: Item) -> Fraction | None:
        """The item's time in seconds, or None for one that comes too late."""
        now = Fraction(self._clock() - self._began, 1_000_000_000)
        own = None if item.pts is None else item.pts * Fraction(item.time_base)
        with self._lock:
            last = self._last.get(kind, Fraction(-1))
            newest = max(self._last.values(), default=Fraction(0))
            if own is None:
                time = max(now, last + Fraction(1, 1000))
            else:
                time = own + (self._offset or 0)
                if self._offset is None or time < last - _BACK or time > max(newest, now) + _JUMP:
                    self._offset = max(now, newest) + Fraction(1, 1000) - own
                    time = own + self._offset
            if time <= last or time < 0:
                return None
            self._last[kind] = time
            return time

    def look_up(self, item: Item) -> Fraction | None:
        """Where a time lies, without placing anything."""
        with self._lock:
            if item.pts is None or self._offset is None:
                return None
            return item.pts * Fraction(item.time_base) + self._offset

    def again(self) -> Fraction | None:
        """A time for showing the newest picture once more."""
        with self._lock:
            if "video" not in self._last:
                self._last["video"] = Fraction(self._clock() - self._began, 1_000_000_000)
            self._last["video"] += Fraction(1, 90_000)
            return self._last["video"]
