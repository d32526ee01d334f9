"""What a hop costs: microseconds per item between local nodes, fused in one thread and across a channel."""

import statistics
from collections.abc import Callable

from avlab.core.clock import monotonic
from avlab.core.node import Node
from avlab.flow.graph import Pipeline

ITEMS = 20_000
CHAIN = 20
ROUNDS = 5


class Trivial(Node):
    def process(self, value: int) -> int:
        return value


class Apart(Trivial):
    own_thread = True


class Generator(Node):
    def process(self, value: int):
        yield value


def seconds(nodes: list[Node]) -> float:
    pipeline = Pipeline([range(ITEMS), *nodes])
    return statistics.median(_timed(lambda: pipeline.run(progress=False)) for _ in range(ROUNDS))


def _timed(run: Callable[[], object]) -> float:
    began = monotonic()
    run()
    return (monotonic() - began) / 1e9


def hops() -> dict[str, float]:
    """Microseconds per item and hop: what each further node adds."""
    base = seconds([Trivial()])
    return {
        "fused": (seconds([Trivial() for _ in range(CHAIN)]) - base) / (CHAIN - 1) / ITEMS * 1e6,
        "own thread": (seconds([Apart() for _ in range(5)]) - base) / 4 / ITEMS * 1e6,
        "generator": (seconds([*(Generator() for _ in range(4)), Trivial()]) - base) / 4 / ITEMS * 1e6,
        "source and sink": base / ITEMS * 1e6,
    }


if __name__ == "__main__":
    for name, microseconds in hops().items():
        print(f"{name:16} {microseconds:6.2f} µs per item")
