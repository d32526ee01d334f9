"""Frames through a chain of FFmpeg filters, rebuilt when the form of the frames changes."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import av.filter

from avlab.core.errors import ConfigError, MediaError
from avlab.media.chain import Step

_DEFAULT_BASE = Fraction(1, 1000)


class FilterGraph:
    """A chain of filters between a source and a sink of frames.

    ``push(frame)`` and ``flush()`` yield frames with pts and time base of their own; the pushed frame stays as it is. When
    format, size, layout, rate or time base of the input change, what the old chain holds comes out first. Not
    thread-safe. Raises ConfigError for options that a filter refuses, MediaError for frames that it cannot take.
    """

    def __init__(self, chain: Sequence[Step], threads: int = 1) -> None:
        self.chain = tuple(chain)
        self._threads = threads
        self._graph: Any = None
        self._source: Any = None
        self._sink: Any = None
        self._form: tuple[Any, ...] = ()

    def push(self, frame: Any) -> Iterator[Any]:
        """What comes out once ``frame`` (av.VideoFrame or av.AudioFrame) has gone in: no, one or several frames."""
        form = _form(frame)
        if form != self._form:
            yield from self.flush()
            self._build(frame)
            self._form = form
        self._send(frame)
        yield from self._pull()

    def flush(self) -> Iterator[Any]:
        """What the filters still hold; afterwards the chain is as new."""
        if self._graph is None:
            return
        try:
            self._send(None)
            yield from self._pull()
        finally:
            self.close()

    def close(self) -> None:
        """Free the filters and what they hold."""
        self._graph = self._source = self._sink = None
        self._form = ()

    def _send(self, frame: Any) -> None:
        try:
            self._source.push(frame)
        except av.FFmpegError as error:
            raise MediaError(f"{self} cannot take {frame}: {error}") from error

    def _pull(self) -> Iterator[Any]:
        while self._sink is not None:
            try:
                frame = self._sink.pull()
            except EOFError:
                return
            except av.FFmpegError as error:
                if error.errno == errno.EAGAIN:
                    return
                raise MediaError(f"{self} failed: {error}") from error
            yield frame

    def _build(self, frame: Any) -> None:
        video = isinstance(frame, av.VideoFrame)
        ends = ("buffersink", "abuffersink") if video else ("abuffersink", "buffersink")
        try:
            self._assemble(frame, ends[0])
        except (av.FFmpegError, ValueError) as error:
            try:
                self._assemble(frame, ends[1])  # some filters turn sound into pictures (showwaves)
            except (av.FFmpegError, ValueError):
                raise ConfigError(f"{self} cannot be set up for {frame}: {error}") from error

    def _assemble(self, frame: Any, end: str) -> None:
        graph = av.filter.Graph()
        if hasattr(graph, "threads"):  # PyAV 16 leaves it to FFmpeg
            graph.threads = self._threads
        source = graph.add("buffer" if isinstance(frame, av.VideoFrame) else "abuffer", **_source_options(frame))
        steps = [graph.add(name, options or None) for name, options in self.chain]
        sink = graph.add(end)
        graph.link_nodes(source, *steps, sink)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, sink

    def __str__(self) -> str:
        return "filter chain " + repr(
            ",".join(f"{name}={options}" if options else name for name, options in self.chain)
        )


def _form(frame: Any) -> tuple[Any, ...]:
    if isinstance(frame, av.VideoFrame):
        color = frame.colorspace, frame.color_range
        return (frame.format.name, frame.width, frame.height, *color, frame.time_base)
    return frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base


def _source_options(frame: Any) -> dict[str, str]:
    if isinstance(frame, av.VideoFrame):
        if not frame.width or not frame.height:
            raise MediaError(f"a picture without pixels ({frame.width}x{frame.height}) cannot be filtered")
        return {
            "video_size": f"{frame.width}x{frame.height}",
            "pix_fmt": frame.format.name,
            "time_base": _text(frame.time_base or _DEFAULT_BASE),
            "pixel_aspect": "1/1",
            "colorspace": str(int(frame.colorspace)),
            "range": str(int(frame.color_range)),
        }
    rate = frame.sample_rate
    if not rate:
        raise MediaError(f"{frame} has no sample rate: set frame.sample_rate")
    return {
        "sample_rate": str(rate),
        "sample_fmt": frame.format.name,
        "channel_layout": frame.layout.name,
        "time_base": _text(frame.time_base or Fraction(1, rate)),
    }


def _text(base: Any) -> str:
    return f"{base.numerator}/{base.denominator}"
