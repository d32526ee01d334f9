"""Pictures as a file wants them shown: turned, mirrored, with square pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from avlab.media.chain import Step
from avlab.media.graph import FilterGraph

# By the signs of the matrix' a, b, c, d: x' = ax + cy, y' = bx + dy.
_TURNS: dict[tuple[int, ...], list[Step]] = {
    (-1, 0, 0, 1): [("hflip", "")],
    (1, 0, 0, -1): [("vflip", "")],
    (-1, 0, 0, -1): [("hflip", ""), ("vflip", "")],
    (0, 1, -1, 0): [("transpose", "clock")],
    (0, -1, 1, 0): [("transpose", "cclock")],
    (0, 1, 1, 0): [("transpose", "cclock_flip")],
    (0, -1, -1, 0): [("transpose", "clock_flip")],
}
_FAR = 4
"""A pixel that is so many times wider than high, or higher than wide, is damage and no shape."""


class Upright:
    """``upright(picture)``: the pictures of one stream as they are to be shown, usually themselves.

    Frames cannot carry the shape of their pixels (PyAV has no name for it), so it is dealt with here, as turning is: the
    height stays, the width becomes even.
    """

    def __init__(self, stream: Any) -> None:
        shape = getattr(stream, "sample_aspect_ratio", None)
        self._shape = shape if shape and 1 / _FAR <= shape <= _FAR else 1
        self._graph: FilterGraph | None = None
        self._form: tuple[Any, ...] = ()

    def __call__(self, frame: Any) -> Iterator[Any]:
        turn = _TURNS.get(_signs(frame), ())
        if not turn and self._shape == 1:
            yield frame
            return
        form = turn, frame.width, frame.height
        if self._graph is None or form != self._form:
            steps = [*turn, ("sidedata", "mode=delete:type=DISPLAYMATRIX")]
            if self._shape != 1:
                steps.insert(0, ("scale", f"w={max(2, round(frame.width * self._shape / 2) * 2)}:h={frame.height}"))
            self._graph, self._form = FilterGraph(steps), form
        yield from self._graph.push(frame)


def _signs(frame: Any) -> tuple[int, ...]:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None or len(matrix := bytes(matrix)) != 36:
        return ()
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    return tuple((v > 0) - (v < 0) for v in (a, b, c, d))
