"""Giving a frame another time without touching it: others may hold the same frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

from avlab.media.graph import FilterGraph


class Stamper:
    """``stamper(frame, pts, base)``: the frame itself if it has this time, else one with it over the same memory."""

    def __init__(self) -> None:
        self._pass: FilterGraph | None = None

    def __call__(self, frame: Any, pts: int | None, base: Fraction) -> Any:
        if frame.pts == pts and frame.time_base == base:
            return frame
        if self._pass is None:
            self._pass = FilterGraph([("null" if isinstance(frame, av.VideoFrame) else "anull", "")])
        (own,) = self._pass.push(frame)
        own.pts, own.time_base, own.duration = pts, base, 0
        return own


def continued(
    time: Fraction, end: Fraction | None, tick: Fraction, rate: int, early: Fraction = Fraction(0), late: Fraction = Fraction(0)
) -> Fraction:
    """When sound begins whose written time is ``time``: at ``end`` of the sound before it, if that is what was meant.

    That is so if a tick and a sample cannot tell the two apart, or if time is at most ``early`` or ``late`` seconds off.
    """
    slack = tick + Fraction(1, rate)
    near = end is not None and -max(late, slack) <= end - time <= max(early, slack)
    return end if end is not None and near else time
