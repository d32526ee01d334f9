"""Sync: tracks in step, by their times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, get_args

from avlab.core.errors import ConfigError
from avlab.core.item import Item
from avlab.core.node import Node

Mode = Literal["low-latency", "lips"]
HELD = 1024
"""Items of a track that wait at most, whatever their times."""


class Sync(Node):
    """Keeps tracks in step by pts: ``Sync("video", "audio", mode="lips")``; items of other tracks pass at once.

    mode: ``"low-latency"`` passes every item at once and only measures; ``"lips"`` holds back the track that is earlier, and
    what comes out is in order of time. wait: an item is held until another track is ahead of it by so many seconds of media
    time, not longer: a track that stands still stops nothing.

    ``skew``: seconds by which the first track is ahead of the second, None before both were seen; ``late``: items that came
    when later ones of other tracks had left. Raises ConfigError for fewer than two tracks and an unknown mode.
    """

    def __init__(self, *names: str, tracks: Sequence[str] = (), mode: Mode = "low-latency", wait: float = 0.5) -> None:
        self.tracks = [*names, *tracks] or ["video", "audio"]
        self.mode, self.wait = mode, wait
        if len(set(self.tracks)) < 2 or not all(isinstance(track, str) for track in self.tracks):
            raise ConfigError(f"Sync needs the names of at least two tracks, not {self.tracks!r}")
        if wait <= 0:
            raise ConfigError(f"wait of Sync is {wait!r}: it is a number of seconds above 0")
        self._check()
        self.open()

    def _check(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode of Sync is {self.mode!r}: it can be {' or '.join(map(repr, get_args(Mode)))}")

    def open(self) -> None:
        """Begin with nothing held."""
        self.late = 0
        self._held: dict[str, deque[Item]] = {track: deque() for track in self.tracks}
        self._reached: dict[str, Fraction] = {}
        self._left: Fraction | None = None

    @property
    def skew(self) -> float | None:
        """Seconds by which the first track is ahead of the second."""
        first, second = (self._reached.get(track) for track in self.tracks[:2])
        return None if first is None or second is None else float(first - second)

    def process(self, item: Item) -> Iterator[Item]:
        """The items that need not wait any longer, in order of time."""
        held = self._held.get(item.track)
        if held is None or item.pts is None:
            yield item
            return
        self._check()
        self._reached[item.track] = _time(item)
        held.append(item)
        while (track := self._next()) is not None:
            yield self._release(track)

    def flush(self) -> Iterator[Item]:
        """What is held, in order of time."""
        while (track := self._earliest()) is not None:
            yield self._release(track)

    def _next(self) -> str | None:
        """The track whose first item need not wait, if there is one."""
        track = self._earliest()
        if track is None or self.mode == "low-latency":
            return track
        time = _time(self._held[track][0])
        others = [self._reached.get(other) for other in self.tracks if other != track]
        there = all(reached is not None and reached >= time for reached in others)
        waited = max(self._reached.values()) - time >= self.wait
        return track if there or waited or len(self._held[track]) > HELD else None

    def _earliest(self) -> str | None:
        waiting = [track for track in self.tracks if self._held[track]]
        return min(waiting, key=lambda track: _time(self._held[track][0]), default=None)

    def _release(self, track: str) -> Item:
        item = self._held[track].popleft()
        if self._left is not None and _time(item) < self._left:
            self.late += 1
        else:
            self._left = _time(item)
        return item


def _time(item: Item) -> Fraction:
    assert item.pts is not None
    return item.pts * item.time_base
