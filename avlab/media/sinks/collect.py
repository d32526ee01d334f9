"""Collect: keeps what arrives, in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from avlab.core.item import Item
from avlab.core.node import Node


class Collect(Node):
    """A sink that keeps items in order of arrival; a new run begins empty.

    limit: keep only the newest so many (None: all of them, as far as memory goes). ``dropped`` counts the others.
    """

    limit: int | None = None

    _kept: Sequence[Item] = ()
    _count = 0

    def open(self) -> None:
        """Begin empty."""
        self._deque: deque[Item] = deque(maxlen=self.limit)
        self._kept, self._count = self._deque, 0

    def process(self, item: Item) -> None:
        """Keep the item."""
        if not self._count:
            self.open()
        self._deque.append(item)
        self._count += 1

    @property
    def items(self) -> list[Item]:
        """The items kept, oldest first."""
        return list(self._kept)

    @property
    def values(self) -> list[Any]:
        """Their values."""
        return [item.value for item in self._kept]

    @property
    def dropped(self) -> int:
        """How many items ``limit`` left no room for."""
        return self._count - len(self._kept)
