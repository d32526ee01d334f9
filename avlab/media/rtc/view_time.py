"""The timeline of a live stream: times that only increase, whatever the items' own times do."""

from __future__ import annotations

import threading

from avlab.core.clock import Clock
from avlab.core.item import Item

TICKS = 720_000
"""Per second of the timeline: whole ones in a tick of pictures (1/90000 s) and of sound (1/48000 s)."""
PICTURE_TICKS, SOUND_TICKS = TICKS // 90_000, TICKS // 48_000
_MOMENT = TICKS // 1000
_JUMP = 5 * TICKS  # that times may jump ahead before the timeline counts as a new one
_BACK = TICKS  # that times may lie back before the same


class StreamTime:
    """Times that only increase, whatever the items' own times do: runs that begin again, jumps, items without time."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._began = clock, clock()
        self._lock = threading.Lock()
        self._offset: int | None = None
        self._last: dict[str, int] = {}

    def restart(self) -> None:
        with self._lock:
            self._offset = None

    def place(self, kind: str, item: Item) -> int | None:
        """The item's time in ticks, or None for one that comes too late."""
        now, own = self._now(), _ticks(item)
        with self._lock:
            last = self._last.get(kind, -TICKS)
            newest = max(self._last.values(), default=0)
            if own is None:
                time = max(now, last + _MOMENT)
            else:
                time = own + (self._offset or 0)
                if self._offset is None or time < last - _BACK or time > max(newest, now) + _JUMP:
                    self._offset = max(now, newest) + _MOMENT - own
                    time = own + self._offset
            if time <= last or time < 0:
                return None
            self._last[kind] = time
            return time

    def look_up(self, item: Item) -> int | None:
        """Where a time lies, without placing anything."""
        with self._lock:
            own = _ticks(item)
            return None if own is None or self._offset is None else own + self._offset

    def again(self) -> int | None:
        """A time for showing the newest picture once more."""
        with self._lock:
            if "video" not in self._last:
                self._last["video"] = self._now()
            self._last["video"] += PICTURE_TICKS
            return self._last["video"]

    def _now(self) -> int:
        return (self._clock() - self._began) * TICKS // 1_000_000_000


def _ticks(item: Item) -> int | None:
    # With whole numbers: a fraction for each step would be a third of the work that a picture makes here.
    return None if item.pts is None else item.pts * item.time_base.numerator * TICKS // item.time_base.denominator
