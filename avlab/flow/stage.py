"""Stage: one thread of a run. It takes items from a channel, drives its nodes and hands the results on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from avlab.core.channel import ChannelClosed, Receiver, Sender
from avlab.core.clock import Clock
from avlab.core.drive import Emit, accepts, drive, produced
from avlab.core.errors import AvlabError, NodeError, blame
from avlab.core.item import Item, Stamp, stamped
from avlab.core.node import Shape, shape_of
from avlab.core.portal import Scope
from avlab.flow.fuse import Fused
from avlab.flow.meter import Meter


class Cut(AvlabError):
    """The stream ends before its end: deliver what is queued, flush nothing. Never leaves avlab.flow."""


class Step:
    """A node in a run: what the user put into the pipeline, what runs in its place, its name and its meter."""

    def __init__(self, name: str, original: Any, node: Any) -> None:
        self.name, self.original, self.node = name, original, node
        self.shape = shape_of(node)
        self.meter = Meter()


class Joint:
    """A sending end that several stages share; it closes when the last of them has, as cut when one was cut."""

    def __init__(self, sender: Sender[Item], writers: int) -> None:
        self.send = sender.send
        self._sender, self._writers = sender, writers
        self._cause: BaseException | None = None
        self._lock = threading.Lock()

    def close(self, cause: BaseException | None) -> None:
        """One writer has ended."""
        with self._lock:
            self._writers -= 1
            self._cause = self._cause or cause
            last = self._writers == 0
        if last:
            self._sender.close(self._cause)


class Outlet:
    """Where a stage's results go: into every joint, or nowhere."""

    def __init__(self) -> None:
        self.joints: list[Joint] = []
        self.watchers: tuple[Callable[[Item], None], ...] = ()
        self._closed = False
        self._lock = threading.Lock()

    def send(self, item: Item) -> None:
        """Raises ChannelClosed when the outlet or a joint's channel is closed."""
        if self._closed:
            raise ChannelClosed("the outlet is closed")
        for watch in self.watchers:
            watch(item)
        for joint in self.joints:
            joint.send(item)

    def close(self, cause: BaseException | None = None) -> None:
        """End the stream behind this stage. Idempotent: the first call counts."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for joint in self.joints:
            joint.close(cause)


class Stage:
    """One thread's work in a run: a source, a STREAM node, or nodes that `drive` drives (several when they are fused).

    ``fail(error)`` takes an error of the nodes. Downstream then gets what was made before it, and is cut.
    """

    def __init__(self, steps: list[Step], receiver: Receiver[Item] | None, scope: Scope, clock: Clock) -> None:
        self.steps, self.receiver, self.scope = steps, receiver, scope
        self.outlet = Outlet()
        self.waited = Meter()  # times from the node before to this stage
        self.ended = Meter()  # times from the source to the end, when this stage is the last
        self.arrived: dict[str, int] = {}
        self.watchers: tuple[Callable[[Item], None], ...] = ()
        self.fail: Callable[[BaseException], None]
        self._clock = clock
        self._cut = self._interrupted = False
        self._changes: list[tuple[Any, dict[str, Any]]] = []
        self._changes_lock = threading.Lock()

    @property
    def name(self) -> str:
        """The names of its nodes."""
        return " + ".join(step.name for step in self.steps)

    def run(self) -> None:
        """The thread's body."""
        try:
            if self.receiver is None:
                self._source(self.steps[0])
            elif self.steps[0].shape is Shape.STREAM:
                self._stream(self.steps[0], self.receiver)
            else:
                self._driven(self.receiver)
        except (Cut, ChannelClosed):
            self._cut = True
        except Exception as error:  # noqa: BLE001  the run raises it
            self._fail(error)
        except BaseException as error:  # noqa: BLE001  exit() in a node ends the run, not only this thread
            wrapped = NodeError(f"{type(error).__name__} (in {self.name})")
            wrapped.__cause__ = error
            self._fail(wrapped)
        finally:
            self.outlet.close(Cut("an earlier node ended early") if self._cut else None)
            if self.receiver is not None:
                self.receiver.close()

    def _fail(self, error: BaseException) -> None:
        cut_already, self._cut = self._cut, True
        if not cut_already:  # what a node raises because its stream was cut is a consequence
            self.fail(error)

    def change(self, node: Any, parameters: dict[str, Any]) -> None:
        """Set attributes of a node before its next item."""
        with self._changes_lock:
            self._changes = [(n, p) for n, p in self._changes if n is not node or not p.keys() <= parameters.keys()]
            self._changes.append((node, parameters))

    def stop(self, cut: bool) -> None:
        """Let no further item out of a source; ``cut`` says that what is behind it shall not flush."""
        self.outlet.close(Cut("the run was cancelled") if cut else None)
        self._cut = True
        self.interrupt()

    def cancel(self) -> None:
        """End as soon as the node returns; nothing is flushed."""
        self.stop(cut=True)
        if self.receiver is not None:
            self.receiver.close()

    def interrupt(self) -> None:
        """Wake what blocks inside the nodes: coroutines are cancelled, a node's own ``cancel()`` is called (the ``close()`` of
        a STREAM node that has none). Idempotent."""
        self.scope.cancel()
        if self._interrupted:
            return
        self._interrupted = True
        for step in self.steps:
            cancel = getattr(
                step.node, "cancel", getattr(step.node, "close", None) if step.shape is Shape.STREAM else None
            )
            if callable(cancel):
                try:
                    cancel()
                except Exception as error:  # noqa: BLE001  the run raises it
                    error.add_note(f"in {step.name}.cancel")
                    self.fail(error)

    def _source(self, step: Step) -> None:
        clock, meter, send = self._clock, step.meter, self.outlet.send
        with closing(produced(step.node, self.scope)) as items:
            began = clock()
            for item in items:
                now = clock()
                meter.observe(now - began)
                stamps = item.stamps or (Stamp(step.name, now),)
                made = Item(item.value, item.pts, item.time_base, item.track, item.seq, stamps)
                send(made)
                meter.sent += 1
                self._finished(made)
                began = clock()

    def _stream(self, step: Step, receiver: Receiver[Item]) -> None:
        arrivals = _Arrivals(self, step, receiver)
        results = step.node.stream(arrivals)
        try:
            for result in results:
                arrivals.left(result)
                self._emit(result, step)
        except AvlabError:  # also Cut and ChannelClosed; a remote error names the item itself
            raise
        except Exception as error:  # noqa: BLE001  blame raises it
            blame(step.node, None, error, "stream")
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()
        if arrivals.cut:
            raise Cut("an earlier node ended early")

    def _driven(self, receiver: Receiver[Item]) -> None:
        node: Any
        if self.steps[0].shape is Shape.FUNCTION:
            node = Fused([(step.name, step.node, step.meter) for step in self.steps], self.scope, self._clock)
            drive(node, self._fused_items(receiver), self._hand_on, self.scope)
        else:
            step = self.steps[0]
            self._blocked = 0
            drive(step.node, self._items(step, receiver), self._metered(step), self.scope)

    def _hand_on(self, result: Item | None, last: bool) -> None:
        if result is not None:
            self.outlet.send(result)

    def _fused_items(self, receiver: Receiver[Item]) -> Iterator[Item]:
        for item in self._received(receiver):
            yield item
            self._finished(item)

    def _items(self, step: Step, receiver: Receiver[Item]) -> Iterator[Item]:
        takes, clock, meter = accepts(step.node), self._clock, step.meter
        for item in self._received(receiver):
            if takes(item.value):
                meter.received += 1
                began, self._blocked = clock(), 0
                yield item
                meter.observe(clock() - began - self._blocked)
            else:
                self.past(item, step)
            self._finished(item)

    def _metered(self, step: Step) -> Emit:
        def emit(result: Item | None, last: bool) -> None:
            if result is not None:
                began = self._clock()
                self._emit(result, step)
                self._blocked += self._clock() - began

        return emit

    def _emit(self, result: Item, step: Step) -> None:
        if not (result.stamps and result.stamps[-1].hop.startswith(f"{step.name}.")):  # else a remote node has stamped it
            result = stamped(result, Stamp(step.name, self._clock()))
        self.outlet.send(result)
        step.meter.sent += 1

    def past(self, item: Item, step: Step) -> None:
        """Hand on an item that the node does not take."""
        step.meter.passed += 1
        self.outlet.send(stamped(item, Stamp(step.name, self._clock())))

    def _received(self, receiver: Receiver[Item]) -> Iterator[Item]:
        """Items until the stream ends; raises Cut when it is cut. Applies changes of parameters between items."""
        while True:
            try:
                item = receiver.receive()
            except ChannelClosed:
                if self._cut:
                    raise Cut("the run was cancelled") from None
                return
            if item.stamps:
                self.waited.observe(self._clock() - item.stamps[-1].ns)
            if self._changes:
                self._apply()
            for watch in self.watchers:
                watch(item)
            yield item

    def _apply(self) -> None:
        with self._changes_lock:
            changes, self._changes = self._changes, []
        for node, parameters in changes:
            for name, value in parameters.items():
                setattr(node, name, value)

    def _finished(self, item: Item) -> None:
        if not self.outlet.joints:
            self.arrived[item.track] = self.arrived.get(item.track, 0) + 1
            if item.stamps:
                self.ended.observe(self._clock() - item.stamps[0].ns)


