"""Nodes on pictures: Resize, VideoConvert, VideoFilter."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, ClassVar

import av

from avlab.core.errors import ConfigError
from avlab.core.node import Node
from avlab.media.chain import Step, option_text
from avlab.media.convert import picture_steps
from avlab.media.graph import FilterGraph
from avlab.nodes.chain import FilterNode

_MODES = ("stretch", "contain", "cover")
_QUALITIES = ("neighbor", "fast_bilinear", "bilinear", "bicubic", "lanczos", "area")


class Resize(Node):
    """Scales pictures; pts, time base and pixel format stay.

    width, height: in pixels; with one of them the other follows the shape of the picture, rounded to an even number. With
    both, mode says what happens to another shape: "stretch" it, "contain" all of it with bars of ``color``, or "cover" the
    whole size and cut off what sticks out. quality: "bilinear", or "neighbor", "fast_bilinear", "bicubic", "lanczos", "area".
    color: of the bars, a name or #RRGGBB. Raises ConfigError for sizes, modes and qualities that do not exist.
    """

    stateless: ClassVar[bool] = True

    width: int | None = None
    height: int | None = None
    mode: str = "stretch"
    quality: str = "bilinear"
    color: str = "black"

    _graph: FilterGraph | None = None
    _form: tuple[Any, ...] = ()

    def open(self) -> None:
        """Check the parameters."""
        if self.width is None and self.height is None:
            raise ConfigError("Resize needs width, height or both")
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and (type(side) is not int or not 1 <= side <= 16384):
                raise ConfigError(f"{name} of Resize is {side!r}, not a number of pixels from 1 to 16384")
        if self.mode not in _MODES:
            raise ConfigError(f"mode of Resize is {self.mode!r}; it is one of {', '.join(_MODES)}")
        if self.quality not in _QUALITIES:
            raise ConfigError(f"quality of Resize is {self.quality!r}; it is one of {', '.join(_QUALITIES)}")

    def process(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture in its new size."""
        parameters = self.width, self.height, self.mode, self.quality, self.color
        form = frame.width, frame.height, frame.format.name, parameters
        if self._graph is None or form != self._form:
            self.open()
            self._graph, self._form = FilterGraph(self._chain(frame)), form
        return next(self._graph.push(frame))

    def close(self) -> None:
        """Free the scaler."""
        self._graph = None

    def _chain(self, frame: Any) -> list[Step]:
        width = self.width or _even(frame.width * (self.height or 1) / frame.height)
        height = self.height or _even(frame.height * (self.width or 1) / frame.width)
        if (width, height) == (frame.width, frame.height):
            return [("null", "")]
        inner_width, inner_height = width, height
        if self.mode != "stretch":
            scales = width / frame.width, height / frame.height
            scale = min(scales) if self.mode == "contain" else max(scales)
            bound = min if self.mode == "contain" else max
            inner_width, inner_height = (
                bound(width, _even(frame.width * scale)),
                bound(height, _even(frame.height * scale)),
            )
        chain = [("scale", option_text({"w": inner_width, "h": inner_height, "flags": self.quality}))]
        left, top = abs(width - inner_width) // 4 * 2, abs(height - inner_height) // 4 * 2
        if (inner_width, inner_height) != (width, height):
            name, extra = ("pad", {"color": self.color}) if self.mode == "contain" else ("crop", {"exact": 1})
            chain.append((name, option_text({"w": width, "h": height, "x": left, "y": top, **extra})))
        return [*chain, ("format", "pix_fmts=" + frame.format.name)]


class VideoConvert(Node):
    """Converts pictures to a pixel format ("rgb24", "yuv420p", "gray" …); size, pts and time base stay.

    Colors marked in the picture are heeded; RGB becomes BT.709 from 720 rows on, BT.601 below.

    Raises ConfigError for a format that does not exist, with close matches.
    """

    stateless: ClassVar[bool] = True

    format: str

    _graph: FilterGraph | None = None
    _form: tuple[Any, ...] = ()

    def open(self) -> None:
        """Check the format."""
        try:
            known = bool(av.VideoFormat(self.format).components)
        except (ValueError, TypeError):
            known = False
        if not known:
            close = difflib.get_close_matches(str(self.format), _COMMON, 3, 0.4)
            raise ConfigError(f"no pixel format is named {self.format!r}; usual ones: {', '.join(close or _COMMON)}")

    def process(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture in the other format; itself when it has that format already."""
        if frame.format.name == self.format:
            return frame
        form = frame.format.name, frame.width, frame.height, self.format
        if self._graph is None or form != self._form:
            self.open()
            self._graph = FilterGraph(picture_steps(frame, self.format, (frame.width, frame.height)))
            self._form = form
        return next(self._graph.push(frame))

    def close(self) -> None:
        """Free the converter."""
        self._graph = None


_COMMON = (
    "rgb24",
    "bgr24",
    "rgba",
    "gray",
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "nv12",
    "yuv420p10le",
    "gray16le",
    "gbrp",
)


class VideoFilter(FilterNode):
    """Any chain of FFmpeg's video filters: ``VideoFilter("hflip,hue=s=0")``.

    filter: text as for ffmpeg's -vf, or a list of names and [name, options] pairs (options as text or a dict). threads: how
    many threads a filter may use, 0 for one per core. Filters may change size, rate and time, hold frames back and make
    several of one; a new input format begins the chain anew. A new value of ``filter`` while running does so too. Raises
    ConfigError for unknown filters (with close matches) and wrong options, MediaError for frames that they cannot take.
    """

    def process(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The frames that come out once this one has gone in."""
        yield from self._through(frame, (self.filter, self.threads), self.threads)


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)
