"""Counting and timing of one node: cheap enough to run for every item, bounded however long a run lasts."""

from __future__ import annotations

_FINE = 3  # 8 buckets per doubling: a quantile is off by at most an eighth
_BUCKETS = 64 << _FINE


class Meter:
    """Counts and a histogram of process times. One thread writes, any thread may read."""

    __slots__ = ("buckets", "busy", "passed", "received", "sent")

    def __init__(self) -> None:
        self.received = self.passed = self.sent = self.busy = 0
        self.buckets = [0] * _BUCKETS

    def observe(self, nanoseconds: int) -> None:
        """One more call that took so long."""
        self.busy += nanoseconds
        shift = nanoseconds.bit_length() - _FINE - 1
        if shift > 0:
            bucket = (shift << _FINE) + (nanoseconds >> shift)
            self.buckets[bucket if bucket < _BUCKETS else -1] += 1
        else:
            self.buckets[nanoseconds] += 1

    def quantile(self, fraction: float) -> float | None:
        """Milliseconds that this fraction of the calls stayed below (to within an eighth), or None before the first."""
        return quantile(self.buckets, fraction)


def quantile(buckets: list[int], fraction: float) -> float | None:
    """Milliseconds below which this fraction of the observations lies, or None when there are none."""
    total = sum(buckets)
    wanted, seen = total * fraction, 0
    for index, count in enumerate(buckets):
        seen += count
        if count and seen >= wanted:
            return _middle(index) / 1e6
    return None


def _middle(bucket: int) -> float:
    shift = (bucket >> _FINE) - 1
    if shift <= 0:
        return float(bucket)
    return ((bucket - (shift << _FINE)) + 0.5) * (1 << shift)
