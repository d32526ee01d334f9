"""The small JSON metadata of the media codecs: made compact, read with suspicion."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from avlab.core.errors import CodecError

MAX_META = 64 << 10
"""Largest metadata of one value, in bytes."""

_dumps = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def pack(fields: dict[str, Any]) -> bytes:
    """The fields as compact JSON. Raises CodecError above 64 kB."""
    meta = _dumps(fields).encode()
    if len(meta) > MAX_META:
        raise CodecError(f"{len(meta)} bytes of metadata; the limit is {MAX_META}")
    return meta


def parse(meta: bytes) -> dict[str, Any]:
    """The fields. Raises CodecError for anything but a JSON object of at most 64 kB."""
    if len(meta) > MAX_META:
        raise CodecError(f"{len(meta)} bytes of metadata; the limit is {MAX_META}")
    try:
        fields = json.loads(meta)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"metadata is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise CodecError("metadata is not a JSON object")
    return fields


def integer(value: Any, low: int, high: int, what: str) -> int:
    """The value if it is an int (not a bool) within the bounds. Raises CodecError naming it otherwise."""
    if type(value) is not int or not low <= value <= high:
        raise CodecError(f"{what} is {str(value)[:40]}, not an integer from {low} to {high}")
    return value


def integers(value: Any, low: int, high: int, what: str) -> list[int]:
    """The value if it is a list of such ints."""
    if not isinstance(value, list):
        raise CodecError(f"{what} is not a list")
    return [integer(v, low, high, what) for v in value]


def tick(value: Any, what: str = "pts") -> int | None:
    """A timestamp: None or an int of 64 bits."""
    return None if value is None else integer(value, -(1 << 63) + 1, (1 << 63) - 1, what)


def ratio(value: Any) -> Fraction | None:
    """A time base: None or ``[numerator, denominator]``, both positive ints of 31 bits."""
    if value is None:
        return None
    numerator, denominator = integers(value, 1, (1 << 31) - 1, "time_base")
    return Fraction(numerator, denominator)


def parts(ratio: Any) -> list[int] | None:
    """How a time base is written: ``[numerator, denominator]``, or None when it is unset."""
    return [ratio.numerator, ratio.denominator] if ratio else None
