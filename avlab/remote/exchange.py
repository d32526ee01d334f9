"""Exchange: what one consumer of a session has sent and what has arrived for it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from avlab.core.item import Item
from avlab.core.message import ItemMessage, Log
from avlab.core.twin import consumer


class Exchange:
    """One consumer: the inputs it has sent and the outputs that have arrived for it."""

    def __init__(self) -> None:
        self.arrived: deque[ItemMessage] = deque()
        self.open: dict[int, int] = {}  # input → bytes, until its last output has arrived
        self.parents: dict[int, Item] = {}  # input → the Item that it was made from, until its last output is taken
        self.owner = consumer()
        self.complete = False  # no more inputs will follow
        self.cancelled = False  # whoever waits shall stop
        self.abandoned = False  # nobody will wait any more


class Observer(Protocol):
    """Sees what passes: for statistics and logs."""

    def sent(self, message: ItemMessage) -> None: ...
    def withdrawn(self, message: ItemMessage) -> None: ...
    def received(self, message: ItemMessage) -> None: ...
    def logged(self, log: Log) -> None: ...
