"""WorkerLink: the host's end of one worker. A Link that also carries the worker's output, its end and its deadlines."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Mapping

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import LimitExceeded, LinkClosed, WorkerDied
from avlab.core.message import Blob, ItemMessage, Log, Message, Open, Opened, Signal, SignalKind
from avlab.remote.links.local import LocalLink
from avlab.remote.shared_memory import Memory
from avlab_executor.deadlines import Deadlines
from avlab_executor.process import WorkerProcess

READ = 64 << 10
MAX_LOG = 256 << 10
"""Bytes of output that one second may bring; what exceeds it is counted, not kept."""
REPORT_SECONDS = 2.0
_PART = 1 << 20


class WorkerLink:
    """Owns the worker: closing the link ends it.

    ``recv`` gives what the worker has printed before the messages that it sent after printing. At the worker's end it
    raises WorkerDied or LimitExceeded with the true reason.
    """

    resumable = False

    def __init__(self, worker: WorkerProcess, clock: Clock = monotonic) -> None:
        self._worker, self._clock = worker, clock
        self._closing: list[Callable[[], None]] = []
        self._link = LocalLink(worker.socket, Memory(worker.inbox, worker.outbox))
        self._deadlines = Deadlines(worker.limits, clock, lambda text: worker.kill_saying("wall", text))
        self._logs: deque[Log] = deque()
        self._pipes = {worker.stdout: "stdout", worker.stderr: "stderr"}
        self._second, self._in_second, self._dropped = 0, 0, 0
        self._output_left = worker.limits.output
        self._poll = select.poll()
        for fd in (*self._pipes, self._link.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._closed = False

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._worker.pid

    def begin(self, request: Open, blobs: Mapping[str, bytes]) -> None:
        """Hand the session over: what the bundle names, then the Open."""
        for name, data in blobs.items():
            view = memoryview(data)
            for start in range(0, max(1, len(view)), _PART):
                self._link.send(Blob(name, view[start : start + _PART], start, len(view)))
        self._link.send(request)

    def send(self, message: Message) -> None:
        if type(message) is Signal and message.kind is SignalKind.INTERRUPT:
            self._worker.interrupt()
            return
        if type(message) is ItemMessage:
            self._deadlines.sent()
        self._link.send(message)

    def recv(self, timeout: float | None = None) -> Message:
        while True:
            if self._logs:
                return self._logs.popleft()
            message = self._link.arrived()
            if message is not None:
                return self._received(message)
            self._wait(timeout)

    def _wait(self, timeout: float | None) -> None:
        """Until something can be read: output first, then a message. Raises TimeoutError, WorkerDied, LimitExceeded."""
        limit = timeout
        if self._deadlines.set:
            started, left = self._clock(), self._deadlines.left()
            limit = min((x for x in (timeout, left) if x is not None), default=None)
        ready = self._poll.poll(None if limit is None else max(0.0, limit) * 1000 + 1)
        if self._deadlines.set:
            self._deadlines.waited(self._clock() - started)
        readable = [fd for fd, _ in ready]
        for fd in readable:
            if fd in self._pipes:
                self._drain(fd)
        if self._link.fileno() in readable:
            try:
                self._link.fill()
            except LinkClosed:
                self._bury()
        elif not ready:
            over = self._deadlines.over()
            if over is not None:
                self._worker.kill_saying("wall", over)
                self._bury()
            if timeout is not None and (limit == timeout):
                raise TimeoutError(f"nothing arrived within {timeout} s")

    def _drain(self, fd: int) -> None:
        try:
            data = os.read(fd, READ)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(fd)
            del self._pipes[fd]
            return
        second = self._clock() // 1_000_000_000
        if second != self._second:
            self._second, self._in_second = second, 0
        self._count(len(data))
        kept = data[: max(0, MAX_LOG - self._in_second)]
        self._in_second += len(data)
        if kept:
            self._logs.append(Log(self._pipes[fd], kept, dropped=self._dropped))
            self._dropped = 0
        self._dropped += len(data) - len(kept)

    def _received(self, message: Message) -> Message:
        if type(message) is ItemMessage:
            self._count(message.nbytes)
            if message.last:
                self._deadlines.finished()
        elif type(message) is Log:
            self._count(len(message.data))
        elif type(message) is Opened:
            message.tier = self._worker.tier  # a worker does not say itself how well it is locked
        return message

    def _count(self, size: int) -> None:
        if self._output_left is None:
            return
        self._output_left -= size
        if self._output_left < 0:
            self._worker.kill("output")
            self._bury()

    def _bury(self) -> None:
        """The worker has ended or is about to: say why. What it printed last has been read, or is read now."""
        for fd in list(self._pipes):
            self._drain(fd)
        end = self._worker.exited(REPORT_SECONDS)
        if end is None:
            raise WorkerDied("the worker has closed its link and does not end", "exit")
        last = b"".join(log.data for log in self._logs)[-2000:].decode("utf-8", "replace").strip()
        text = f"the worker has ended: {end.text}" + (f"\nits last output:\n{last}" if last else "")
        cls = LimitExceeded if end.reason in ("oom", "cpu", "wall", "output") else WorkerDied
        raise cls(text, end.reason)

    def arrived(self) -> Message | None:
        """A message that has been read already, or None."""
        if self._logs:
            return self._logs.popleft()
        message = self._link.arrived()
        return None if message is None else self._received(message)

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
        if not self._closed:
            self._closed = True
            self._deadlines.close()
            self._link.close()
            self._worker.close()
            for callback in self._closing:
                callback()
