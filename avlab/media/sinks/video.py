"""The video half of FileSink: pictures of one track become packets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from avlab.core.errors import ConfigError, TimingError
from avlab.media.convert import picture_steps
from avlab.media.graph import FilterGraph
from avlab.media.sinks.formats import Settings, encoder, pixel_format, video_options
from avlab.media.stamp import Stamper

_UNSPECIFIED = 2
_EVEN = ("264", "265", "hevc", "prores")
"""Encoders that refuse odd sizes of pictures with subsampled colors."""


class VideoTrack:
    """Encodes the pictures of one track; the stream is made for the first one, later ones are scaled to its size.

    The stream's time base is the first picture's, so pts are kept exactly where the container keeps time bases. Raises
    TimingError for pictures without pts (unless ``fps`` says how fast they come) and for pts that do not increase.
    """

    def __init__(self, container: Any, name: str, settings: Settings, frame: Any, base: Fraction) -> None:
        self._name, self._settings = name, settings
        codec = encoder(settings.video_codec or settings.format.video or "", "video")
        self._format = pixel_format(codec, frame.format.name, settings)
        even = any(part in codec.name for part in _EVEN) and self._format != "gray"
        extra = (frame.width % 2, frame.height % 2) if even else (0, 0)
        self._size = frame.width + extra[0], frame.height + extra[1]
        self._base = base
        try:
            self.stream = container.add_stream(codec.name, rate=_frame_rate(frame, base, settings.fps))
        except ValueError as error:
            raise ConfigError(f"{settings.path!r} cannot hold {codec.name}: {error}") from error
        context = self.stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = self._format
        context.time_base = self.stream.time_base = base
        context.thread_type = "AUTO"
        if settings.video_bitrate:
            context.bit_rate = settings.video_bitrate
        context.options = video_options(codec.name, settings)
        self._stamp = Stamper()
        self._graph: FilterGraph | None = None
        self._form: tuple[Any, ...] = ()
        self._last: tuple[int, int] | None = None
        self._opened = False

    def encode(self, frame: Any, pts: int | None, base: Fraction) -> Iterator[Any]:
        """Packets that are ready once ``frame``, shown at ``pts`` ticks of ``base``, has gone in."""
        tick = self._tick(pts, base)
        form = frame.format.name, frame.width, frame.height
        if self._graph is None or form != self._form:
            self._graph, self._form = FilterGraph(picture_steps(frame, self._format, self._size)), form
        for own in self._graph.push(self._stamp(frame, tick, self._base)):
            own.pict_type = 0  # the source's picture types are no orders to the encoder
            if not self._opened:
                self._open(own)
            yield from self.stream.encode(own)

    def flush(self) -> Iterator[Any]:
        """The packets that the encoder still holds."""
        yield from self.stream.encode(None)

    def _tick(self, pts: int | None, base: Fraction) -> int:
        if pts is not None:
            tick = round(pts * base / self._base)
        elif self._settings.format.still:
            tick = 0
        elif self._settings.fps is None:
            raise TimingError(
                f"a picture of track {self._name!r} has no pts: set FileSink(…, fps=…) for pictures without time"
            )
        else:
            step = 1 / self._settings.fps
            tick = 0 if self._last is None else self._last[0] + round(step / self._base)
        if self._last is not None and tick <= self._last[0]:
            before = self._last[1]
            raise TimingError(
                f"pts of track {self._name!r} do not increase: {pts} ({float(tick * self._base):.4f} s) comes after "
                f"{before} ({float(self._last[0] * self._base):.4f} s)"
            )
        self._last = tick, tick if pts is None else pts
        return tick

    def _open(self, frame: Any) -> None:
        """Open the encoder with the colors of the first picture."""
        context = self.stream.codec_context
        for name in ("colorspace", "color_primaries", "color_trc"):
            value = int(getattr(frame, name, _UNSPECIFIED))
            if value != _UNSPECIFIED:
                setattr(context, name, value)
        if int(frame.color_range):
            context.color_range = int(frame.color_range)
        try:
            context.open()
        except av.FFmpegError as error:
            size = f"{self._size[0]}x{self._size[1]}"
            raise ConfigError(
                f"encoder {context.codec.name} refuses {size} {self._format} with {context.options or 'its defaults'}: {error}"
            ) from error
        self._opened = True


def _frame_rate(frame: Any, base: Fraction, fps: Fraction | None) -> Fraction:
    """About how many pictures come in a second: a hint for rate control and for players."""
    step = frame.duration * base if frame.duration else base
    return fps or (1 / step if Fraction(1, 1000) < step <= 10 else Fraction(30))
