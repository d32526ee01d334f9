"""What the tests of new workers run: each of them imports this file, and nothing else."""

import os
import time


class Stateless:
    """0 to 3 results for each input."""

    stateless = True
    factor: int = 1

    def process(self, value: int):
        if value < 0:
            os._exit(9)
        for k in range(value % 4):
            yield [value * self.factor, k]

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def end(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def twice(self, value: int) -> int:
        return 2 * value


class Counting:
    """Its state counts its results; snapshots hold the state."""

    factor: int = 1
    made: int = 0

    def process(self, value: int):
        for k in range(value % 4):
            self.made += 1
            yield [value * self.factor, k, self.made]

    def flush(self):
        yield [-1, 0, self.made]

    def snapshot(self) -> dict:
        return {"made": self.made}

    def restore(self, state: dict) -> None:
        self.made = state["made"]


class Stateful(Counting):
    """It does not say how to restore it."""

    snapshot = restore = None


class Broken(Counting):
    def snapshot(self) -> dict:
        raise ValueError("no state today")
