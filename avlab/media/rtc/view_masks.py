"""Masks over the picture: which pixels belong to what, as one small coloured image per result."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

LARGEST = 512
"""Pixels of the longer side of what is sent; larger masks are sampled. The view scales it to the picture."""
MOST = 32
"""Masks of one result."""
_OPACITY = 120  # of 255
_COLORS = np.array(
    [(0, 0, 0), (41, 182, 246), (255, 167, 38), (102, 187, 106), (236, 64, 122), (171, 71, 188), (255, 238, 88), (38, 198, 218)],
    np.uint8,
)  # fmt: skip


def is_mask(value: object) -> bool:
    """Whether it is a 2-D array of bool, or of uint8: 0 where nothing is, else a number for what is there."""
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.size > 0 and value.dtype in (np.bool_, np.uint8)


def painted(masks: Sequence[Any]) -> bytes:
    """A PNG with transparency. Each mask has the size of the picture, or of any smaller version of it. Where several cover a
    pixel, the last one shows; arrays of bool, and those of uint8 with one number alone, have a colour each in their order, other
    numbers one each."""
    height, width = masks[0].shape
    share = min(1.0, LARGEST / max(height, width))
    labels = np.zeros((max(1, round(height * share)), max(1, round(width * share))), np.uint8)
    for order, mask in enumerate(masks[:MOST], 1):
        rows, columns = ((np.arange(size) * full) // size for size, full in zip(labels.shape, mask.shape, strict=True))
        here = mask[rows[:, None], columns]
        covered = here != 0
        numbers = here[covered]
        single = mask.dtype == np.bool_ or not numbers.size or (numbers == numbers[0]).all()
        labels[covered] = order if single else numbers
    colors = np.zeros((*labels.shape, 4), np.uint8)
    colors[..., :3] = _COLORS[np.where(labels, (labels - 1) % (len(_COLORS) - 1) + 1, 0)]
    colors[..., 3] = np.where(labels, _OPACITY, 0)
    return _png(colors)


def _png(colors: Any) -> bytes:
    context: Any = av.CodecContext.create("png", "w")
    context.height, context.width = colors.shape[:2]
    context.pix_fmt, context.time_base, context.options = "rgba", Fraction(1, 30), {"compression_level": "1"}
    return b"".join(map(bytes, context.encode(av.VideoFrame.from_ndarray(colors, format="rgba"))))
