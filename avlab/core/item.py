"""Item: one value with its time, the same object in a channel, on a link and in a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Rational
from typing import Any, NamedTuple

MILLISECONDS = Fraction(1, 1000)


class Stamp(NamedTuple):
    """When an item passed a hop, in monotonic nanoseconds of the machine that measured it."""

    hop: str
    ns: int


@dataclass(slots=True)
class Item:
    """One value on its way through a pipeline.

    value: whatever the user's nodes speak (av frames, arrays, bytes, plain data).
    pts: presentation time in ticks of ``time_base`` (seconds per tick), or None for "no time"; 0 is a time.
    track: name of the stream that it belongs to; order is kept per track.
    seq: number within its track, from 0, given by the source and inherited by results.
    stamps: one per hop passed, in order: when the source gave it, and when each node did; five of a remote one.
    """

    value: Any
    pts: int | None = None
    time_base: Fraction = MILLISECONDS
    track: str = ""
    seq: int = 0
    stamps: tuple[Stamp, ...] = field(default=(), repr=False)

    @property
    def time(self) -> float | None:
        """Presentation time in seconds, or None."""
        return None if self.pts is None else self.pts * self.time_base.numerator / self.time_base.denominator


def as_item(value: Any) -> Item:
    """The value as an Item: an Item stays itself, a value with its own pts and time_base lends them."""
    if type(value) is Item:
        return value
    pts, time_base = getattr(value, "pts", None), getattr(value, "time_base", None)
    if isinstance(pts, int) and time_base:
        return Item(value, pts, _fraction(time_base))
    return Item(value)


def _fraction(time_base: Any) -> Fraction:
    """A Fraction of whatever rational type a media library has."""
    return time_base if type(time_base) is Fraction else Fraction(time_base.numerator, time_base.denominator)


def inherit(result: Any, parent: Item, stamp: Stamp | None = None) -> Item | None:
    """The timing rule: what a node's result becomes, given the item that it was made from.

    None drops. An Item passes (an unnamed track takes the parent's). A value with its own pts keeps it. Anything else
    takes the parent's pts and time base; a media frame without a pts is stamped with them, so that later readers of
    ``frame.pts`` see the time. ``stamp``: the node's own, for an item that has its source's.
    """
    if result is None:
        return None
    stamps = parent.stamps
    if type(result) is Item:
        track, stamps = result.track or parent.track, result.stamps or stamps
        if stamp is not None and stamps:
            stamps = (*stamps, stamp)
        if track == result.track and stamps == result.stamps:
            return result
        return Item(result.value, result.pts, result.time_base, track, result.seq, stamps)
    if stamp is not None and stamps:
        stamps = (*stamps, stamp)
    pts, time_base = parent.pts, parent.time_base
    own = getattr(result, "pts", _ABSENT)
    if own is not _ABSENT:
        own_base = getattr(result, "time_base", _ABSENT)
        if own is None and own_base is not _ABSENT and pts is not None:
            _stamp_frame(result, pts, time_base)
        elif isinstance(own, int) and isinstance(own_base, Rational) and own_base:
            pts, time_base = own, _fraction(own_base)
    return Item(result, pts, time_base, parent.track, parent.seq, stamps)


def stamped(item: Item, stamp: Stamp) -> Item:
    """The item with one more stamp, a new one, for others may hold the same; without its source's stamp it stays as it is."""
    if not item.stamps:
        return item
    return Item(item.value, item.pts, item.time_base, item.track, item.seq, (*item.stamps, stamp))


_ABSENT = object()


def _stamp_frame(frame: Any, pts: int, time_base: Fraction) -> None:
    try:
        frame.pts, frame.time_base = pts, time_base
    except AttributeError:  # frozen or read-only: the item carries the time
        return
