"""RestartingLink: a session that goes on with a new worker when its worker has died, for objects that say that they can.

An object that says ``stateless = True`` gets the inputs again whose results had not all arrived. One with ``snapshot`` and
``restore`` gets its last state back and all inputs since then; results that had arrived before are recognised by their numbers
and dropped, so that each is delivered once. That holds for code that makes the same results of the same inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import (
    AvlabError,
    ConnectError,
    Denied,
    LinkClosed,
    PoisonItem,
    SessionError,
    SessionLost,
    WorkerDied,
)
from avlab.core.message import Credit, End, Failure, ItemMessage, Message, Opened, Signal, SignalKind
from avlab.core.wire import encode
from avlab.remote.failure import ending
from avlab.remote.link import Link
from avlab.remote.succession import Succession

TRIES = 3
"""Workers that may die on one input before it is called poison."""
_RECOVERABLE = (
    "signal",
    "exit",
    "seccomp",
    "oom",
    "stopped",
)  # not: limits on what the whole session may use, and kills on request
_PAUSE = 0.2  # seconds between two attempts to reach an executor that is being restarted

Reopen = Callable[[Callable[[Link], None]], tuple[Link, Opened]]
"""Opens the session anew; tells the link as soon as there is one, so that it can be ended."""


class RestartingLink:
    """A Link over the links of one worker after the other. ``patience``: seconds for which an executor may be out of reach.

    ``recv`` raises the worker's own end when no other one can follow, PoisonItem for an input on which three have died.
    """

    def __init__(
        self, link: Link, opened: Opened, reopen: Reopen, *, window: int, patience: float, clock: Clock = monotonic
    ) -> None:
        self._link, self._reopen, self._patience, self._clock = link, reopen, patience, clock
        self._succession = Succession(opened, window, clock)
        self._lock, self._sending = threading.RLock(), threading.Lock()
        self._dying: Failure | None = None  # how the worker has ended; told when what came before has been taken
        self._culprit = self._tries = self.restarts = 0
        self._ended = threading.Event()
        self._stands = True  # the present worker has begun: what it is told has its numbers

    def send(self, message: Message) -> None:
        if self._ended.is_set():
            raise LinkClosed("the link is closed")
        if isinstance(message, ItemMessage):
            encode(message, inline=False)  # what cannot travel is refused now, not when it is sent again
            with self._lock:
                self._succession.add(message)
        elif isinstance(message, Credit):
            with self._lock:
                self._succession.acknowledge(message.acked)
            self._say(message)
            if self._succession.holds:
                self._link.wake()
        elif isinstance(message, Signal):
            self._signal(message)
        elif isinstance(message, End):
            self._ended.set()  # no worker follows this one
            self._say(message)
        self._pump()

    def _signal(self, signal: Signal) -> None:
        with self._lock:
            if signal.kind is SignalKind.SET:
                return self._succession.change(signal)
            if signal.kind is SignalKind.CANCEL:
                self._succession.cancel(signal.inputs)
        return self._say(signal)

    def _say(self, message: Message) -> None:
        """Tell the present worker. Between two workers there is none, and the next one is told what still matters."""
        with self._sending, suppress(LinkClosed):  # who receives learns why
            with self._lock:
                addressed = self._addressed(message) if self._stands else None
            if addressed is not None:
                self._link.send(addressed)

    def _addressed(self, message: Message) -> Message | None:
        """The message with the present worker's numbers; None if it has none of the inputs."""
        if isinstance(message, Credit):
            return Credit(self._succession.tell())
        if isinstance(message, Signal) and message.inputs:
            under_way = self._succession.translated(message.inputs)
            return Signal(message.kind, under_way, message.data) if under_way else None
        return message

    def _pump(self) -> None:
        """Send what the worker's credit allows, in order; one thread at a time."""
        while self._pending() and self._sending.acquire(blocking=False):
            try:
                while (message := self._due()) is not None:
                    self._link.send(message)
            except LinkClosed:
                return  # who receives learns why; a new worker gets it all
            finally:
                self._sending.release()

    def _pending(self) -> bool:
        with self._lock:
            return self._stands and self._succession.pending

    def _due(self) -> Message | None:
        with self._lock:
            return self._succession.due() if self._stands else None

    def recv(self, timeout: float | None = None) -> Message:
        while True:
            found = self.arrived()
            if found is not None:
                return found
            try:
                message, self._dying = self._dying or self._link.recv(timeout), None
                if isinstance(message, Failure):
                    raise ending(message)
            except (WorkerDied, SessionLost) as error:
                self._restart(error)
                continue
            passed = self._translated(message)
            if passed is not None:
                return passed

    def arrived(self) -> Message | None:
        with self._lock:
            released = self._succession.released()
        if released is not None:
            return released
        while self._dying is None and (found := self._link.arrived()) is not None:
            if isinstance(found, Failure):
                self._dying = found
            elif (passed := self._translated(found)) is not None:
                return passed
        return None

    def _translated(self, message: Message) -> Message | None:
        """The message as the caller shall see it; None for one that is not for it, or not yet."""
        if not isinstance(message, ItemMessage):
            return message
        with self._lock:
            passed = self._succession.take(message)
        self._pump()
        return passed

    def _restart(self, error: SessionError) -> None:
        """Go on with a new worker. Raises ``error`` when that is impossible or was asked not to be, and PoisonItem."""
        if self._ended.is_set() or getattr(error, "reason", "stopped") not in _RECOVERABLE:
            raise error
        if isinstance(error, SessionLost) and not error.answered:
            raise error  # the executor was tried for as long as the grace is
        first = self._succession.first_unfinished
        self._tries = self._tries + 1 if first == self._culprit else 1
        self._culprit = first
        if self._tries >= TRIES:
            self._ended.set()
            if not first:
                raise error
            raise PoisonItem(f"input {first}: {self._tries} workers have died on it, the last one so: {error}", first)
        self._link.close()
        with self._sending:
            self._stands = False
        opened = self._reopened(error)
        with self._lock:
            self.restarts += 1
            self._succession.begin(opened)
            self._stands = True
        self._pump()

    def _reopened(self, error: SessionError) -> Opened:
        until = self._clock() + int(self._patience * 1e9)
        while True:
            try:
                return self._reopen(self._use)[1]
            except (ConnectError, Denied, SessionError) as refused:
                reason: AvlabError = refused
                if self._clock() < until and not self._ended.wait(_PAUSE):
                    continue
            except AvlabError as refused:
                reason = refused
            error.add_note(f"and no other worker can be had: {reason}")
            raise error

    def _use(self, link: Link) -> None:
        self._link = link
        if self._ended.is_set():
            link.close()

    def hold(self) -> None:
        self._link.hold()

    def flush(self) -> None:
        with suppress(LinkClosed):  # who receives learns why
            self._link.flush()

    def wake(self) -> None:
        self._link.wake()

    def kill(self) -> None:
        """End the worker; no other one follows."""
        self._ended.set()
        getattr(self._link, "kill", self._link.close)()

    def close(self) -> None:
        self._ended.set()
        self._link.close()
