"""Encoders for live media: H.264 pictures and Opus sound, without any delay of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from avlab.core.errors import MediaError
from avlab.media.chain import option_text
from avlab.media.convert import picture_steps
from avlab.media.graph import FilterGraph
from avlab.media.stamp import Stamper

PICTURE_BASE = Fraction(1, 90_000)
SOUND_BASE = Fraction(1, 48_000)
BLOCK = 960
"""Samples of one coded block of sound: 20 ms."""
GROUP = 60
"""Pictures from one key picture to the next, where nobody asks for one earlier."""
FINEST = 24
"""The smallest quantizer: a picture that is as good as that (48 dB) gets no further bits, packets and time."""
LARGEST = 1920, 1080
"""Pictures are scaled down to fit into this: what every browser decodes in time."""


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture or 20 ms of sound.

    kind: ``video`` or ``audio``; pts: ticks of 1/90000 or 1/48000 on the stream's own timeline; key: decodable without what
    came before; captured: monotonic nanoseconds at which the source made it; size: of the picture; own: the source's own
    time in seconds, or None; form: ``h264``, ``jpeg`` or ``opus``.
    """

    kind: str
    data: bytes
    pts: int
    key: bool
    captured: int
    size: tuple[int, int] = (0, 0)
    own: float | None = None
    form: str = "h264"


def scaled(width: int, height: int, rung: int) -> tuple[int, int]:
    """Size of a picture on a rung: 0 is the source's own (as far as `LARGEST` allows), each further one half of that. Raises
    MediaError for one without pixels."""
    if not width or not height:
        raise MediaError(f"a picture without pixels ({width}x{height}) cannot be shown")
    share = min(1.0, LARGEST[0] / width, LARGEST[1] / height) / 2**rung
    return max(16, round(width * share / 2) * 2), max(16, round(height * share / 2) * 2)


class PictureEncoder:
    """x264, ultrafast and without look-ahead: a picture that goes in comes out at once. Not thread-safe."""

    def __init__(self, rung: int, bit_rate: int) -> None:
        self._rung, self.bit_rate = rung, bit_rate
        self._context: Any = None
        self._form: tuple[Any, ...] = ()

    def encode(self, frame: Any, pts: int, key: bool) -> tuple[bytes, bool, tuple[int, int]]:
        """Bytes (Annex B), whether it is a key picture, and its size. Raises MediaError for what cannot be encoded."""
        form = frame.format.name, frame.width, frame.height, self.bit_rate
        if form != self._form:
            self._build(frame, form)
        (own,) = self._graph.push(frame)  # a frame of our own, over the same memory when nothing is to be converted
        own.pts, own.time_base = pts, PICTURE_BASE
        own.pict_type = 1 if key else 0  # I: x264 makes it an IDR picture
        try:
            packets = self._context.encode(own)
        except av.FFmpegError as error:
            raise MediaError(f"x264 cannot encode {frame}: {error}") from error
        return b"".join(map(bytes, packets)), any(p.is_keyframe for p in packets), self._size

    def _build(self, frame: Any, form: tuple[Any, ...]) -> None:
        self._size, self._form = scaled(frame.width, frame.height, self._rung), form
        self._graph = FilterGraph(picture_steps(frame, "yuv420p", self._size))
        context: Any = av.CodecContext.create("libx264", "w")
        context.width, context.height = self._size
        context.pix_fmt, context.time_base, context.framerate = "yuv420p", PICTURE_BASE, 30
        context.bit_rate, context.gop_size, context.profile = self.bit_rate, GROUP, "Baseline"
        # One thread makes one slice: several slices cost more in packets and decoding than threads win at these sizes.
        # No picture is larger than 0.2 s of the rate: a router's queue holds about that, and a key picture that does not fit never comes whole.
        buffer = {"maxrate": str(self.bit_rate * 3 // 2), "bufsize": str(self.bit_rate // 5)}
        plain = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "forced-idr": "1", "qmin": str(FINEST)}
        context.options = {**plain, **buffer}
        self._context = context


class StillEncoder:
    """JPEG pictures, for browsers that cannot decode video by themselves. Not thread-safe."""

    def __init__(self, rung: int) -> None:
        self._rung = rung
        self._form: tuple[Any, ...] = ()
        self._context: Any = None

    def encode(self, frame: Any) -> tuple[bytes, tuple[int, int]]:
        """Bytes of a JPEG file and its size in pixels. Raises MediaError for what cannot be encoded."""
        form = frame.format.name, frame.width, frame.height
        if form != self._form:
            self._size, self._form = scaled(frame.width, frame.height, self._rung), form
            self._graph = FilterGraph(picture_steps(frame, "yuvj420p", self._size))
            context: Any = av.CodecContext.create("mjpeg", "w")
            context.width, context.height = self._size
            context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 30)
            context.color_range, context.options = 2, {"qmin": "6", "qmax": "6"}
            self._context, self._number = context, 0
        (own,) = self._graph.push(frame)
        own.pts, own.time_base, own.pict_type, own.color_range = self._number, Fraction(1, 30), 0, 2
        self._number += 1
        try:
            return b"".join(map(bytes, self._context.encode(own))), self._size
        except av.FFmpegError as error:
            raise MediaError(f"JPEG cannot encode {frame}: {error}") from error


class SoundEncoder:
    """Opus in blocks of 20 ms, and the level of the sound that went in. Not thread-safe."""

    def __init__(self, bit_rate: int = 64_000) -> None:
        self.level = 0.0
        """Root mean square of the newest block, 0 to 1."""
        form = {"sample_fmts": "s16", "sample_rates": 48_000, "channel_layouts": "stereo"}
        self._graph = FilterGraph([("aformat", option_text(form)), ("asetnsamples", f"n={BLOCK}:p=0")])
        self._stamp = Stamper()
        context: Any = av.CodecContext.create("libopus", "w")
        context.format, context.layout, context.sample_rate = "s16", "stereo", 48_000
        context.bit_rate, context.time_base = bit_rate, SOUND_BASE
        # Half of the greatest complexity: it takes a third less time, and beyond it only the finest choices are made.
        context.options = {"application": "lowdelay", "frame_duration": "20", "compression_level": "5"}
        self._context = context

    def encode(self, frame: Any, pts: int, heard: bool = True) -> Iterator[tuple[bytes, int]]:
        """Coded blocks that are ready, each with its pts in samples of 48 kHz; where nobody hears them only their level is taken."""
        for block, at in self._blocks(frame, pts):
            samples = np.frombuffer(block.planes[0], np.int16, 2 * BLOCK).astype(np.float32)
            self.level = float(np.sqrt(samples.dot(samples) / len(samples))) / 32768
            if not heard:
                continue
            try:
                packets = self._context.encode(block)
            except av.FFmpegError as error:
                raise MediaError(f"Opus cannot encode {frame}: {error}") from error
            for packet in packets:
                yield bytes(packet), at

    def _blocks(self, frame: Any, pts: int) -> Iterator[tuple[Any, int]]:
        rate = frame.sample_rate
        if not rate:
            raise MediaError(f"{frame} has no sample rate: set frame.sample_rate")
        if (frame.format.name, frame.layout.name, rate, frame.samples) == ("s16", "stereo", 48_000, BLOCK):
            self._graph.close()  # less than a block of another form may be left in it
            yield frame, pts
            return
        base = Fraction(1, rate)
        for block in self._graph.push(self._stamp(frame, round(pts * SOUND_BASE / base), base)):
            if block.samples == BLOCK:  # not the rest of another form of sound
                yield block, round(block.pts * Fraction(block.time_base) / SOUND_BASE)
