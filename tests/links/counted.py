"""What the tests of resuming run: its state tells whether anything was lost or done twice."""

import os
import time


class Counted:
    """Gives 0 to 3 results for each input, and one more at the end; its state counts them."""

    def __init__(self, ballast: bytes = b"") -> None:
        self.made, self.ballast = 0, ballast

    def process(self, value: int):
        for k in range(value % 4):
            self.made += 1
            yield [value, k, self.made, os.getpid()]

    def flush(self):
        yield [-1, 0, self.made, os.getpid()]

    def sleep(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def pid(self) -> int:
        return os.getpid()

    def printed(self, count: int) -> int:
        for number in range(count):
            print(number)
        return count
