"""zip_by_pts: one item of those of several tracks, or several pipelines, whose times match."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from typing import Any

from avlab.core.errors import ConfigError, TimingError
from avlab.core.item import Item, as_item
from avlab.core.node import Node, join

HELD = 1024
"""Items of a part that wait at most, whatever their times."""


class Zip(Node):
    """Makes one item of those of several kinds whose times match; see `zip_by_pts`. ``unmatched`` counts items of the first
    kind that were dropped because another kind had none for them."""

    def __init__(
        self, *parts: str | type, kinds: Sequence[str | type] = (), tolerance: float = 0.01, wait: float = 0.5
    ) -> None:
        self.kinds = [*parts, *kinds]
        self.tolerance, self.wait = tolerance, wait
        _check(self.kinds, tolerance, wait)
        self.open()

    def open(self) -> None:
        """Begin with nothing held."""
        self._matcher = _Matcher(len(self.kinds), self.tolerance, self.wait)

    @property
    def unmatched(self) -> int:
        """Items of the first kind without a partner."""
        return self._matcher.unmatched

    def process(self, item: Item) -> Iterator[Item]:
        """The matches that are sure now; items of no kind pass."""
        index = next((index for index, kind in enumerate(self.kinds) if _is(item, kind)), None)
        if index is None:
            yield item
        else:
            yield from self._matcher.add(index, item)

    def flush(self) -> Iterator[Item]:
        """The matches among what is held."""
        return self._matcher.end(*range(len(self.kinds)))


class Zipped(Node):
    """A source made of several pipelines or iterables of items; see `zip_by_pts`."""

    produces = (tuple,)

    def __init__(self, parts: Sequence[Any], tolerance: float = 0.01, wait: float = 0.5) -> None:
        _check(parts, tolerance, wait)
        self.parts, self.tolerance, self.wait = parts, tolerance, wait
        self.open()

    def open(self) -> None:
        """Begin anew."""
        self._matcher = _Matcher(len(self.parts), self.tolerance, self.wait)
        self._stopped = False

    def cancel(self) -> None:
        """End with the next item of any part."""
        self._stopped = True

    @property
    def unmatched(self) -> int:
        """Items of the first part without a partner."""
        return self._matcher.unmatched

    def items(self) -> Iterator[Item]:
        """The matches, in order of time; the parts are read in step until one has nothing more, and then closed."""
        matcher = self._matcher
        with ExitStack() as stack:
            sources = []
            for part in self.parts:
                source = part.iterate() if hasattr(part, "iterate") else iter(part)
                sources.append(stack.enter_context(closing(source)) if hasattr(source, "close") else source)
            while not self._stopped and (index := matcher.behind()) is not None:
                try:
                    value = next(sources[index])
                except StopIteration:
                    yield from matcher.end(index)
                else:
                    yield from matcher.add(index, as_item(value))


def zip_by_pts(*parts: Any, tolerance: float = 0.01, wait: float = 0.5) -> Any:
    """One item of those whose times match: its value is a tuple with a value of each part, its time that of the first.

    parts: names of tracks or types of values, to use it as a node (``… >> tee(Detect(), []) >> zip_by_pts(av.VideoFrame,
    dict)``); or sources, pipelines or iterables of items, to use it as a source (``zip_by_pts(left, right) >> Stereo()``). Each item of
    the first part meets the nearest of every other within ``tolerance`` seconds; one without a partner is dropped and counted
    (``unmatched``). wait: seconds of media time that an item waits for a part that is behind.

    Raises ConfigError for fewer than two parts, parts of both sorts or of none, or the same kind twice; TimingError, when it runs, for
    an item without a time.
    """
    selectors = [isinstance(part, str | type) for part in parts]
    if all(selectors):
        return Zip(*parts, tolerance=tolerance, wait=wait)
    if any(selectors):
        raise ConfigError("zip_by_pts takes names of tracks and types, or pipelines and iterables, not both")
    _check(parts, tolerance, wait)
    return Zipped([_iterable(part) for part in parts], tolerance, wait)


def _iterable(part: Any) -> Any:
    if isinstance(part, Iterable) or hasattr(part, "iterate"):
        return part
    if callable(getattr(part, "items", None)):  # a source alone
        return join.pipeline([part])
    raise ConfigError(f"zip_by_pts: {part!r} is no source, pipeline or iterable of items")


class _Matcher:
    """Finds for each item of part 0 the nearest of all other parts."""

    def __init__(self, count: int, tolerance: float, wait: float) -> None:
        self._tolerance, self._wait = Fraction(tolerance), Fraction(wait)
        self._held: list[deque[Item]] = [deque(maxlen=HELD) for _ in range(count)]
        self._reached: list[Fraction | float] = [-math.inf] * count
        self.unmatched = 0

    def behind(self) -> int | None:
        """The part that has come least far, or None when nothing can match any more."""
        parts = range(len(self._reached))
        over = any(self._reached[index] == math.inf and not self._held[index] for index in parts)
        return None if over else min(parts, key=lambda index: self._reached[index])

    def add(self, index: int, item: Item) -> Iterator[Item]:
        """The matches that are sure now that ``item`` of part ``index`` is there."""
        if item.pts is None:
            raise TimingError(
                f"an item of track {item.track!r} has no time: zip_by_pts can match only items with a pts"
            )
        if index == 0 and len(self._held[0]) == HELD:
            self.unmatched += 1
        self._held[index].append(item)
        self._reached[index] = max(self._reached[index], _time(item))
        return self._matches()

    def end(self, *indices: int) -> Iterator[Item]:
        """The matches that are sure now that nothing more comes of these parts."""
        for index in indices:
            self._reached[index] = math.inf
        return self._matches()

    def _matches(self) -> Iterator[Item]:
        first, others = self._held[0], self._held[1:]
        while first:
            time = _time(first[0])
            partners = [self._partner(held, time) for held in others]
            if not all(self._sure(index, time, partner) for index, partner in enumerate(partners, 1)):
                return
            item = first.popleft()
            if None in partners:
                self.unmatched += 1
                continue
            values = (item.value, *(partner.value for partner in partners if partner is not None))
            yield Item(values, item.pts, item.time_base, item.track, item.seq, item.stamps)
        newest = max((reached for reached in self._reached if reached != math.inf), default=-math.inf)
        for held in others:
            while held and _time(held[0]) < newest - self._wait - self._tolerance:
                held.popleft()

    def _partner(self, held: deque[Item], time: Fraction) -> Item | None:
        while held and _time(held[0]) < time - self._tolerance:
            held.popleft()
        near = [item for item in held if _time(item) <= time + self._tolerance]
        return min(near, key=lambda item: abs(_time(item) - time), default=None)

    def _sure(self, index: int, time: Fraction, partner: Item | None) -> bool:
        """Whether no nearer item of the part can come, or none is waited for any more."""
        if partner is not None and self._reached[index] >= time:
            return True
        waited = max(reached for reached in (*self._reached, time) if reached != math.inf) - time >= self._wait
        return self._reached[index] > time + self._tolerance or waited


def _check(parts: Sequence[Any], tolerance: float, wait: float) -> None:
    if len(parts) < 2 or len({id(p) if not isinstance(p, str) else p for p in parts}) < len(parts):
        raise ConfigError(f"zip_by_pts needs at least two different parts, not {list(parts)!r}")
    if not (0 <= tolerance < math.inf and 0 < wait < math.inf):
        raise ConfigError(f"zip_by_pts: tolerance={tolerance!r}, wait={wait!r}: seconds, from 0 and above 0")


def _is(item: Item, kind: str | type) -> bool:
    return item.track == kind if isinstance(kind, str) else isinstance(item.value, kind)


def _time(item: Item) -> Fraction:
    assert item.pts is not None
    return item.pts * item.time_base
