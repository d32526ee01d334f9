"""Run: the one owner of a pipeline under way. It opens the nodes, starts every thread, joins them, closes the nodes."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from avlab.core.channel import Receiver
from avlab.core.clock import Clock
from avlab.core.drive import close_node, open_node
from avlab.core.errors import Cancelled, ConfigError, PipelineError, TimedOut, UnknownNode
from avlab.core.item import Item
from avlab.core.latch import Latch
from avlab.core.node import join, parameters, produces
from avlab.core.portal import Portal, Scope
from avlab.core.registry import close_matches
from avlab.flow.plan import Plan
from avlab.flow.stage import Stage, Step
from avlab.flow.statistics import Result, Statistics, statistics_of

DEADLINE = 2.0
"""Seconds that a stop may take."""
STALLED = 5.0
"""Seconds without any progress after which a run that failed stops waiting for nodes that do not return."""

_UNDO = 1.6  # seconds for undoing a start, so that an interrupted one ends within 2 s

_busy: dict[int, Any] = {}
_busy_lock = threading.Lock()


def limit(timeout: float | None) -> float | None:
    """A time limit in seconds; None, like infinity, for none. Raises ConfigError for what is no number."""
    if timeout is None or timeout == math.inf:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
        raise ConfigError(f"timeout={timeout!r} is not a number of seconds")
    return timeout


class Run:
    """A pipeline under way, made by ``pipeline.start()``. All methods may be called from any thread.

    Errors: the first one of a node is raised by `wait` and `stop`, later ones are its notes. As a context manager it stops
    at the end of the block.
    """

    def __init__(self, plan: Plan, portal: Portal, clock: Clock, tail: Receiver[Item] | None = None) -> None:
        self._stages, self._steps, self._clock = plan.stages, plan.steps, clock
        self._channels = [s.receiver for s in plan.stages if s.receiver is not None] + ([tail] if tail else [])
        self._scope = Scope(portal, grace=DEADLINE)
        self._lock = threading.Lock()
        self._working: set[Stage] = set()
        self._open: list[Step] = []
        self._threads: dict[Stage, threading.Thread] = {}
        self._settled, self._finished = Latch(), Latch()
        self._callbacks: list[Callable[[], None]] = []
        self._inside = portal
        self._began = clock()
        self._ended: int | None = None
        self._closing, self._closes = False, ""
        self.error: BaseException | None = None
        self._preview: Any = None

    def start(self) -> Run:
        """Open the nodes in order, then start the threads. Raises what ``open`` raises, with all nodes closed again, and
        PipelineError for a node that is in a running pipeline."""
        self._reserve()
        try:
            for step in self._steps:
                self._open.append(step)
                open_node(step.node, self._scope)
            self._began = self._clock()
            for stage in self._stages:
                stage.fail = self._failed
                context = contextvars.copy_context()  # so that prints of nodes appear under the cell that started them
                self._threads[stage] = threading.Thread(
                    target=context.run, args=(self._work, stage), name=f"avlab:{stage.name}"[:60], daemon=True
                )
            self._working = set(self._threads)
            for thread in self._threads.values():
                thread.start()
        except BaseException as error:
            self._unstarted(error)
            raise
        return self

    def _unstarted(self, error: BaseException) -> None:
        """Undo a start that failed or was interrupted, whatever has started already."""
        self._note(error)
        with self._lock:
            self._working = {stage for stage in self._working if self._threads[stage].ident is not None}
            idle = not self._working and not self._closing
            self._closing = self._closing or idle
        if idle:
            self._close(set())
            return
        try:
            self.cancel(_UNDO)
        except BaseException as same:
            if same is not error:
                raise

    def _reserve(self) -> None:
        with _busy_lock:
            for step in self._steps:
                if id(step.original) in _busy:
                    raise PipelineError(f"{step.original!r} is in a pipeline that runs: stop that run first")
            _busy.update((id(step.original), step.original) for step in self._steps)

    def _release(self, steps: list[Step]) -> None:
        with _busy_lock:
            for step in steps:
                _busy.pop(id(step.original), None)

    def _work(self, stage: Stage) -> None:
        with self._lock:
            if stage not in self._working:
                return  # the start was undone before this thread came to life
        try:
            stage.run()
        finally:
            with self._lock:
                self._working.discard(stage)
                left_behind = self._closing
                last = not self._working and not left_behind
                self._closing = left_behind or last
            if last:
                self._close(set())
            elif left_behind:
                self._close_steps(stage.steps)
                self._release(stage.steps)

    def _close(self, left_behind: set[Stage]) -> None:
        """Close the nodes in reverse order and end the run; a thread that was left behind closes its own when it returns."""
        held = {step for stage in left_behind for step in stage.steps}
        self._close_steps([step for step in self._open if step not in held])
        self._release([step for step in self._steps if step not in held])
        self._end()

    def _end(self) -> None:
        self._ended = self._clock()
        self._finished.set()
        self._settled.set()
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _close_steps(self, steps: list[Step]) -> None:
        for step in reversed(steps):
            self._closes = step.name
            try:
                close_node(step.node, self._scope)
            except Exception as error:  # noqa: BLE001  reported: every node must be closed
                self._note(error)

    def _note(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self.error = error
            elif error is not self.error:
                self.error.add_note(f"then also: {type(error).__name__}: {error}")

    def _failed(self, error: BaseException) -> None:
        self._note(error)
        self._stages[0].stop(cut=True)
        self._settled.set()

    @property
    def running(self) -> bool:
        """Whether any of its threads is at work."""
        return bool(self._threads) and not self._finished.is_set()

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end and return the result. Raises the first error of a node; TimedOut after ``timeout`` seconds, while
        the run goes on."""
        if not self._settled.wait(limit(timeout)):
            raise TimedOut(f"the pipeline has not ended within {timeout:g} s")
        self._outlast(STALLED)
        return self._result()

    def _outlast(self, patience: float) -> None:
        """Wait until all threads have ended, or none of them made progress for so long."""
        seen = -1
        while not self._finished.wait(patience):
            progress = sum(step.meter.received + step.meter.sent for step in self._steps)
            if progress == seen:
                self._abandon(patience)
                break
            seen = progress
        self._join()

    def _join(self) -> None:
        for stage, thread in self._threads.items():
            returned = thread.ident is not None and stage not in self._working
            if returned and thread is not threading.current_thread():
                thread.join(DEADLINE)

    def _result(self) -> Result:
        if self.error is not None:
            raise self.error
        return Result(self.statistics(), {step.name: step.original for step in self._steps})

    def stop(self, timeout: float = DEADLINE) -> Result:
        """Stop the source, let what is under way reach the end, flush and close: a file stays playable.

        What is not through after 40 % of ``timeout`` seconds is dropped, still flushing the nodes; after 60 % the rest is
        cancelled. Raises the first error of a node, and Cancelled naming nodes that were not done in time (nothing behind
        them was flushed) or did not even return (their threads are left behind). Idempotent. Called by one of the run's
        own nodes it only asks for the stop.
        """
        if self.running:
            self._stages[0].stop(cut=False)
        if self._is_inside():
            return Result(self.statistics(), {step.name: step.original for step in self._steps})
        if not self._finished.wait(timeout * 0.4):
            for channel in self._channels:
                channel.discard()
            if not self._finished.wait(timeout * 0.2):
                return self._cut_short(timeout)
        self._join()
        return self._result()

    def _cut_short(self, timeout: float) -> Result:
        with self._lock:
            late = ", ".join(stage.name for stage in self._stages[1:] if stage in self._working)
        result = self.cancel(timeout * 0.4)
        if late:
            self._note(Cancelled(f"{late} was not done {timeout * 0.6:g} s after the stop: what was under way is lost"))
            return self._result()
        return result

    def cancel(self, timeout: float = DEADLINE) -> Result:
        """Drop everything that is under way; nodes are closed and not flushed. Raises like `stop`."""
        if self.running:
            for stage in self._stages:
                stage.cancel()
            for channel in self._channels:
                channel.close()
        if not self._is_inside():
            if not self._finished.wait(timeout):
                self._abandon(timeout)
            self._join()
        return self._result()

    def _abandon(self, seconds: float) -> None:
        with self._lock:
            stuck = set(self._working)
            closing, self._closing = self._closing, True
        if closing:  # the nodes' threads have ended, but a close() does not return
            names = f"{self._closes}.close"
        else:
            names = ", ".join(stage.name for stage in self._stages if stage in stuck)
        self._note(Cancelled(f"{names} did not return within {seconds:g} s; the thread is left behind"))
        if closing:
            self._end()
        else:
            self._close(stuck)

    def _is_inside(self) -> bool:
        return self._inside.inside or threading.current_thread() in self._threads.values()

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the run has ended, from one of its threads; at once when it has ended already."""
        with self._lock:
            if not self._finished.is_set():
                self._callbacks.append(callback)
                return
        callback()

    @property
    def nodes(self) -> tuple[Any, ...]:
        """The nodes, in order, as they were put into the pipeline."""
        return tuple(step.original for step in self._steps)

    def observe(self, watch: Callable[[Item], None]) -> None:
        """Call ``watch`` with every item that reaches the end from now on: each result of the last nodes, and what enters those
        that have none. It is called in their threads and must neither block for long nor raise."""
        for stage in self._stages:
            if not stage.outlet.joints:
                end: Any = stage if produces(stage.steps[-1].original) == () else stage.outlet
                end.watchers = (*end.watchers, watch)

    def preview(self, **options: Any) -> Any:
        """The live view of this run: its own `Preview` node, or one (made with ``options``) that shows what reaches its end.
        Raises UnknownNode where the notebook part is not installed."""
        if self._preview is None:
            self._preview = join.preview(self, options)
        return self._preview

    def __repr__(self) -> str:
        row, error = " >> ".join(step.name for step in self._steps), self.error
        return f"Run({row})" + ("" if error is None else f" failed: {type(error).__name__}: {error}")

    def _repr_mimebundle_(self, **_: Any) -> Any:
        """What a notebook shows: the live view of a run that is under way, text otherwise."""
        if self._preview is None and not self.running:
            return {"text/plain": repr(self)}
        try:
            return self.preview()._repr_mimebundle_()
        except UnknownNode:
            return {"text/plain": repr(self)}

    def statistics(self) -> Statistics:
        """Counts, times and queues of every node, now."""
        return statistics_of(self._stages, ((self._ended or self._clock()) - self._began) / 1e9)

    def set(self, node: object, **values: Any) -> None:
        """Change parameters of a node (itself, or its name in the statistics) before its next item.

        Raises ConfigError for an unknown node or parameter, PipelineError when the run has ended.
        """
        stage, step = self._find(node)
        known: Mapping[str, Any] = parameters(type(step.original))
        for name in values:
            if name not in known:
                close = close_matches(name, known) or list(known) or ["none"]
                raise ConfigError(f"{step.name} has no parameter {name!r}; it has: {', '.join(close)}")
        if not self.running:
            raise PipelineError(f"{step.name} cannot be changed: the run has ended")
        own = getattr(step.node, "set", None)
        if callable(own):
            own(**values)
        else:
            stage.change(step.node, values)

    def _find(self, node: object) -> tuple[Stage, Step]:
        real = node
        if not isinstance(node, str | type) and callable(proxied := getattr(node, "__avlab_node__", None)):
            real = proxied()
        for stage in self._stages:
            for step in stage.steps:
                if real is step.original or real is step.node or node == step.name:
                    return stage, step
        raise ConfigError(f"{node!r} is not in this run; there are: {', '.join(step.name for step in self._steps)}")

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            try:
                self.cancel()
            except Exception as own:  # noqa: BLE001  the block's error is the one to raise
                if own is not error:
                    error.add_note(f"while the run was cancelled: {own}")
