"""Pipeline: nodes in a row, with tees. Building it checks it; running it makes threads, which end with the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from avlab.core.channel import Receiver, Sender, open_channel
from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError, PipelineError
from avlab.core.item import Item
from avlab.core.node import join
from avlab.flow.ports import check
from avlab.flow.spec import VERSION, known_keys, nodes_from_spec, nodes_to_spec
from avlab.flow.structure import Row, Tee, branch, flatten, shown

if TYPE_CHECKING:
    from avlab.flow.run import Run
    from avlab.flow.statistics import Result


def tee(*branches: object) -> Tee:
    """A fork: every item goes into each branch (a node, a pipeline, or a list of them; ``[]`` passes items on).

    As the last part of a pipeline its branches end by themselves; what follows it gets the results of all branches in the
    order of their arrival. The branches share the values: a node that changes a value in place changes it for all.
    """
    if not branches:
        raise PipelineError("a tee needs at least one branch")
    return Tee(tuple(branch(each) for each in branches))


class Pipeline:
    """Nodes through which items flow: ``Pipeline([source, node, sink])`` or ``source >> node >> sink``.

    The first element is a source node, or any iterable or async iterable of values. The others are nodes (any object with
    ``process``), pipelines, lists of nodes and tees. ``capacity``: items that each queue between two threads holds.

    Items of types that a node's ``process`` is not annotated to take flow past it; order is kept per track. Building raises
    PipelineError naming the edge at which nothing could enter a node.
    """

    def __init__(self, nodes: Iterable[object], *, capacity: int = 8, clock: Clock = monotonic) -> None:
        if not isinstance(capacity, int) or capacity < 1:
            raise ConfigError(f"a queue holds a number of items, at least one: capacity={capacity!r} is impossible")
        self.row: Row = flatten(nodes)
        self.capacity = capacity
        self._clock = clock
        check(self.row)

    def __rshift__(self, other: object) -> Pipeline:
        return Pipeline([self, other], capacity=self.capacity, clock=self._clock)

    def __rrshift__(self, other: object) -> Pipeline:
        return Pipeline([other, self], capacity=self.capacity, clock=self._clock)

    def __repr__(self) -> str:
        return shown(self.row)

    def start(self, watch: Callable[[Item], None] | None = None) -> Run:
        """Open the nodes and start the threads; returns at once with the `Run`. What the last nodes return is dropped.

        watch: called with every item that reaches the end, as `Run.observe` does.

        May be called again when that run has ended. Raises what a node's ``open`` raises, and PipelineError when a node
        is in a running pipeline.
        """
        run = self._planned()
        if watch is not None:
            run.observe(watch)
        return run.start()

    def preview(self, *, runtime: str = "thread", **options: Any) -> Any:
        """Start, with a live view of what reaches the end: display the returned `Run` in a cell.

        runtime: ``thread``, or ``process``: everything runs in a child process, so that a busy cell takes nothing from it; for
        pipelines of registered nodes (`to_spec`), and what is returned has the methods of a run. options: parameters of
        `avlab.Preview`. Raises what `start` raises, ConfigError, and UnknownNode where the notebook part is not installed.
        """
        if runtime == "process":
            return join.preview(self, options, process=True)
        if runtime != "thread":
            raise ConfigError(f"runtime is {runtime!r}: it is 'thread' or 'process'")
        run = self._planned()
        run.preview(**options)
        return run.start()

    def run(self, progress: bool | None = None, timeout: float | None = None) -> Result:
        """Run to the end and return the result with its statistics.

        progress: a progress bar; by default in a notebook and on a terminal. timeout: seconds, after which everything is
        cancelled and TimedOut raised. Raises the first error of a node, when what came before it has reached the end.
        An interrupt (Ctrl-C, the notebook's stop button) stops the run within 2 s, as `Run.stop` does, and is raised again.
        """
        from avlab.flow.watch import watch

        return watch(self._planned(), progress, timeout, getattr(self.row[0], "total", None))

    async def arun(self) -> Result:
        """`run` for an event loop, without a progress bar. Cancelling the task cancels the run."""
        from avlab.flow.consume import ended, started

        run = await started(self.start)
        await ended(run)
        return run.wait()

    def iterate(self) -> Iterator[Item]:
        """Run, and yield each result of the last nodes as an Item. Leaving the loop early cancels the run."""
        from avlab.flow.consume import consume

        return consume(*self._tapped())

    def stream(self) -> AsyncIterator[Item]:
        """`iterate` for an event loop: ``async for item in pipeline.stream()``."""
        from avlab.flow.consume import consume_async

        return consume_async(*self._tapped())

    def _tapped(self) -> tuple[Callable[[], Run], Receiver[Item]]:
        results: Receiver[Item]
        tail, results = open_channel(self.capacity)
        return self._planned(tail, results).start, results

    def _planned(self, tail: Sender[Item] | None = None, results: Receiver[Item] | None = None) -> Run:
        from avlab.core.portal import portal
        from avlab.flow.plan import Plan
        from avlab.flow.run import Run

        check(self.row)
        return Run(Plan(self.row, self.capacity, portal, self._clock, tail), portal, self._clock, results)

    def to_spec(self) -> dict[str, Any]:
        """The pipeline as JSON values (see `avlab.flow.spec`). Raises UnknownNode for a node that is not registered and
        ConfigError for a parameter that JSON cannot carry."""
        spec: dict[str, Any] = {"version": VERSION, "nodes": nodes_to_spec(self.row)}
        return spec if self.capacity == 8 else {**spec, "capacity": self.capacity}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Pipeline:
        """The pipeline that `to_spec` described. Raises UnknownNode with close matches, and ConfigError naming what is wrong
        with the spec."""
        if not isinstance(spec, Mapping):
            raise ConfigError(f"a pipeline spec is a mapping, not {type(spec).__name__}")
        known_keys(spec, {"version", "nodes", "capacity"}, "a pipeline spec")
        if spec.get("version") != VERSION:
            raise ConfigError(f"this avlab reads pipeline specs of version {VERSION}, not {spec.get('version')!r}")
        return cls(nodes_from_spec(spec.get("nodes")), capacity=spec.get("capacity", 8))
