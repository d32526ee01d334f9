"""Numbers for a person."""

from __future__ import annotations

_BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SPANS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def size(count: int | float) -> str:
    """Bytes: ``512 MiB``."""
    power = 0
    while count >= 1024 and power < len(_BYTES) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.4g} {_BYTES[power]}"


def span(seconds: float) -> str:
    """Seconds by their two largest units: ``3 h 12 min``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in _SPANS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"
