"""What a session feels of a neighbour that burns all processors: ``make neighbours`` prints it for each tier."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

import avlab

ROUNDS, SECONDS, PAUSE = 6, 0.8, 0.004
THREADS = 8


class Echo:
    def process(self, picture: np.ndarray) -> np.ndarray:
        return picture


class Hog:
    def burn(self, threads: int, seconds: float) -> int:
        import hashlib
        import threading
        import time

        end, data = time.monotonic() + seconds, bytes(1 << 20)

        def work() -> None:
            while time.monotonic() < end:
                hashlib.sha256(data).digest()  # without the interpreter's lock

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return threads


@dataclass(frozen=True)
class Felt:
    """Milliseconds per call of a frame of 640×360: medians of each round's p50 and p95, alone and beside the hog."""

    alone: tuple[float, float]
    beside: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.beside[1] / self.alone[1]


def feel(tier: str, threads: int = THREADS, rounds: int = ROUNDS) -> Felt:
    """Rounds with and without the hog take turns, so that what else the machine does weighs on both."""
    picture = np.zeros((360, 640, 3), np.uint8)
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with avlab.connect("local:", tier=tier) as executor, executor.open(Echo()) as session, executor.open(Hog()) as hog:
        calls(session, picture)
        for number in range(2 * rounds):
            burning = number % 2 == 1
            thread = threading.Thread(target=hog.call, args=("burn", threads, SECONDS + 0.4))
            if burning:
                thread.start()
                time.sleep(0.2)  # until all its threads burn
            taken = sorted(calls(session, picture))
            found[burning].append((statistics.median(taken), taken[int(len(taken) * 0.95)]))
            if burning:
                thread.join()
    alone, beside = (
        (statistics.median(a), statistics.median(b)) for a, b in (zip(*found[b], strict=True) for b in (False, True))
    )
    return Felt(alone, beside)


def calls(session: avlab.Session, picture: np.ndarray) -> list[float]:
    """Milliseconds of each call in one round, with pauses: a stream of frames, not a race."""
    taken, end = [], time.monotonic() + SECONDS
    while time.monotonic() < end:
        begun = time.perf_counter()
        session.call("process", picture)
        taken.append((time.perf_counter() - begun) * 1e3)
        time.sleep(PAUSE)
    return taken


def main() -> int:
    print(
        f"{'tier':<12}{'alone p50':>10}{'p95':>8}{'beside p50':>12}{'p95':>8}{'p95 ratio':>11}   ({THREADS} threads burn)"
    )
    for tier in sys.argv[1:] or ("landlock", "namespaces", "gvisor"):
        felt = feel(tier)
        print(
            f"{tier:<12}{felt.alone[0]:>10.2f}{felt.alone[1]:>8.2f}{felt.beside[0]:>12.2f}{felt.beside[1]:>8.2f}{felt.ratio:>11.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
