"""Host: the far bank of a session. It runs in a locked worker, or in a thread for the in-memory link.

One thread does everything: it reads inputs, runs them through `drive` (or calls the method they name) and sends numbered
outputs. While it waits for credit, and between the results of a generator, it looks for signals.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from avlab.core.clock import Clock, monotonic
from avlab.core.drive import close_node, drive, iterate_async, open_node
from avlab.core.errors import AvlabError, CodecError, ConfigError, LinkClosed, LinkError
from avlab.core.item import Item
from avlab.core.message import Credit, End, ItemMessage, Log, Message, Mode, Open, Opened, Signal, SignalKind
from avlab.core.node import consumes, parameters
from avlab.core.tree import Values
from avlab.remote.delivery import HostBank
from avlab.remote.failure import Hint, describe

if TYPE_CHECKING:
    import asyncio

INPUTS = 64
"""Inputs that may be under way on one session."""
LOOK_NS = 1_000_000
"""Between two inputs the link is looked at this often, as a cancellation may concern those that wait."""


class HostLink(Protocol):
    """What a host needs of its link: a Link that can also be looked at without waiting."""

    def send(self, message: Message) -> None: ...
    def recv(self, timeout: float | None = None) -> Message: ...
    def look(self) -> Message | None: ...


class _Skip(BaseException):
    """The current input was cancelled. Not an Exception, so that no node mistakes it for an error of its own."""


class _Over(BaseException):
    """The link has ended, or the caller breaks the protocol (then with what it did). Not an Exception, as above."""


class Host:
    """Serves one object on one link until the link ends.

    values: codecs of this session. own: modules whose frames are left out of tracebacks. settle: called before each
    output leaves, so that what the code has printed goes first. hint: what to do about an error that user code raised, or "".
    """

    def __init__(
        self,
        link: HostLink,
        target: object,
        request: Open,
        values: Values,
        *,
        clock: Clock = monotonic,
        own: tuple[ModuleType, ...] = (),
        settle: Callable[[], None] = lambda: None,
        hint: Hint = lambda error: "",
    ) -> None:
        self._link, self._target, self._values = link, target, values
        self._clock, self._own, self._settle, self._hint = clock, own, settle, hint
        self._session = request.session
        self._bank = HostBank(window=request.window, inputs=INPUTS)
        self._waiting: deque[tuple[ItemMessage, tuple[int, ...]]] = deque()
        self._cancelled: set[int] = set()
        self._interrupted: set[int] = set()
        self._looked = 0
        self._item: Item | None = None
        self._received: tuple[int, ...] = ()
        self._started = 0
        self._in_user_code = False
        self._returned: Any = None  # by the generator that was iterated last
        self._runner: asyncio.Runner | None = None
        self._is_node = callable(getattr(target, "process", None))
        values.itself = target

    def open(self) -> Opened:
        """Open the node; what the caller learns of it (the tier is for the executor to say). Raises what ``open()`` raises, PipelineError for bad annotations."""
        types = (consumes(self._target) or ()) if self._is_node else ()
        if self._is_node:
            open_node(self._target, self._await)
        return Opened(
            session=self._session,
            window=INPUTS,
            consumes=[f"{t.__module__}.{t.__qualname__}" for t in types],
            stateless=bool(getattr(self._target, "stateless", False)),
            has_process=self._is_node,
            restores=all(callable(getattr(self._target, name, None)) for name in ("snapshot", "restore")),
        )

    def interrupt(self) -> None:
        """For a SIGINT handler: raise KeyboardInterrupt if user code runs now for an input that shall be interrupted."""
        if self._in_user_code:
            self._in_user_code = False
            self._look()
            if self._bank.finished + 1 in self._interrupted:
                self._interrupted = set()
                raise KeyboardInterrupt
            self._in_user_code = True

    def run(self) -> None:
        """Serve until the caller ends the session, breaks the protocol, or the link breaks. SystemExit of user code passes."""
        try:
            self._serve()
        except _Over as over:
            if over.__cause__ is not None:
                self._tell(describe(over.__cause__, own=self._own))
        finally:
            if self._is_node:
                self._close_target()
            if self._runner is not None:
                self._runner.close()

    def _close_target(self) -> None:
        """Nobody waits for an error here any more: it goes where the object prints."""
        try:
            close_node(self._target, self._await)
        except AvlabError as error:
            sys.stderr.write(describe(error, own=self._own).traceback)

    def _serve(self) -> None:
        while True:
            try:
                if self._is_node:
                    drive(self._target, self._inputs(), self._emit, self._await)
                else:
                    for _ in self._inputs():
                        name = type(self._target).__name__
                        remedy = ": avlab.node(…)() makes a node of it" if callable(self._target) else ""
                        raise ConfigError(f"{name} has no process(value), it can be called but not fed with a stream{remedy}")
                    self._emit(None, True)
            except _Skip:
                self._output(ItemMessage(), last=True)
            except (_Over, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  told to the caller as it is
                self._fail(error)

    def _inputs(self) -> Iterator[Item]:
        """Inputs for ``process``, until the end of one stream; calls are answered as they come."""
        while True:
            self._in_user_code = False
            self._item = None
            message = self._next()
            if message.input in self._cancelled:
                self._release(message)
                self._output(ItemMessage(), last=True)
            elif message.mode is Mode.FLUSH:
                self._in_user_code = True
                return
            elif message.mode is Mode.PROCESS:
                self._item = Item(None, message.pts, message.time_base, message.track, message.seq)
                self._item.value = self._decode(message)
                self._in_user_code = True
                yield self._item
            else:
                self._call(message)

    def _call(self, message: ItemMessage) -> None:
        try:
            value = self._decode(message)
            args, kwargs = value if message.packed else ((value,), {})
            self._in_user_code = True
            if message.method == "__await__":
                result = _awaited(self._target)
            else:
                result = getattr(self._target, message.method)(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = self._await(result)
            if message.mode is Mode.CALL:
                try:
                    answer = self._encoded(result)
                except CodecError:
                    if not hasattr(result, "__next__") and not hasattr(result, "__anext__"):
                        raise
                    raise CodecError(
                        f"{_named(self._target, message.method)} returns an iterator ({type(result).__name__}), which cannot leave: "
                        "return a list of what it gives, or yield that, so that it is a generator (session.iterate takes both)"
                    ) from None
                self._output(answer, last=True)
                return
            for value in self._each(iterate_async(result, self._await) if hasattr(result, "__anext__") else result):
                self._output(self._encoded(value), last=False)
                self._in_user_code = True
            self._output(ItemMessage() if self._returned is None else self._encoded(self._returned), last=True)
        except _Skip:
            self._output(ItemMessage(), last=True)
        except (_Over, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  told to the caller as it is
            self._fail(error)

    def _each(self, values: Any) -> Iterator[Any]:
        self._returned = None
        self._returned = yield from values

    def _emit(self, result: Item | None, last: bool) -> None:
        if result is not None:
            message = self._encoded(result.value)
            message.pts, message.time_base = result.pts, result.time_base
            message.track, message.seq = result.track, result.seq
            self._output(message, last)
        elif last:
            self._output(ItemMessage(), last=True)
        self._in_user_code = not last  # after its last result an input can no longer be interrupted

    def _encoded(self, value: Any) -> ItemMessage:
        self._in_user_code = False
        try:
            codec, meta, buffers = self._values.encode(value)
        except CodecError as error:
            raise CodecError(f"a result cannot leave: {error}") from None
        return ItemMessage(codec=codec, meta=meta, buffers=buffers)

    def _output(self, message: ItemMessage, last: bool) -> None:
        """Number and send an output; waits for credit, gives way to a cancellation. Raises CodecError."""
        self._in_user_code = False
        self._settle()
        if not last:
            self._look()
        while not self._bank.room:
            self._receive()
        current = self._bank.finished + 1
        if not last and current in self._cancelled:
            raise _Skip
        message.stamps = (*self._received, self._started, self._clock())
        self._bank.output(message, last)
        try:
            self._tell(message)
        except CodecError:  # it cannot travel
            self._bank.withdraw(message)
            raise
        if last:
            self._cancelled.discard(current)

    def _tell(self, message: Message) -> None:
        try:
            self._link.send(message)
        except LinkClosed:
            raise _Over from None

    def _fail(self, error: BaseException) -> None:
        self._in_user_code = False
        failure = describe(error, self._item, self._own, self._hint)
        failure.input = self._bank.finished + 1
        self._output(ItemMessage(failure=failure), last=True)

    def _next(self) -> ItemMessage:
        if self._clock() - self._looked > LOOK_NS:
            self._look()
        while not self._waiting:
            self._receive()
        message, self._received = self._waiting.popleft()
        self._started = self._clock()
        return message

    def _look(self) -> None:
        """Take what has arrived."""
        self._looked = self._clock()
        try:
            while (message := self._link.look()) is not None:
                self._take(message)
        except LinkClosed:
            raise _Over from None
        except (LinkError, CodecError) as error:
            raise _Over from error

    def _receive(self) -> None:
        """Wait for a message and take it."""
        try:
            if (message := self._link.look()) is not None:
                self._take(message)
            else:
                self._take(self._link.recv(), waited=True)
        except LinkClosed:
            raise _Over from None
        except (LinkError, CodecError) as error:
            raise _Over from error

    def _take(self, message: Message, waited: bool = False) -> None:
        if isinstance(message, ItemMessage):
            if self._bank.accept(message):  # what was there already came at a time that nobody knows
                self._waiting.append((message, (self._clock(),) if waited else ()))
        elif isinstance(message, Credit):
            self._bank.acknowledge(message.acked)
        elif isinstance(message, Signal):
            self._signal(message)
        elif isinstance(message, End):
            raise LinkClosed("the caller has ended the session")

    def _signal(self, signal: Signal) -> None:
        if signal.kind is SignalKind.CANCEL:
            self._cancelled.update(n for n in signal.inputs if self._bank.finished < n <= self._bank.received)
        elif signal.kind is SignalKind.INTERRUPT:
            self._interrupted = set(signal.inputs) or {self._bank.finished + 1}
        elif signal.kind is SignalKind.SET:
            try:
                given = json.loads(signal.data)
            except (ValueError, RecursionError) as error:
                raise LinkError(f"parameters that are not JSON: {error}") from None
            if not isinstance(given, dict):
                raise LinkError(f"parameters that are a {type(given).__name__}, not names with values")
            self._change(given)

    def _change(self, given: dict[str, Any]) -> None:
        """Set parameters. No input asked for it, so what goes wrong is told as output."""
        kind = type(self._target).__name__
        unknown = sorted(set(given) - set(parameters(type(self._target))))
        if unknown:
            self._say(f"{kind} has no parameter {', '.join(unknown)}: nothing was set")
            return
        for name, value in given.items():
            try:
                setattr(self._target, name, value)
            except Exception as error:  # noqa: BLE001  user code's own way of refusing
                refused = describe(error)
                self._say(f"{kind}.{name} was not set: {refused.type}: {refused.message}")

    def _say(self, text: str) -> None:
        self._tell(Log("stderr", f"{text}\n".encode()))

    def _decode(self, message: ItemMessage) -> Any:
        try:
            return self._values.decode(message.codec, message.meta, message.buffers)
        except LinkClosed:
            raise _Over from None
        finally:
            self._release(message)

    def _release(self, message: ItemMessage) -> None:
        if message.release is not None:
            message.buffers = ()
            message.release()

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # not before it is needed: it takes a tenth of a worker's start

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(coroutine)
        except KeyboardInterrupt:
            self._runner.run(_cancel_all())
            raise


def _named(target: Any, method: str) -> str:
    """A method's name, or that of a function that is called."""
    return getattr(target, "__name__", method) if method == "__call__" else method


async def _awaited(target: Any) -> Any:
    return await target


async def _cancel_all() -> None:
    """End the tasks that an interrupt left behind, so that they do not go on during the next input."""
    import asyncio

    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
