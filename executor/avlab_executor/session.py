"""A session as the executor serves it: a worker, and what its caller has not received yet. It outlives a connection by its grace."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from avlab.core.arriving import whole
from avlab.core.errors import AvlabError, CodecError, LinkClosed, SessionError, SessionLost
from avlab.core.message import (
    Credit,
    End,
    Failure,
    ItemMessage,
    Log,
    Message,
    Open,
    Receipt,
    Resume,
    Resumed,
    Signal,
    SignalKind,
)
from avlab.core.wire import encode
from avlab.remote.config import MAX_GRACE
from avlab.remote.replay import Replay
from avlab_executor.worker_link import WorkerLink

MAX_BATCH = 1 << 20
LINGER_SECONDS = 5.0
"""How long a caller has to confirm why its session ended, before it may ask for that with Resume only."""
_FROM_CALLER = (ItemMessage, Credit, Signal, End)


class Beginning(NamedTuple):
    """How a session begins. preparing: progress of what must be ready first (empty lines: nothing to say); start: its worker."""

    preparing: Generator[Log, None, None]
    start: Callable[[], WorkerLink]


class Session:
    """One worker with one caller. One connection at a time has it, by its epoch; older ones are fenced.

    While there is none the worker works on as far as its credit goes, and waits. After ``grace`` seconds (0: at once) it ends.
    """

    def __init__(self, begin: Beginning, request: Open, owner: str, forget: Callable[[Session], None]) -> None:
        self.name, self.owner, self.grace = request.session, owner, grace_of(request)
        self._begin, self._forget = begin, forget
        self._link: WorkerLink | None = None
        self._killed: tuple[str, str] | None = None
        self._replay = Replay(self.name, keeps=self.grace > 0)
        self._replay.arrived(0)  # the Open
        self._state = threading.Condition()
        self._feeding, self._pulling = threading.Lock(), threading.Lock()
        self._attached: int | None = None
        self._hang_up: Callable[[], None] = lambda: None
        self._timer: threading.Timer | None = None
        self._silent: int | None = None  # the connection whose caller has said all
        self._inputs = self._answered = self._outputs = 0  # numbers of the last ones
        self._leaving = self._over = self._closed = self._freed = False

    def attach(self, hang_up: Callable[[], None]) -> int:
        """Give the session to the connection that opened it; ``hang_up`` ends that when a newer one takes over. Its epoch."""
        with self._state:
            self._attached, self._hang_up = 0, hang_up
        return 0

    def resume(self, request: Resume, hang_up: Callable[[], None]) -> Resumed:
        """Give it to a new connection and fence the old one. Raises LinkError for a request that cannot be."""
        with self._state:
            if self._closed:
                raise SessionLost("the executor has no such session")
            answer = self._replay.accept(request)
            old, self._hang_up = self._hang_up, hang_up
            self._attached = answer.epoch
            self._stop_timer()
            self._state.notify_all()
        self._wake()
        old()
        return answer

    def take(self, message: Message, epoch: int, size: int) -> None:
        """A message from the caller. Raises CodecError for one that is none, LinkClosed when the session is not this
        connection's any more."""
        if isinstance(message, Signal) and message.kind is SignalKind.KILL:
            self.leave(epoch)
            return
        if not isinstance(message, _FROM_CALLER):
            raise CodecError(f"a {type(message).__name__} from a caller")
        if isinstance(message, ItemMessage) and message.slot is not None:
            raise CodecError("a place in shared memory from elsewhere")
        with self._feeding:  # what a fenced connection has still to hand over goes first
            with self._state:
                if self._attached != epoch:
                    raise LinkClosed("another connection has the session")
                self._replay.arrived(size)
                pressing = self._replay.pressing
                self._leaving = self._leaving or isinstance(message, End)
                if isinstance(message, ItemMessage):
                    self._inputs = message.input
                self._state.wait_for(lambda: self._link is not None or self._over or self._attached != epoch)
                if self._link is None:
                    raise LinkClosed("the session has ended before it began")
                link = self._link
            link.send(message)
        if pressing:
            self._wake()

    def see_through(self, epoch: int) -> None:
        """The caller has said all that it had to say: what it has sent is answered, and then the session ends.

        Nothing that arrives will be acknowledged any more: that is done here, and there is no grace. Returns when all is answered.
        """
        if self._leaving:
            return self.leave(epoch)
        with self._feeding:
            with self._state:
                self._silent = epoch
                self._state.notify_all()
            self._wake()
            link, acked, done = self._to_acknowledge(epoch, 0)
            while link is not None:
                link.send(Credit(acked=acked))
                if done:
                    return link.send(End())
                link, acked, done = self._to_acknowledge(epoch, acked)

    def _to_acknowledge(self, epoch: int, acked: int) -> tuple[WorkerLink | None, int, bool]:
        """The worker, when it is to hear that more than ``acked`` outputs have arrived, how many, and whether those are all."""
        with self._state:
            self._state.wait_for(
                lambda: self._attached != epoch
                or self._over
                or (self._leaving and self._link is not None and (self._outputs > acked or self._answered >= self._inputs))
            )
            going = self._attached == epoch and not self._over
            return self._link if going else None, self._outputs, self._answered >= self._inputs

    def silent(self, epoch: int) -> None:
        """The connection broke. A caller that has a grace and wants to leave says End or KILL."""
        if self.grace > 0 and not self._leaving:
            self.detach(epoch)
        else:
            self.leave(epoch)

    def leave(self, epoch: int) -> None:
        """The caller will not come back: the worker ends at once."""
        if epoch == self._replay.epoch:
            self._leaving = True
            self.kill_saying("cancelled", "stopped on request")

    def receipt(self, received: int) -> None:
        """The caller has this many messages. Raises LinkError for more than there were."""
        with self._state:
            self._replay.forget(received)
            self._state.notify_all()

    def outputs(self, epoch: int, position: int) -> Iterator[bytes]:
        """What the connection of this epoch sends, after ``position``, until it is fenced or the session is over."""
        while True:
            if self._unconfirmed(epoch):
                # A broken connection may look like this for a moment, but gRPC goes on only if another message can be sent.
                yield encoded(self._replay.receipt())
                self._let_go(epoch, position)
            with self._state:
                if self._attached != epoch:
                    return
                found = self._replay.pending(position, MAX_BATCH)
                position += len(found)
                if self._replay.pressing:
                    found.append(encoded(self._replay.receipt()))
                if not found and self._over:
                    self._linger(epoch)
                    return
            if found:
                yield found[0] if len(found) == 1 else b"".join(found)
            else:
                self._pull(epoch, position)

    def _unconfirmed(self, epoch: int) -> bool:
        """Whether the connection looks as if its caller had said all."""
        return self._silent == epoch and not self._leaving

    def _let_go(self, epoch: int, position: int) -> None:
        """The caller cannot confirm any more what arrives: from here on nothing is kept for it."""
        with self._state:
            if self._attached == epoch:
                self._leaving, self._replay.keeps = True, False
                self._replay.forget(position)
                self._state.notify_all()

    def _linger(self, epoch: int) -> None:
        """Until the caller has what was sent last; then nothing is worth keeping."""
        if self._replay.keeps and not self._leaving:
            self._state.wait_for(lambda: not self._replay.kept or self._attached != epoch, LINGER_SECONDS)
        self._leaving = self._leaving or not self._replay.kept

    def _pull(self, epoch: int, position: int) -> None:
        """Take over what the worker sends next; only one connection at a time does."""
        with self._pulling:
            with self._state:
                self._state.wait_for(
                    lambda: not self._replay.full or self._attached != epoch or self._unconfirmed(epoch)
                )
                if self._unconfirmed(epoch) or self._attached != epoch or self._replay.sent > position or self._over:
                    return
            if self._link is None:
                self._go_on_beginning()
            else:
                self._read(self._link)

    def _go_on_beginning(self) -> None:
        if self._killed:  # nobody waits for what is prepared
            self._begin.preparing.close()
            self._finish(Failure(message=self._killed[1], reason=self._killed[0]))
            return
        try:
            line = next(self._begin.preparing, None)
            if line is not None:
                if line.data:
                    self._add(encoded(line))
                return
            link = self._begin.start()
        except AvlabError as error:
            self._finish(refusal(error))
            return
        with self._state:
            self._link = link
            self._state.notify_all()
            killed, closed = self._killed, self._closed
        if killed:
            link.kill_saying(*killed)
        if closed:
            link.close()

    def _read(self, link: WorkerLink) -> None:
        try:
            message: Message | None = link.recv()
            size = 0
            while message is not None:
                if not isinstance(message, Credit):  # it was woken
                    data = encoded(message, self._receipt())
                    size += len(data)
                    self._add(data)
                if isinstance(message, ItemMessage):
                    self._count(message)
                message = link.arrived() if size < MAX_BATCH else None
        except SessionError as error:
            done = self._silent is not None and self._leaving and self._answered >= self._inputs
            self._finish(None if done else refusal(error))
        except LinkClosed:
            link.broken_off()
        except AvlabError as error:
            self._finish(Failure(message=f"the worker's messages are malformed: {error}", reason="exit"))

    def _count(self, output: ItemMessage) -> None:
        with self._state:
            self._outputs = output.ordinal
            self._answered = output.input if output.last else self._answered
            if self._silent is not None:
                self._state.notify_all()

    def _receipt(self) -> Receipt | None:
        """What travels with the next message."""
        with self._state:
            return self._replay.receipt() if self._replay.due else None

    def _add(self, data: bytes) -> None:
        with self._state:
            self._replay.add(data)

    def _finish(self, failure: Failure | None) -> None:
        with self._state:
            if failure is not None:
                self._replay.add(encoded(failure))
            self._over = True
            self._state.notify_all()
        if self._link is not None:
            self._link.close()

    def kill_saying(self, reason: str, text: str) -> None:
        """End the worker, and tell its caller why; without a caller the session is over."""
        with self._state:
            self._killed = self._killed or (reason, text)
            link, alone = self._link, self._attached is None
        if link is not None:
            link.kill_saying(reason, text)
        if alone:
            self.close()

    def detach(self, epoch: int) -> None:
        """The connection of this epoch has ended: the grace begins, if the caller may want to come back.

        A session that ends is over when this returns.
        """
        with self._state:
            if self._attached != epoch:
                self._state.wait_for(lambda: self._freed or not self._closed)
                return
            self._attached = None
            gone = self.grace <= 0 or self._leaving
            if not gone:
                self._timer = threading.Timer(self.grace, self._expire, (epoch,))
                self._timer.daemon = True
                self._timer.start()
            self._state.notify_all()
        self._wake()
        if gone:
            self.close()

    def _expire(self, epoch: int) -> None:
        with self._state:
            if self._attached is not None or self._replay.epoch != epoch:
                return
        self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def close(self) -> None:
        """End the worker and forget the session. Idempotent."""
        with self._state:
            if self._closed:
                return
            self._closed, self._attached = True, None
            self._stop_timer()
            self._state.notify_all()
            link = self._link
        if link is not None:
            link.close()
        with self._pulling:  # nobody is at it any more
            self._begin.preparing.close()
        self._forget(self)
        with self._state:
            self._freed = True
            self._state.notify_all()


def grace_of(request: Open) -> float:
    """The seconds that a caller asks for, within what an executor gives."""
    return min(max(0.0, request.grace), float(MAX_GRACE)) if math.isfinite(request.grace) else 0.0


def encoded(message: Message, receipt: Receipt | None = None) -> bytes:
    """The message as bytes of its own, behind a receipt; its place in shared memory is free again."""
    if isinstance(message, ItemMessage) and message.release is not None:
        message.buffers = [whole(buffer) for buffer in message.buffers]
    data = b"".join([*(encode(receipt) if receipt else ()), *encode(message)])
    if isinstance(message, ItemMessage) and message.release is not None:
        message.buffers = ()
        message.release()
    return data


def refusal(error: AvlabError) -> Failure:
    """An avlab error as a Failure that the caller raises again as the same class."""
    return Failure(kind=type(error).__name__, message=str(error), reason=getattr(error, "reason", ""))
