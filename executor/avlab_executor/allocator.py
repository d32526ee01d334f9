"""The C library's allocator as a server of frames needs it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

_SETTINGS = {
    # Each cut connection makes new threads, and glibc an arena for some of them, for ever: memory grew by 67 KiB/s behind a bad
    # network. With one for all a frame also lands where another one has just been.
    "MALLOC_ARENA_MAX": (-8, 1),
    # A frame that is freed would go back to the system, and the next one page by page come from there: 2000 faults each.
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),  # glibc takes no more
    "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20),
}
"""glibc's variable: the same parameter of mallopt (malloc.h), and its value."""


def settle(environment: Mapping[str, str] = os.environ) -> None:
    """Set the allocator of this process, before it has threads; what ``environment`` says stays. Only glibc has these settings."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for variable, (parameter, value) in _SETTINGS.items():
            if variable not in environment:
                mallopt(parameter, value)
