"""avlab's embedded executor: a sandboxed worker of the default tier, payloads in shared memory."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from echo import Basic, Echo, Opener

import avlab
from avlab.core.clock import monotonic

# Nothing tells that a pool is warm again.
REFILL_SECONDS = 0.3


class Contender(Basic):
    def __init__(self, url: str = "local:") -> None:
        self.executor = avlab.connect(url)
        self.session = self.executor.open(Echo())
        self.about = f"tier {self.session.tier}"

    def call(self, value: Any) -> Any:
        return self.session.call("process", value)

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        return self.session.stream(iter(values))

    def first(self) -> float:
        threading.Event().wait(REFILL_SECONDS)
        began = monotonic()
        with self.executor.open(Opener()) as session:
            session.call("process", np.zeros(1))
            return (monotonic() - began) / 1e6

    def close(self) -> None:
        self.executor.close()
