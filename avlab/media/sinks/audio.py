"""The audio half of FileSink: sound of one track becomes packets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from avlab.core.errors import ConfigError, MediaError, TimingError
from avlab.media.chain import option_text
from avlab.media.graph import FilterGraph
from avlab.media.sinks.formats import Settings, encoder, sample_format, sample_rate
from avlab.media.stamp import Stamper, continued

# AAC has a name for these speakers only where they stand behind: from the side (AC-3) they would come back as "6 channels".
_BEHIND = {"5.0(side)": "5.0", "5.1(side)": "5.1"}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class AudioTrack:
    """Encodes the sound of one track: converted to what the encoder takes, cut into its frame size, pts kept.

    Channels stay as they are where the encoder can (5.1 stays 5.1), else they are mixed down. Frames that follow each other
    within a tick are one stretch; a gap stays a gap in time. Frames without pts follow the one before. Raises TimingError for
    pts that do not increase and for frames that overlap.
    """

    def __init__(self, container: Any, name: str, settings: Settings, frame: Any) -> None:
        self._name = name
        codec = encoder(settings.audio_codec or settings.format.audio or "", "audio")
        rate = sample_rate(codec, _rate(frame))
        kind = sample_format(codec, frame.format.name)
        layout = _layout(codec.name, kind, rate, frame.layout)
        try:
            self.stream = container.add_stream(codec.name, rate=rate)
        except ValueError as error:
            raise ConfigError(f"{settings.path!r} cannot hold {codec.name}: {error}") from error
        context = self.stream.codec_context
        context.format, context.layout = kind, layout
        context.time_base = self.stream.time_base = Fraction(1, rate)
        if settings.audio_bitrate:
            context.bit_rate = settings.audio_bitrate
        try:
            context.open()
        except av.FFmpegError as error:
            raise ConfigError(f"encoder {codec.name} refuses {rate} Hz {layout} {kind}: {error}") from error
        form = {"sample_fmts": kind, "sample_rates": rate, "channel_layouts": layout}
        self._convert = FilterGraph([("aformat", option_text(form))])
        size = context.frame_size
        self._cut = FilterGraph([("asetnsamples", f"n={size}:p=0")]) if size else None
        self._stamp = Stamper()
        self._end: Fraction | None = None
        self._last: int | None = None
        self._last_time = Fraction(0)

    def encode(self, frame: Any, pts: int | None, base: Fraction) -> Iterator[Any]:
        """Packets that are ready once ``frame``, which begins at ``pts`` ticks of ``base``, has gone in."""
        if not frame.samples:
            return
        rate = _rate(frame)
        begin = self._begin(pts, base, rate)
        if self._cut is not None and self._end is not None and begin > self._end:
            yield from self._gap(self._end, begin)
        self._end = begin + Fraction(frame.samples, rate)
        own = self._stamp(frame, round(begin * rate), Fraction(1, rate))
        for converted in self._convert.push(own):
            yield from self._blocks(converted)

    def flush(self) -> Iterator[Any]:
        """The packets of what converter, cutter and encoder still hold."""
        for converted in self._convert.flush():
            yield from self._blocks(converted)
        for block in self._cut.flush() if self._cut else ():
            yield from self.stream.encode(block)
        yield from self.stream.encode(None)

    def _gap(self, begin: Fraction, end: Fraction) -> Iterator[Any]:
        """Silence at both edges of a gap, all of it if it is short.

        Else sound of after the gap would complete the block that waits, and the one that the encoder holds: too early.
        """
        block = Fraction(self.stream.codec_context.frame_size, self.stream.codec_context.sample_rate)
        assert self._cut is not None
        if end - begin < 4 * block:
            yield from self._silence(begin, end)
            return
        yield from self._silence(begin, begin + 2 * block)
        for _ in self._cut.flush():  # nothing but silence
            pass
        yield from self._silence(end - block, end)

    def _silence(self, begin: Fraction, end: Fraction) -> Iterator[Any]:
        context = self.stream.codec_context
        first, after = round(begin * context.sample_rate), round(end * context.sample_rate)
        if first == after:
            return
        nothing = np.zeros((1, (after - first) * context.layout.nb_channels), np.int16)
        frame = av.AudioFrame.from_ndarray(nothing, "s16", context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = context.sample_rate, first, Fraction(1, context.sample_rate)
        for converted in self._convert.push(frame):
            yield from self._blocks(converted)

    def _blocks(self, frame: Any) -> Iterator[Any]:
        for block in self._cut.push(frame) if self._cut else (frame,):
            yield from self.stream.encode(block)

    def _begin(self, pts: int | None, base: Fraction, rate: int) -> Fraction:
        """When a frame begins, in seconds."""
        if pts is None:
            return self._end or Fraction(0)
        time, end = pts * base, self._end
        before, self._last = self._last, pts
        previous, self._last_time = self._last_time, time
        if end is None:
            return time
        if before is not None and time <= previous:
            raise TimingError(
                f"pts of track {self._name!r} do not increase: {pts} ({float(time):.4f} s) comes after {before} "
                f"({float(previous):.4f} s)"
            )
        begin = continued(time, end, base, rate)
        if begin < end:
            raise TimingError(
                f"sound of track {self._name!r} overlaps: pts {pts} ({float(time):.4f} s) lies before the end of the frame "
                f"with pts {before} ({float(end):.4f} s)"
            )
        return begin


def _rate(frame: Any) -> int:
    if not frame.sample_rate:
        raise MediaError(f"{frame} has no sample rate: set frame.sample_rate")
    return int(frame.sample_rate)


def _layout(codec: str, kind: str, rate: int, source: Any) -> str:
    """The source's channel layout if the encoder opens with it, else the nearest that it takes."""
    count = source.nb_channels
    own = _BEHIND.get(source.name, source.name) if codec == "aac" else source.name
    names: list[str] = [own, *(_LAYOUTS[n] for n in (count, 6, 2, 1) if n in _LAYOUTS and n <= count)]
    for name in dict.fromkeys(names):
        context = av.CodecContext.create(codec, "w")
        context.sample_rate, context.format, context.layout = rate, kind, name
        context.time_base = Fraction(1, rate)
        try:
            context.open()
        except av.FFmpegError:  # the encoder does not take this layout: the next one
            continue
        return name
    raise ConfigError(f"encoder {codec} takes no layout of {count} channels at {rate} Hz")
