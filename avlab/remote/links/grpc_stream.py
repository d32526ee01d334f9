"""The gRPC link: one session as a streaming call, and as the next call after a cut, until its grace is over."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import grpc

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, ConnectError, Denied, LinkClosed, LinkError, SessionLost
from avlab.core.message import (
    MAX_ITEM,
    Credit,
    Failure,
    ItemMessage,
    Log,
    Message,
    Receipt,
    Resumed,
    Signal,
    SignalKind,
)
from avlab.core.scrub import scrubbed
from avlab.core.wire import decode_batch, encode, encode_batch
from avlab.remote import tracing
from avlab.remote.failure import restore
from avlab.remote.interrupts import NOTICE, exposed
from avlab.remote.replay import Replay
from avlab.remote.tracing import Trace

MAX_BATCH = 4 << 20
"""Small messages that wait together travel together, up to this many bytes."""
MAX_DETAILS = 4000
"""Characters of a server's own words in an error."""
_WAITING = 256
_MOST_BYTES = 2 * MAX_ITEM  # of payloads that have arrived and are not taken yet
_SMALL = 8 << 10
_KILL_SECONDS = 1.0
_PAUSE = 0.1  # between two calls of which the first has failed
_CUT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How gRPC calls a connection that broke."""
_open: WeakSet[GrpcLink] = WeakSet()  # those whose workers would outlive this process for a while

Dial = Callable[[Iterator[bytes], bool], Any]
"""Makes a streaming call from its requests; whether it shall wait for a connection."""


class Outbox:
    """What a session has to say: bounded, batched, and kept until it has arrived. Each call takes it from its own position."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.changed = threading.Condition()
        self._ended = self._holding = False
        self._position = 0
        self._first: bytes | None = None  # what the present call says before anything else
        self._going = True
        self.call = 0

    def put(self, message: Message) -> None:
        """Add a message; waits while too many wait. Raises LinkClosed and what encoding raises."""
        replay = self.replay
        parts = encode(message)
        with self.changed:
            while (replay.sent - self._position >= _WAITING or replay.full) and not self._ended:
                with exposed:
                    self.changed.wait(NOTICE)
            if self._ended:
                raise LinkClosed("the link to the executor is closed")
            # Not before there is room: a receipt that waits here could be what the other side waits for to make some.
            data = b"".join([*(encode(replay.receipt()) if replay.due else ()), *parts])
            replay.add(data)
            if not self._holding or len(data) > _SMALL:
                self.changed.notify_all()

    def hold(self) -> None:
        """Small messages that follow wait for `flush`."""
        self._holding = True

    def flush(self) -> None:
        """What waits may go."""
        self._holding = False
        with self.changed:
            self.changed.notify_all()

    def end(self) -> None:
        """No more messages; what waits still goes."""
        with self.changed:
            self._ended = True
            self.changed.notify_all()

    def begin(self, first: bytes | None = None, position: int | None = None) -> Iterator[bytes]:
        """The requests of the next call; those of the one before end. Messages follow ``first`` when `go` has been called."""
        with self.changed:
            self.call += 1
            self._first, self._going = first, position is not None
            self._position = position or 0
            self.changed.notify_all()
            return self._requests(self.call)

    def go(self, position: int) -> None:
        """The present call may send what follows ``position``."""
        with self.changed:
            self._position, self._going = position, True
            self.changed.notify_all()

    def wake(self) -> None:
        """A receipt is due."""
        with self.changed:
            self.changed.notify_all()

    def _requests(self, call: int) -> Iterator[bytes]:
        replay = self.replay
        while True:
            with self.changed:
                while True:
                    if call != self.call:
                        return
                    parts = [] if self._first is None else [self._first]
                    self._first = None
                    if self._going:
                        if replay.pressing:
                            parts.append(encode_batch([replay.receipt()]))
                        found = replay.pending(self._position, MAX_BATCH)
                        self._position += len(found)
                        parts += found
                    if parts:
                        break
                    if self._ended:
                        return
                    self.changed.wait()
                self.changed.notify_all()
            yield parts[0] if len(parts) == 1 else b"".join(parts)


