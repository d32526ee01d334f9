"""From structure to stages: which nodes share a thread, and which channels join the threads.

Adjacent local FUNCTION nodes share one thread (`avlab.flow.fuse`). A thread of its own has: the source; a node of any other
shape; a node that says ``own_thread = True`` (worth it when it is heavy and releases the GIL); and the last node of a run,
so that decoding, processing and encoding overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avlab.core.channel import Keep, Policy, Receiver, Sender, open_channel
from avlab.core.clock import Clock
from avlab.core.errors import PipelineError
from avlab.core.item import Item
from avlab.core.node import Shape, join, shape_of
from avlab.core.portal import Portal, Scope
from avlab.flow.stage import Joint, Outlet, Stage, Step
from avlab.flow.structure import Row, Tee, label, names

_LIVE_CAPACITY = 2  # behind a live source little is queued, so that what is shown is new
_LIVE_BOUND = 256  # items of all tracks together in the channel behind a live source


class Plan:
    """The stages of one run, in order, and their channels. ``tail`` takes the results of the last nodes."""

    def __init__(self, row: Row, capacity: int, portal: Portal, clock: Clock, tail: Sender[Item] | None = None) -> None:
        if not row or isinstance(row[0], Tee) or shape_of(row[0]) is not Shape.SOURCE:
            first = label(row[0]) if row else "nothing"
            raise PipelineError(f"the pipeline starts with {first}: put a source, a list or a generator before it")
        self.stages: list[Stage] = []
        self.steps: list[Step] = []
        self._names, self._portal, self._clock = names(row), portal, clock
        live = getattr(row[0], "live", False)
        self._source_live = live
        self._live, self._capacity = bool(live), min(capacity, _LIVE_CAPACITY) if live else capacity
        self._ends_here = tail is None
        source = self._stage([self._step(row[0])], None)
        self._first, self._keep = source.outlet, _keep(live)
        ends = self._row(row[1:], [source.outlet], last=True)
        if tail is not None:
            _connect(ends, tail)

    def _row(self, row: Row, ends: list[Outlet], last: bool) -> list[Outlet]:
        """Add the stages of a row behind open ends; the new open ends."""
        cheap: list[Step] = []
        for index, element in enumerate(row):
            final = last and index == len(row) - 1
            if isinstance(element, Tee):
                ends = self._behind(cheap, ends)
                cheap = []
                ends = [end for each in element.branches for end in self._row(each, ends, final)]
                ends = list(dict.fromkeys(ends))
                continue
            step = self._step(element)
            alone = step.shape is not Shape.FUNCTION or getattr(element, "own_thread", False)
            if alone or (final and self._ends_here):
                ends = self._behind(cheap, ends)
                cheap = []
            cheap.append(step)
            if alone:
                ends = self._behind(cheap, ends)
                cheap = []
        return self._behind(cheap, ends)

    def _behind(self, steps: list[Step], ends: list[Outlet]) -> list[Outlet]:
        if not steps:
            return ends
        policy = Policy.LATEST if self._live and self._first in ends else Policy.BLOCK
        sender, receiver = open_channel(_LIVE_BOUND if policy is Policy.LATEST else self._capacity, policy, self._keep)
        _connect(ends, sender)
        return [self._stage(steps, receiver).outlet]

    def _stage(self, steps: list[Step], receiver: Receiver[Item] | None) -> Stage:
        stage = Stage(list(steps), receiver, Scope(self._portal), self._clock)
        self.stages.append(stage)
        return stage

    def _step(self, node: Any) -> Step:
        remote = getattr(node, "remote", None)
        placed = node if remote is None else join.place(node, remote)
        if shape_of(placed) is Shape.STREAM and self._live and getattr(placed, "live", False) is None:
            placed.live = self._source_live
        step = Step(self._names[id(node)], node, placed)
        self.steps.append(step)
        return step


def _connect(ends: list[Outlet], sender: Sender[Item]) -> None:
    for end in ends:
        end.joints.append(Joint(sender, 1))
    if len(ends) > 1:
        shared = Joint(sender, len(ends))
        for end in ends:
            end.joints[-1] = shared


def _keep(live: Any) -> Keep[Item]:
    """A live source keeps the newest item of each track, or as many as its ``live`` mapping says for a track."""
    depths: Mapping[str, int] = live if isinstance(live, Mapping) else {}
    return lambda item: (item.track, depths.get(item.track, 1))
