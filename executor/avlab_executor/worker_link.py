"""WorkerLink: the host's end of one worker. A Link that also carries the worker's output, its end and its deadlines."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from avlab.core import errors
from avlab.core.clock import Clock, monotonic
from avlab.core.errors import CodecError, LimitExceeded, LinkClosed, SessionError, WorkerDied
from avlab.core.message import Blob, Credit, End, Failure, ItemMessage, Log, Message, Open, Opened, Signal, SignalKind
from avlab.core.wire import encode
from avlab.remote.interrupts import exposed
from avlab.remote.links.local import LocalLink
from avlab.remote.patience import Patience
from avlab.remote.shared_memory import Memory
from avlab_executor.deadlines import Deadlines
from avlab_executor.exits import Exit
from avlab_executor.printed import Printed
from avlab_executor.process import WorkerProcess
from avlab_executor.watch import usage

REPORT_SECONDS = 2.0
_PART = 1 << 20


class WorkerLink:
    """Owns the worker: closing the link ends it.

    ``recv`` gives what the worker has printed before the messages that it sent after printing. At the worker's end it
    raises WorkerDied or LimitExceeded with the true reason.
    """

    def __init__(self, worker: WorkerProcess, clock: Clock = monotonic) -> None:
        self._worker, self._clock = worker, clock
        self._closing: list[Callable[[], None]] = []
        self._link = LocalLink(worker.socket, Memory(worker.inbox, worker.outbox))
        self._deadlines = Deadlines(worker.limits, clock, lambda text: worker.kill_saying("wall", text))
        self._printed = Printed(worker.stdout, worker.stderr, clock)
        self._held: ItemMessage | None = None  # behind what was printed before it
        self._since: int | None = None  # when the wait for the item under way went on last
        self._output_left = worker.limits.output
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._woken = False
        self._end: WorkerDied | None = None
        self._poll = select.poll()
        self._patience = Patience(self._poll)
        for fd in (*self._printed.pipes, self._link.fileno(), self._bell):
            self._poll.register(fd, select.POLLIN)
        self._receiving, self._ringing = threading.Lock(), threading.Lock()
        self._closed = False
        self.inputs = self.outputs = self.received = self.sent = 0
        """Items, and bytes of their values, to and from the worker."""

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._worker.pid

    @property
    def tier(self) -> str:
        """The tier that the worker is locked in."""
        return self._worker.tier

    def memory(self) -> int:
        """Bytes that this session alone uses now; 0 when the worker is gone."""
        return 0 if self._worker.exited() else usage(self._worker)[0]

    def cpu_seconds(self) -> float:
        """CPU time of the worker so far."""
        end = self._worker.exited()
        return end.cpu_seconds if end else usage(self._worker)[1]

    def exited(self) -> Exit | None:
        """The worker's end; None while it lives."""
        return self._worker.exited()

    def begin(self, request: Open, blobs: Mapping[str, bytes]) -> None:
        """Hand the session over: what the bundle names, then the Open."""
        with suppress(LinkClosed):  # it has ended already: recv says why
            for name, data in blobs.items():
                view = memoryview(data)
                for start in range(0, max(1, len(view)), _PART):
                    self._link.send(Blob(name, view[start : start + _PART], start, len(view)))
            self._link.send(request)

    def send(self, message: Message) -> None:
        if type(message) is Signal and message.kind is SignalKind.INTERRUPT:
            self._link.send(message)  # says which inputs; the signal makes the worker read it
            self._worker.interrupt()
            return
        if type(message) is ItemMessage:
            self.inputs += 1
            self.received += message.nbytes + len(message.meta)
            if self._deadlines.sent():
                self._ring()
        self._link.send(message)

    def hold(self) -> None:
        self._link.hold()

    def flush(self) -> None:
        self._link.flush()

    def wake(self) -> None:
        self._woken = True
        self._ring()

    def _ring(self) -> None:
        """Let whoever waits look again."""
        with self._ringing:
            if not self._closed:
                os.eventfd_write(self._bell, 1)

    def recv(self, timeout: float | None = None) -> Message:
        with self._receiving:
            while True:
                message = self._next()
                if message is not None:
                    return message
                if self._closed:
                    raise LinkClosed("the link is closed")
                if self._end is not None:
                    # A new one each time: with the traceback of one that is kept, the session behind it would be kept too.
                    raise type(self._end)(str(self._end), self._end.reason)
                if self._woken:
                    self._woken = False
                    return Credit()
                self._wait(timeout)

    def arrived(self) -> Message | None:
        with self._receiving:
            return self._next()

    def _next(self) -> Message | None:
        if self._printed.logs:
            return self._printed.logs.popleft()
        if self._held is not None:
            message, self._held = self._held, None
            return message
        while (found := self._link.arrived()) is not None:
            if (passed := self._received(found)) is not None:
                return passed
        return None

    def _wait(self, timeout: float | None) -> None:
        """Until something can be read: a message, and what was printed before it. Raises TimeoutError."""
        limit, counting, since = timeout, False, 0
        if self._deadlines.set:
            over = self._deadlines.over()
            if over is not None:
                return self._kill("wall", over)
            limit = min((x for x in (timeout, self._deadlines.left()) if x is not None), default=None)
            counting, since = self._deadlines.counting, self._since or self._clock()
        with exposed:
            ready = self._patience.poll(None if limit is None else max(0.0, limit) * 1000 + 1)
        if counting:
            self._since = self._clock()
            self._deadlines.waited(self._since - since)
        if self._closed:
            return None
        readable = [fd for fd, _ in ready]
        if self._bell in readable:
            os.eventfd_read(self._bell)
        if self._link.fileno() in readable:
            try:
                self._link.fill()
            except LinkClosed:
                return self._bury()
            except CodecError as error:
                return self._kill("exit", f"what it sends is malformed: {error}")
        if ready:  # after the messages: what was printed before one of them was sent is in the pipes by now
            self._read_printed()
        elif timeout is not None and limit == timeout:
            raise TimeoutError(f"nothing arrived within {timeout} s")
        return None

    def _read_printed(self) -> None:
        size, ended = self._printed.read()
        for fd in ended:
            self._poll.unregister(fd)
        self._count(size)

    def _received(self, message: Message) -> Message | None:
        """The message as it may be passed on; None if it exceeds what the worker may say."""
        if type(message) is ItemMessage:
            if not message.k:
                self._kill("exit", "what it sends is malformed: an input")
                return None
            self._since = None
            self.outputs += 1
            size = message.nbytes + len(message.meta) + len(message.track)  # small values are in the metadata
            if message.failure is not None:
                _credible(message.failure)
                size += sum(map(len, encode(message.failure)))
            self.sent += size
            self._count(size)
            if self._end is not None and self._output_left is not None and self._output_left < 0:
                return None
            if message.last:
                self._deadlines.finished()
            self._printed.settle()
            if self._printed.logs:
                self._held = message
                return self._printed.logs.popleft()
        elif type(message) is Log:
            self._count(len(message.data))
            self._printed.said(message)
            return self._printed.logs.popleft() if self._printed.logs else None
        elif type(message) is Opened:
            message.tier = self._worker.tier  # a worker does not say itself how well it is locked
        elif type(message) is Failure:
            _credible(message)
        elif type(message) not in (Credit, End):  # a Receipt, say, would be taken for the executor's own
            self._kill("exit", f"what it sends is malformed: a {type(message).__name__}")
            return None
        return message

    def _count(self, size: int) -> None:
        if self._output_left is None or self._end is not None:
            return
        self._output_left -= size
        if self._output_left < 0:
            self._worker.kill("output")
            self._bury()

    def _kill(self, reason: str, text: str) -> None:
        self._worker.kill_saying(reason, text)
        self._bury()

    def broken_off(self) -> None:
        """An item of the worker never became complete: `recv` then says why it has ended, as it must if it has not."""
        with self._receiving:
            if self._end is None and not self._closed:
                self._bury("it stopped in the middle of an item")

    def _bury(self, suspicion: str = "it has closed its link and did not end by itself") -> None:
        """The worker has ended or is about to: find out why. What it printed last is read now and delivered first."""
        self._end = WorkerDied("the worker is ending")  # reading the rest must not come here again
        self._read_printed()
        end = self._worker.exited(REPORT_SECONDS)
        if end is None:
            self._worker.kill_saying("exit", suspicion)
            end = self._worker.exited(REPORT_SECONDS)
        self._read_printed()  # it may lose its link before it says why
        self._printed.settle()
        reason, text = (end.reason, end.text) if end else ("exit", "it does not even end when it is killed")
        last = self._printed.last
        text = f"the worker has ended: {text}" + (f"\nits last output:\n{last}" if last else "")
        self._end = (LimitExceeded if reason in ("oom", "cpu", "wall", "output") else WorkerDied)(text, reason)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when the link has been closed."""
        self._closing.append(callback)

    def kill(self) -> None:
        """End the worker at once; ``recv`` then raises WorkerDied with reason "cancelled"."""
        self._worker.kill("cancelled")

    def kill_saying(self, reason: str, text: str) -> None:
        """`kill` with a reason of the caller's."""
        self._worker.kill_saying(reason, text)

    def close(self) -> None:
        with self._ringing:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._bell, 1)
        self._deadlines.close()
        self._worker.kill("cancelled")
        self._link.shut_down()
        with self._receiving:  # nobody reads any more: what they read from may go
            self._link.close()
            self._worker.close()
            os.close(self._bell)
        for callback in self._closing:
            callback()


def _credible(failure: Failure) -> None:
    """A worker's own words: how a session ends is for the host to say."""
    for each in failure.members:
        _credible(each)
    failure.reason = ""
    kind = getattr(errors, failure.kind, None) if failure.kind else None
    if isinstance(kind, type) and issubclass(kind, SessionError):
        failure.kind = ""
