"""What one session may use. A limit of None is the executor's default for its tier."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from avlab.core.errors import ConfigError

TIERS = ("gvisor", "namespaces", "landlock", "process")
"""The isolation tiers, strongest first."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST = {"seconds": 10**6, "count": 1 << 20, "bytes": 1 << 62}  # further than clocks, kernels and the wire count
_LEAST_MEMORY = 1 << 20  # less is a forgotten unit
_COUNTS, _BYTES = ("processes", "open_files"), ("memory", "scratch", "output")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Bytes from ``"512M"``, ``"1.5 GiB"`` or a plain number; K, M, G, T are powers of 1024. Raises ConfigError."""
    match = _SIZE.fullmatch(str(text))
    size = float(match[1]) * _UNITS[match[2].upper()] if match else math.inf
    if isinstance(text, bool) or not math.isfinite(size):
        raise ConfigError(f"size {text!r} is not a number of bytes: write for example '512M' or 536870912")
    return int(size)


def check_tier(name: str | None) -> None:
    """Raises ConfigError for what is no isolation tier; None and "" leave the choice to the executor."""
    if name and name not in TIERS:
        raise ConfigError(f"{name[:80]!r} is no isolation tier: write one of {', '.join(TIERS)}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one session.

    memory, scratch, output: bytes (or text such as "512M"). cpu_seconds: CPU time of the whole session. item_timeout: wall
    seconds for one input, from hand-over to its last output, without the time spent waiting for the consumer.
    session_timeout: wall seconds from open to close. processes: tasks (processes and threads together, as Linux counts
    them); None denies fork and exec but allows threads. open_files: descriptors.

    Raises ConfigError for a value that is not positive, not a number or beyond 10**6 s, 2**20 pieces or 2**62 bytes, and
    for a memory below 1 MiB.
    """

    memory: int | None = None
    cpu_seconds: float | None = None
    item_timeout: float | None = None
    session_timeout: float | None = None
    processes: int | None = None
    open_files: int | None = None
    scratch: int | None = None
    output: int | None = None

    def __post_init__(self) -> None:
        for name in _BYTES:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_size(value))
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"limit {field.name}={value!r} must be a positive number")
            unit = "count" if field.name in _COUNTS else "bytes" if field.name in _BYTES else "seconds"
            if value > _MOST[unit]:
                raise ConfigError(f"limit {field.name}={value!r} is beyond {_MOST[unit]}: leave it out to have none")
            if field.name == "memory" and value < _LEAST_MEMORY:
                raise ConfigError(f"limit memory={value!r} is less than 1 MiB: without a unit it is bytes, write for example '512M'")
            if field.name in _COUNTS and not isinstance(value, int):
                raise ConfigError(f"limit {field.name}={value!r} must be a whole number")

    def given(self) -> dict[str, int | float]:
        """The limits that were set, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
