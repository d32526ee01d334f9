"""Effects for the tutorial. A module beside the notebook: it travels with the cell that imports it."""

from functools import cache

import numpy as np


def vignette(picture: np.ndarray, depth: float = 0.5) -> np.ndarray:
    """An RGB picture (height, width, 3; uint8) darkened towards its corners, by ``depth`` from 0 (not) to 1 (black)."""
    height, width, _ = picture.shape
    return (picture * _light(height, width, depth)).astype(np.uint8)


@cache
def _light(height: int, width: int, depth: float) -> np.ndarray:
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return 1 - np.float32(depth / 2) * (y[:, None, None] ** 2 + x[None, :, None] ** 2)
