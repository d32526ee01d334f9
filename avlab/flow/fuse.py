"""Fused: a row of cheap local nodes that run as one, in one thread, so that a hop between them costs about a microsecond."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avlab.core.clock import Clock
from avlab.core.drive import Await, flushed
from avlab.core.errors import blame
from avlab.core.item import Item, Stamp, inherit, stamped
from avlab.core.node import consumes, takes_item
from avlab.flow.meter import Meter


class _Step:
    __slots__ = ("meter", "name", "node", "previous", "process", "types", "whole")

    def __init__(self, name: str, node: Any, meter: Meter) -> None:
        self.name, self.node, self.meter = name, node, meter
        self.process = node.process
        self.types = consumes(node) or (object,)
        self.whole = takes_item(node)
        self.previous: Item | None = None


class Fused:
    """A FUNCTION-shaped node made of others of that shape. Each keeps its own routing by type, errors, flush and meter."""

    def __init__(self, nodes: list[tuple[str, Any, Meter]], run: Await, clock: Clock) -> None:
        self._steps = [_Step(*node) for node in nodes]
        self._run, self._clock = run, clock

    def process(self, item: Item) -> Item | None:
        """The item after all nodes, or None when one of them dropped it. Raises NodeError naming the node and the item."""
        return self._through(self._steps, item)

    def flush(self) -> Iterator[Item]:
        """What each node holds back, sent through the nodes behind it."""
        for index, step in enumerate(self._steps):
            for held in flushed(step.node, step.previous, self._run):
                step.meter.sent += 1
                result = self._through(self._steps[index + 1 :], stamped(held, Stamp(step.name, self._clock())))
                if result is not None:
                    yield result

    def _through(self, steps: list[_Step], item: Item) -> Item | None:
        clock, stamp = self._clock, tuple.__new__  # a third of the time of Stamp(...)
        for step in steps:
            value, meter = item.value, step.meter
            if not isinstance(value, step.types):
                meter.passed += 1
                item = stamped(item, Stamp(step.name, clock()))
                continue
            meter.received += 1
            step.previous = item
            began = clock()
            try:
                value = step.process(item if step.whole else value)
                now = clock()
                result = inherit(value, item, stamp(Stamp, (step.name, now)))
            except Exception as error:  # noqa: BLE001  blame raises it
                blame(step.node, item, error)
            meter.observe(now - began)
            if result is None:
                return None
            meter.sent += 1
            item = result
        return item