class GrpcLink:
    """One session. A thread reads it, because a blocked gRPC read can be neither timed nor interrupted; after a cut the same
    thread calls again and goes on where the session stopped.

    ``grace``: seconds that a cut may last (0: the session ends with its connection); ``patience``: that it may last while nothing
    has arrived yet. ``recv`` raises SessionLost when a cut lasts longer, or when the executor does not know the session any more.
    """

    def __init__(
        self,
        dial: Dial,
        url: str,
        session: str = "",
        grace: float = 0.0,
        patience: float = 0.0,
        trace: Trace | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self._dial, self._url, self._trace, self._clock = dial, url, trace, clock
        self._grace, self._patience = grace, min(grace, patience)
        self._replay = Replay(session, keeps=grace > 0)
        self._outbox = Outbox(self._replay)
        self._arrived: deque[Message] = deque()
        self._changed = threading.Condition()
        self._error: AvlabError | None = None
        self._cut_at: int | None = None  # since when there has been no connection
        self._killing = False
        self._anew = self._opens = False  # the next call, or the present one, sends the Open again
        self._patience_ends = threading.Timer(0, lambda: None)
        self._call = dial(self._outbox.begin(position=0), False)
        self._reader = threading.Thread(target=self._run, name="avlab-grpc", daemon=True)
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
            if len(self._arrived) == _WAITING - 1 or _size(message) > _SMALL:
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
        while error is None:
            try:
                error = self._read() or self._call_again()
            except AvlabError as refused:
                error = refused
        self._call.cancel()
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._outbox.end()
        self._patience_ends.cancel()
        _open.discard(self)
        if self._trace is not None:
            self._trace.end("" if isinstance(self._error, LinkClosed) else tracing.kind_of(self._error))

    def _read(self) -> AvlabError | None:
        """Take in what the present call brings. Why it ended; None for a cut that may be healed."""
        try:
            for data in self._call:
                if len(data) > _SMALL:
                    with self._changed:
                        while sum(map(_size, self._arrived)) > _MOST_BYTES and self._error is None:
                            self._changed.wait()
                for message in decode_batch(data):
                    self._take(message, len(data))
                if self._replay.pressing:
                    self._outbox.wake()
        except grpc.RpcError as broken:
            if not self._grace or broken.code() not in _CUT or (self._error is not None and not self._killing):
                return translate(broken, self._url)
            return None
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
        with self._changed:
            while len(self._arrived) >= _WAITING and self._error is None:
                self._changed.wait()
            self._arrived.append(message)
            self._changed.notify_all()

    def _go_on(self, message: Message, size: int) -> None:
        """The first message after a cut. Raises what a refusal stands for."""
        if self._killing and self._error is not None:
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
            raise restore(message)
        else:  # the Open has not arrived: nothing is lost if it is sent again
            self._anew = True

    def _connected(self) -> None:
        self._cut_at = None
        self._patience_ends.cancel()

    def _call_again(self) -> AvlabError | None:
        """Call again after a cut. Why not, if that is over."""
        with self._changed:
            now = self._clock()
            if self._cut_at is None:
                self._cut_at = now
            elif not self._killing:
                self._changed.wait(_PAUSE)
            allowed = self._grace if self._replay.received else self._patience
            allowed = min(allowed, _KILL_SECONDS) if self._killing else allowed
            left = allowed - (now - self._cut_at) / 1e9
            if left <= 0 or (self._error is not None and not self._killing):
                text = f"the connection to {self._url} was lost and did not come back within {allowed:g} s"
                return SessionLost(text) if self._replay.received else ConnectError(text)
            self._call = call = self._dial(self._first_requests(), True)
        self._patience_ends.cancel()
        self._patience_ends = _timer(left, self._give_up, call)
        return None

    def _give_up(self, call: Any) -> None:
        with self._changed:
            if self._cut_at is not None and self._call is call:
                call.cancel()

    def _first_requests(self) -> Iterator[bytes]:
        self._opens, self._anew = self._anew, False
        if self._opens:
            return self._outbox.begin(position=0)
        with self._outbox.changed:
            parts: list[Message] = [self._replay.resume()]
        if self._killing:
            parts.append(Signal(SignalKind.KILL))
        return self._outbox.begin(encode_batch(parts))


def _size(message: Message) -> int:
    if type(message) is ItemMessage:
        return message.nbytes
    return len(message.data) if type(message) is Log else 0


def _timer(seconds: float, function: Callable[..., None], *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()
    return timer


_REFUSED = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
)


def translate(error: Any, url: str) -> AvlabError:
    """gRPC's exceptions stay here."""
    code, details = error.code(), scrubbed(error.details() or "", MAX_DETAILS)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ConnectError(f"no executor answers at {url} ({details}): is `avlab executor serve` running there?")
    if code in _REFUSED:
        return Denied(f"the executor at {url} refuses: {details}")
    if code is grpc.StatusCode.CANCELLED:
        return LinkClosed("the link to the executor was closed")
    return LinkError(f"the executor at {url} failed: {code.name}: {details}")


@atexit.register
def _close_all() -> None:
    """A process that ends leaves no worker waiting for it."""
    for link in list(_open):
        link.close()
