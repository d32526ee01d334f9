"""What many sessions run: each of their workers imports this file, and nothing else."""

from collections.abc import Iterator


class Small:
    def process(self, value: int) -> int:
        return value + 1

    def count(self, most: int) -> Iterator[int]:
        yield from range(most)
