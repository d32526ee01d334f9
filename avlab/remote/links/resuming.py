"""A link that outlives its connections: one session as a call, and as the next call after a cut, until its grace is over."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakSet

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, ConnectError, LinkClosed, LinkError, SessionLost
from avlab.core.message import (
    MAX_ITEM,
    Credit,
    End,
    Failure,
    ItemMessage,
    Log,
    Message,
    Opened,
    Receipt,
    Resumed,
    Signal,
    SignalKind,
)
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote import pages, tracing
from avlab.remote.failure import restore
from avlab.remote.interrupts import exposed
from avlab.remote.outbox import Outbox
from avlab.remote.replay import Replay
from avlab.remote.tracing import Trace

NOTICE_SECONDS = 1.0
"""A cut that lasts longer is told to whoever waits."""
_WAITING = 256
_MOST_BYTES = 2 * MAX_ITEM  # of batches that have arrived since all was taken last; one more is allowed
_BUFFER = 256  # bytes that a buffer costs here besides its content
_FROM_EXECUTOR = (Opened, ItemMessage, Credit, Log, End, Failure)
_KILL_SECONDS = 1.0
_PAUSE = 0.1  # between two calls of which the first has failed
_open: WeakSet[ResumingLink] = WeakSet()  # those whose workers would outlive this process for a while


class Broken(Exception):
    """A connection broke. ``error``: what that means to a session that does not outlive it."""

    def __init__(self, error: AvlabError) -> None:
        super().__init__(str(error))
        self.error = error


class Call(Protocol):
    """One streaming call: what the executor says, batch by batch."""

    def __iter__(self) -> Iterator[bytes]:
        """Empty bytes, or a batch, as soon as the executor has taken the call. Raises Broken, or what a refusal stands for."""

    def cancel(self) -> None:
        """Break it off. From any thread."""


Dial = Callable[[Iterator[bytes], bool], Call]
"""Makes a call from its requests; whether it shall wait for a connection."""


class ResumingLink:
    """One session. A thread reads it, because a blocked gRPC read can be neither timed nor interrupted; after a cut the same
    thread calls again and goes on where the session stopped.

    ``grace``: seconds that a cut may last (0: the session ends with its connection); ``patience``: that it may last while nothing
    has arrived yet, and that the executor may take to answer. ``probe`` says in words why it cannot be reached. ``recv`` gives a Log
    when a cut lasts longer than a moment; it raises SessionLost when that lasts too long, or when the executor does not know the
    session any more, ConnectError when it does not answer.
    """

    def __init__(
        self,
        dial: Dial,
        url: str,
        session: str = "",
        grace: float = 0.0,
        patience: float = 10.0,
        probe: Callable[[], str] = lambda: "",
        trace: Trace | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self._dial, self._url, self._trace, self._clock = dial, url, trace, clock
        self._grace, self._patience, self._probe = grace, patience, probe
        self._replay = Replay(session, keeps=grace > 0)
        self._outbox = Outbox(self._replay)
        self._arrived: deque[Message] = deque()
        self._unread = 0  # bytes that came while something waited in it
        self._changed = threading.Condition()
        self._error: AvlabError | None = None
        self._cut_at: int | None = None  # since when there has been no connection
        self._killing = False
        self._anew = self._opens = False  # the next call, or the present one, sends the Open again
        self._began, self._heard = clock(), False  # whether the executor has ever answered
        self._overdue = False  # whether a call was given up
        self._told: Log | None = None  # what was said of the present cut
        self._timer = threading.Timer(0, lambda: None)
        self._call = call = dial(self._outbox.begin(position=0), False)
        self._awaited: Call | None = call  # the call that has not been answered yet
        self._watch(call, patience)
        self._reader = threading.Thread(target=self._run, name="avlab-link", daemon=True)
        self._reader.start()
        if grace:
            _open.add(self)

    def hold(self) -> None:
        self._outbox.hold()

    def flush(self) -> None:
        self._outbox.flush()

    def send(self, message: Message) -> None:
        self._outbox.put(message)

    def recv(self, timeout: float | None = None) -> Message:
        with self._changed:
            while not self._arrived:
                if self._error is not None:
                    raise self._error
                with exposed:
                    arrived = self._changed.wait(timeout)
                if not arrived:
                    raise TimeoutError(f"nothing arrived within {timeout} s")
            message = self._arrived.popleft()
            if len(self._arrived) == _WAITING - 1 or not self._arrived:
                self._changed.notify_all()
            return message

    def arrived(self) -> Message | None:
        return self.recv() if self._arrived else None

    def wake(self) -> None:
        with self._changed:
            self._arrived.append(Credit())
            self._changed.notify_all()

    def kill(self) -> None:
        """End the worker at once. Out of reach, it ends when the session's grace is over."""
        with self._changed:
            self._killing = True
            self._changed.notify_all()
            self._call.cancel()

    def close(self) -> None:
        with self._changed:
            self._error = self._error or LinkClosed("the link is closed")
            self._changed.notify_all()
        self._outbox.end()
        self.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    # The reading thread.

    def _run(self) -> None:
        error: AvlabError | None = None
        try:
            while error is None:
                try:
                    error = self._read() or self._call_again()
                except AvlabError as refused:
                    error = refused
        finally:  # whatever it was: nobody shall wait for a thread that has ended
            self._end(error or LinkError("an internal error of the link to the executor"))

    def _end(self, error: AvlabError) -> None:
        self._call.cancel()
        with self._changed:
            self._error, self._awaited = self._error or error, None
            self._timer.cancel()
            self._changed.notify_all()
        self._outbox.end()
        _open.discard(self)
        if self._trace is not None:
            self._trace.end("" if isinstance(self._error, LinkClosed) else tracing.kind_of(self._error))

    def _read(self) -> AvlabError | None:
        """Take in what the present call brings. Why it ended; None for a cut that may be healed."""
        try:
            for data in self._call:
                if self._awaited is not None and self._cut_at is None:
                    self._connected()
                pages.expect(len(data))
                with self._changed:
                    while self._full and self._error is None:
                        self._changed.wait()
                    self._unread = len(data) + (self._unread if self._arrived else 0)
                for message in decode_batch(data):
                    self._take(message, len(data))
                if self._replay.pressing:
                    self._outbox.wake()
        except Broken as broken:
            if self._grace and (self._error is None or self._killing):
                return None
            return self._lost(self._patience) if self._overdue else broken.error
        return None if self._anew else LinkClosed("the executor has ended the session")

    def _take(self, message: Message, size: int) -> None:
        if isinstance(message, Receipt):
            with self._outbox.changed:
                self._replay.forget(message.received)
                self._outbox.changed.notify_all()
        elif self._cut_at is None:
            self._put(message, size)
        else:
            self._go_on(message, size)

    def _put(self, message: Message, size: int) -> None:
        with self._outbox.changed:
            self._replay.arrived(size, urgent=isinstance(message, Failure))
        if not isinstance(message, _FROM_EXECUTOR):
            message = Credit()  # nobody takes it, and it may be far larger here than it was on its way
        with self._changed:
            if isinstance(message, ItemMessage):
                self._unread = _BUFFER * len(message.buffers) + (self._unread if self._arrived else size)
            while self._full and self._error is None:
                self._changed.wait()
            self._arrived.append(message)
            self._changed.notify_all()

    @property
    def _full(self) -> bool:
        """Whether enough waits to be taken."""
        return len(self._arrived) >= _WAITING or (self._unread > _MOST_BYTES and bool(self._arrived))

    def _go_on(self, message: Message, size: int) -> None:
        """The first message after a cut. Raises what a refusal stands for."""
        if self._killing and self._error is not None and not isinstance(message, Failure):
            return  # closed: the worker ends, and then the call does
        if isinstance(message, Resumed):
            with self._outbox.changed:
                position = self._replay.resumed(message)
            self._connected()
            self._outbox.go(position)
        elif self._opens:
            self._connected()
            self._put(message, size)
        elif not isinstance(message, Failure):
            raise LinkError("the executor resumes a session with something else than Resumed")
        elif self._replay.received or self._killing or not self._replay.has(0):
            refused = restore(message)
            if isinstance(refused, SessionLost):
                refused.answered = True
            raise refused
        else:  # the Open has not arrived: nothing is lost if it is sent again
            self._anew = True

    def _connected(self) -> None:
        """The executor has answered."""
        with self._changed:
            self._cut_at = self._awaited = None
            self._heard = True
            self._timer.cancel()
            told, self._told = self._told, None
            if told is not None and told in self._arrived:
                self._arrived.remove(told)  # nobody has seen it
            elif told is not None:
                self._say(f"{self._url} answers again")

    def _call_again(self) -> AvlabError | None:
        """Call again after a cut. Why not, if that is over."""
        with self._changed:
            now = self._clock()
            if self._cut_at is None:
                self._cut_at = now if self._heard else self._began
            elif not self._killing:
                self._changed.wait(_PAUSE)
            allowed = self._grace if self._replay.received else min(self._grace, self._patience)
            allowed = min(allowed, _KILL_SECONDS) if self._killing else allowed
            left = allowed - (now - self._cut_at) / 1e9
            if self._error is not None and not self._killing:
                return self._error
            if left > 0:
                self._call = self._awaited = call = self._dial(self._first_requests(), True)
                self._watch(call, left)
                return None
        return self._lost(allowed)

    def _lost(self, allowed: float) -> AvlabError:
        """What is raised when the executor was out of reach for too long."""
        why = self._probe() if not self._killing else ""
        why = f" ({why})" if why else ""
        if not self._heard:
            return ConnectError(f"the executor at {self._url} has not answered within {allowed:g} s{why}")
        text = f"the connection to {self._url} was lost and did not come back within {allowed:g} s{why}"
        return SessionLost(text) if self._replay.received else ConnectError(text)

    def _watch(self, call: Call, left: float) -> None:
        """Tell whoever waits that the call is not answered, a moment after the cut; give the call up in ``left`` seconds."""
        since = (self._clock() - (self._cut_at or self._began)) / 1e9
        pause = left if self._told or self._killing else min(left, max(0.0, NOTICE_SECONDS - since))
        self._timer.cancel()
        self._timer = threading.Timer(pause, self._impatient, (call, left - pause))
        self._timer.daemon = True
        self._timer.start()

    def _impatient(self, call: Call, left: float) -> None:
        why = self._probe() if left > 0 else ""
        with self._changed:
            if self._awaited is not call:
                return
            if left <= 0:
                self._overdue = True
                call.cancel()
                return
            what = f"the connection to {self._url} was lost" if self._heard else f"{self._url} does not answer"
            self._told = self._say(f"{what}{f' ({why})' if why else ''}: trying for {left:.0f} s more")
            self._watch(call, left)

    def _say(self, text: str) -> Log:
        """A line among what the worker prints."""
        line = Log("stderr", f"avlab: {text}\n".encode())
        self._arrived.append(line)
        self._changed.notify_all()
        return line

    def _first_requests(self) -> Iterator[bytes]:
        self._opens, self._anew = self._anew, False
        if self._opens:
            return self._outbox.begin(position=0)
        with self._outbox.changed:
            parts: list[Message] = [self._replay.resume()]
        if self._killing:
            parts.append(Signal(SignalKind.KILL))
        return self._outbox.begin(encode_batch(parts))


@atexit.register
def _close_all() -> None:
    """A process that ends leaves no worker waiting for it."""
    for link in list(_open):
        link.close()
