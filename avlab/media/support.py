"""Which coders the installed PyAV brings."""

from __future__ import annotations

from av.codec import Codec
from av.codec.codec import UnknownCodecError

WANTED = {"h264": "libx264", "aac": "aac", "vp8": "libvpx", "opus": "libopus", "png": "png"}
"""What FileSource and FileSink are expected to read and write: decoder → encoder."""


def coders() -> dict[str, bool]:
    """For each wanted coder, ``decode NAME`` or ``encode NAME``, whether it is there."""
    found = {f"decode {name}": _has(name, "r") for name in WANTED}
    return found | {f"encode {name}": _has(name, "w") for name in WANTED.values()}


def _has(name: str, mode: str) -> bool:
    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True
