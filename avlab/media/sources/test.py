"""TestSource: pictures that carry their own number, with sound, from nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, ClassVar

import av
import numpy as np

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError, MediaError
from avlab.core.item import Item
from avlab.core.node import Node

RATE = 48000
BLOCK = 960
"""Samples of one audio frame: 20 ms."""
BITS = 20
_SQUARES = BITS + 4  # white, black, the number from its highest bit, two bits of the sum of its ones
_BLACK, _WHITE = 16, 235
_BEEP = Fraction(1, 10)
_SAMPLE = Fraction(1, RATE)
_SECOND = 1_000_000_000  # nanoseconds


class TestSource(Node):
    """Makes pictures (yuv420p, track ``video``) and sound (48 kHz stereo s16, 20 ms, track ``audio``), always the same.

    The top twelfth of a picture is a row of squares with the picture's number, for `read_frame_number`; below it a pattern
    moves, and a square in the lower left corner is white for the first 0.1 s of each second, while the tone of 440 Hz beeps
    at 1 kHz. pts counts pictures (time base 1/rate) and samples (1/48000); the two tracks are interleaved by time.

    size: width and height in pixels, at least 48x24. rate: pictures per second, a number or text such as "30000/1001".
    audio: whether there is sound. duration: seconds, or None for no end. realtime: keep the pace of a clock.
    Raises ConfigError for sizes and rates that cannot be.
    """

    __test__: ClassVar[bool] = False  # pytest collects classes whose name begins with Test

    size: tuple[int, int] = (1280, 720)
    rate: Any = 30
    audio: bool = True
    duration: float | None = None
    realtime: bool = False

    _clock: Clock = staticmethod(monotonic)

    @property
    def produces(self) -> tuple[type, ...]:
        """Types of the values that will come."""
        return tuple(self.tracks().values())

    def tracks(self) -> dict[str, type]:
        """Name of each track and the type of its values."""
        return {"video": av.VideoFrame, "audio": av.AudioFrame} if self.audio else {"video": av.VideoFrame}

    def total(self) -> int | None:
        """How many items will come, or None without an end."""
        if self.duration is None:
            return None
        return self._count(self._rate()) + (self._count(Fraction(RATE, BLOCK)) if self.audio else 0)

    def open(self) -> None:
        """Begin anew."""
        self._closed = threading.Event()

    def close(self) -> None:
        """End a pace that is being kept."""
        self._closed.set()

    _closed = threading.Event()

    def items(self) -> Iterator[Item]:
        """The items in order of time."""
        rate = self._rate()
        width, height = self._size()
        painter = _Painter(width, height)
        sound = _second_of_sound() if self.audio else b""
        step = 1 / rate
        picture_time, block_time = step.numerator * _SECOND, BLOCK * _SECOND // RATE
        pictures = None if self.duration is None else self._count(rate)
        blocks = 0 if not self.audio else None if self.duration is None else self._count(Fraction(RATE, BLOCK))
        start = self._clock()
        p = b = 0
        while p != pictures or b != blocks:
            picture_due, block_due = p * picture_time // step.denominator, b * block_time
            picture_next = b == blocks or (p != pictures and picture_due <= block_due)
            if self.realtime:
                wait = (picture_due if picture_next else block_due) - (self._clock() - start)
                if wait > 0 and self._closed.wait(wait / 1e9):
                    return
            if picture_next:
                yield Item(painter.picture(p, step), p, step, "video", p)
                p += 1
            else:
                yield Item(_sound_frame(sound, b), b * BLOCK, _SAMPLE, "audio", b)
                b += 1

    def _count(self, rate: Fraction) -> int:
        """Frames that begin before the end."""
        try:
            seconds = Fraction(str(self.duration))  # 0.1 is a tenth, not the nearest binary fraction
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"duration of TestSource is {self.duration!r}, not a number of seconds") from error
        return max(0, math.ceil(seconds * rate))

    def _rate(self) -> Fraction:
        try:
            rate = Fraction(self.rate).limit_denominator(1 << 20)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ConfigError(f"rate of TestSource is {self.rate!r}, not a number of pictures per second") from error
        if not 0 < rate <= 1000:
            raise ConfigError(f"rate of TestSource is {self.rate!r}: it must be above 0 and at most 1000")
        return rate

    def _size(self) -> tuple[int, int]:
        try:
            width, height = (int(v) for v in self.size)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"size of TestSource is {self.size!r}, not (width, height)") from error
        if not (48 <= width <= 16384 and 24 <= height <= 16384):
            raise ConfigError(f"size of TestSource is {width}x{height}: it must be between 48x24 and 16384x16384")
        return width, height


def read_frame_number(frame: Any) -> int:
    """The number (modulo 2**20) that TestSource drew into a picture; the picture may be scaled, converted or compressed.

    Raises MediaError when the row of squares is not there or not whole.
    """
    gray = frame.to_ndarray(format="gray")
    height, width = gray.shape
    rows = slice(height // 36, max(height // 36 + 1, height // 18))
    levels = []
    for i in range(_SQUARES):
        middle, reach = (2 * i + 1) * width // (2 * _SQUARES), max(1, width // (4 * _SQUARES))
        levels.append(float(gray[rows, middle - reach // 2 : middle - reach // 2 + reach].mean()))
    white, black, *marks = levels
    if white - black < 64:
        raise MediaError("no row of squares with a frame number at the top of the picture: is it from TestSource?")
    bits = [level > (white + black) / 2 for level in marks]
    number = sum(bit << (BITS - 1 - i) for i, bit in enumerate(bits[:BITS]))
    if number.bit_count() % 4 != bits[BITS] * 2 + bits[BITS + 1]:
        raise MediaError(f"the row of squares with the frame number is damaged (it reads {number})")
    return number


class _Painter:
    """Draws pictures over a pattern that is rendered once."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        half = (width + 1) // 2, (height + 1) // 2
        x, y = np.arange(2 * width), np.arange(height)
        ramp = np.abs((x * 255 // width) % 510 - 255).astype(np.uint16)
        slope: Any = (y * 96 // height).astype(np.uint16)
        self._luma = (np.add.outer(slope, ramp) // 2 + 40).astype(np.uint8)  # 40 to 215
        u = (128 + 80 * np.sin(np.arange(half[0]) * 6.283 / half[0])).astype(np.uint8)
        v = (128 + 80 * np.cos(np.arange(half[1]) * 6.283 / half[1])).astype(np.uint8)
        self._chroma = [np.broadcast_to(plane, half[::-1]).copy() for plane in (u, v[:, None])]
        for plane in self._chroma:
            plane[: height // 24] = 128
        self._square: Any = ((np.arange(width) + 1) * _SQUARES - 1) // width  # the one that a column belongs to

    def picture(self, number: int, step: Fraction) -> Any:
        width, height = self._width, self._height
        frame = av.VideoFrame(width, height, "yuv420p")
        luma, *chroma = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in frame.planes)
        shift = number * 4 % width
        luma[:, :width] = self._luma[:, shift : shift + width]
        for plane, pattern in zip(chroma, self._chroma, strict=True):
            plane[:, : pattern.shape[1]] = pattern
        code = number % (1 << BITS)
        ones = code.bit_count() % 4
        marks = [1, 0, *(code >> i & 1 for i in reversed(range(BITS))), ones >> 1, ones & 1]
        levels = np.array([_WHITE if mark else _BLACK for mark in marks], np.uint8)
        luma[: height // 12, :width] = levels[self._square]
        luma[-(height // 8) :, : height // 8] = _WHITE if (number * step) % 1 < _BEEP else _BLACK
        frame.pts, frame.time_base, frame.duration = number, step, 1
        return frame


def _second_of_sound() -> memoryview:
    """One second of stereo: whole periods, so it repeats without a seam."""
    t = np.arange(RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 440 * t)
    beep = int(RATE * _BEEP)
    tone[:beep] = 0.5 * np.sin(2 * np.pi * 1000 * t[:beep])
    return memoryview(np.repeat((tone * 32767).astype("<i2"), 2).tobytes())


def _sound_frame(sound: Any, number: int) -> Any:
    frame = av.AudioFrame("s16", "stereo", BLOCK)
    begin = number % (RATE // BLOCK) * BLOCK * 4
    frame.planes[0].update(sound[begin : begin + BLOCK * 4])
    frame.sample_rate, frame.pts, frame.time_base = RATE, number * BLOCK, _SAMPLE
    return frame