class _Arrivals:
    """What a STREAM node pulls: the items that it consumes; the others flow past it. Any one thread may pull.

    A cut stream just ends, so that results under way still come out; ``cut`` tells. The time from an item's entry to its
    first result is measured for the newest 256 items.
    """

    def __init__(self, stage: Stage, step: Step, receiver: Receiver[Item]) -> None:
        self._items = stage._received(receiver)
        self._stage, self._step = stage, step
        self._takes = accepts(step.node)
        self._entered: dict[tuple[str, int], int] = {}
        self.cut = False

    def __iter__(self) -> _Arrivals:
        return self

    def __next__(self) -> Item:
        stage, meter = self._stage, self._step.meter
        while True:
            try:
                item = next(self._items)
                if self._takes(item.value):
                    meter.received += 1
                    if len(self._entered) >= 256:
                        self._entered.pop(next(iter(self._entered)), None)
                    self._entered[item.track, item.seq] = stage._clock()
                    return item
                stage.past(item, self._step)
            except (Cut, ChannelClosed):
                self.cut = True
                raise StopIteration from None

    def left(self, result: Item) -> None:
        """A result came out."""
        entered = self._entered.pop((result.track, result.seq), None)
        if entered is not None:
            self._step.meter.observe(self._stage._clock() - entered)
        self._stage._finished(result)
