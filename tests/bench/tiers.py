"""What each isolation tier costs: a warm start, and a frame there and back. ``make tiers`` prints it."""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import avlab

TIERS = ("process", "landlock", "namespaces", "gvisor")
STARTS, FRAMES = 7, 60
REFILL = {"gvisor": 8.0}  # seconds until another worker waits, at most, on a busy machine


class Echo:
    def process(self, picture: np.ndarray) -> np.ndarray:
        return picture


def measure(executor: avlab.Executor, tier: str) -> tuple[float, float]:
    """Milliseconds from `open` to the first result of a fresh object, and of a frame of 640×480 there and back (medians)."""
    picture, starts, trips = np.zeros((480, 640, 3), np.uint8), [], []
    for _ in range(STARTS):
        time.sleep(REFILL.get(tier, 1.0))
        begun = time.perf_counter()
        with executor.open(Echo(), tier=tier) as session:
            session.call("process", picture[:1, :1].copy())
            starts.append((time.perf_counter() - begun) * 1e3)
            for _ in range(FRAMES // STARTS):
                begun = time.perf_counter()
                session.call("process", picture)
                trips.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(starts), statistics.median(trips)


def main() -> int:
    print(f"{'tier':<12}{'warm start':>12}{'frame':>9}   (ms; medians of {STARTS} and {FRAMES // STARTS * STARTS})")
    with avlab.connect() as executor:
        for tier in sys.argv[1:] or TIERS:
            executor.open(Echo(), tier=tier).close()
            start, trip = measure(executor, tier)
            print(f"{tier:<12}{start:>12.1f}{trip:>9.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
