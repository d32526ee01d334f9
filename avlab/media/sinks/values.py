"""Which frame a value is: arrays count as pictures or sound where they can be nothing else."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from avlab.core.errors import MediaError

_PICTURES = {1: "gray", 3: "rgb24", 4: "rgba"}
_SOUND = {"f4": "flt", "f8": "dbl", "i2": "s16", "i4": "s32"}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def as_frame(value: Any, rate: int | None) -> Any:
    """The value as an av frame.

    Arrays of uint8 shaped (height, width), (height, width, 3 or 4) are gray, RGB and RGBA pictures; arrays of int16, int32,
    float32 and float64 shaped (samples,) or (samples, channels) are sound of ``rate`` Hz. Raises MediaError for the rest.
    """
    if isinstance(value, av.VideoFrame | av.AudioFrame):
        return value
    if not isinstance(value, np.ndarray):
        kind = type(value)
        raise MediaError(
            f"a file of pictures and sound cannot hold a {kind.__module__}.{kind.__qualname__}: send frames or arrays of uint8"
        )
    if value.dtype == np.uint8:
        return _picture(value)
    if value.dtype.str[1:] in _SOUND and value.ndim in (1, 2):
        return _sound(value, rate)
    raise MediaError(
        f"an array of {value.dtype} shaped {value.shape} is neither a picture (uint8, height x width x 3) "
        "nor sound (int16 or float, samples x channels)"
    )


def _picture(array: Any) -> Any:
    depth = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or depth not in _PICTURES or not array.size:
        raise MediaError(f"an array of uint8 shaped {array.shape} is no picture: (height, width, 3) is RGB")
    pixels = array.reshape(array.shape[:2]) if depth == 1 else array
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=_PICTURES[depth])


def _sound(array: Any, rate: int | None) -> Any:
    if not rate:
        raise MediaError("an array of sound has no sample rate: set FileSink(…, rate=…), or send av.AudioFrame")
    channels = array.shape[1] if array.ndim == 2 else 1
    layout = _LAYOUTS.get(channels)
    if layout is None:
        raise MediaError(
            f"an array of sound shaped {array.shape} has {channels} channels: it must be (samples, channels)"
        )
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(flat, format=_SOUND[array.dtype.str[1:]], layout=layout)
    frame.sample_rate = rate
    return frame
