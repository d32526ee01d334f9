"""Decoders of what browsers without WebCodecs send: JPEG pictures and plain samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np

_BYTES = 2  # of one sample


class _Stills:
    def __init__(self, codec: Any) -> None:
        self.codec: Any = av.CodecContext.create("mjpeg", "r")

    def decode(self, encoded: Any) -> list[Any]:
        return list(self.codec.decode(av.Packet(encoded.data)))


class _Samples:
    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def decode(self, encoded: Any) -> list[Any]:
        layout = "mono" if self._codec.channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(np.frombuffer(encoded.data, "<i2")[None], format="s16", layout=layout)
        frame.sample_rate = self._codec.clockRate
        return [frame]


PLAIN: dict[str, Callable[[Any], Any]] = {"JPEG": _Stills, "S16": _Samples}
"""By the codec's name; the decoders are like aiortc's own. S16: little-endian, channels in turn."""


def samples(codec: Any, payload: bytes) -> int:
    """How many of each channel a packet of plain samples holds. Raises ValueError for half a sample, and for none."""
    count, rest = divmod(len(payload), _BYTES * int(codec.channels))
    if rest or not count:
        raise ValueError(f"{len(payload)} bytes are no samples of {codec.channels} channels")
    return count
