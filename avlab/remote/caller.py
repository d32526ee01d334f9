"""Caller: the near bank of a session. Numbers and sends inputs, and hands each output to whoever waits for it.

There is no reader thread: the thread that waits for a result reads the link itself, so a blocking call pays no wake-up.
When several threads wait, one reads for all and the turn passes on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, LinkClosed, SessionClosed, SessionError
from avlab.core.item import Item
from avlab.core.message import Credit, End, Failure, ItemMessage, Log, Message, Signal, SignalKind
from avlab.remote.delivery import CallerBank
from avlab.remote.failure import restore
from avlab.remote.link import Link

IN_FLIGHT = 12 << 20
"""Payload bytes that may be under way: more would fall out of the processor's cache before it is read again."""
COOPERATIVE, FORCED = 0.3, 1.2
"""Seconds that a cancellation, and then a SIGINT, have before the next harder step; together under 2 s."""


class Exchange:
    """One consumer: the inputs it has sent and the outputs that have arrived for it."""

    def __init__(self) -> None:
        self.arrived: deque[ItemMessage] = deque()
        self.open: dict[int, int] = {}  # input → bytes, until its last output has arrived
        self.parents: dict[int, Item] = {}  # input → the Item that it was made from, until its last output is taken
        self.complete = False  # no more inputs will follow
        self.waiting = False
        self.abandoned = False


class Observer(Protocol):
    """Sees what passes: for statistics and logs."""

    def sent(self, message: ItemMessage) -> None: ...
    def received(self, message: ItemMessage) -> None: ...
    def logged(self, log: Log) -> None: ...


class Caller:
    """Sends and receives for one session; thread-safe. ``kill`` ends the session's worker when nothing else helps."""

    def __init__(self, link: Link, bank: CallerBank, window: int, observer: Observer, clock: Clock = monotonic) -> None:
        self._link, self._bank, self._observer, self._clock = link, bank, observer, clock
        self._window = window
        self._sending = threading.Lock()
        self._turn = threading.Condition()
        self._reading = False
        self._waiters = 0
        self._exchanges: dict[int, Exchange] = {}
        self._bytes = 0
        self._acked = 0
        self.error: AvlabError | None = None

    def room_for(self, size: int) -> bool:
        """Whether an input of ``size`` bytes may be sent now: credit in items and in bytes, but two items always."""
        bank = self._bank
        return bank.room and (self._bytes + size <= IN_FLIGHT or len(self._exchanges) < 2)

    def wait_for_room(self, exchange: Exchange, size: int) -> None:
        """Until an input of this size may be sent, while another thread reads. Raises the session's error."""
        with self._turn:
            while not self.room_for(size) and not exchange.abandoned:
                self._check()
                self._waiters += 1
                try:
                    self._turn.wait()
                finally:
                    self._waiters -= 1

    def submit(self, exchange: Exchange, message: ItemMessage, parent: Item | None = None) -> None:
        """Send an input; there must be room. Raises SessionError (with the reason) when the session is over."""
        size = message.nbytes
        with self._sending:
            with self._turn:
                self._check()
                self._bank.number(message)
                self._acked = message.acked
                self._exchanges[message.input] = exchange
                exchange.open[message.input] = size
                if parent is not None:
                    exchange.parents[message.input] = parent
                self._bytes += size
            self._observer.sent(message)
            try:
                self._link.send(message)
            except LinkClosed:
                self._find_out()

    def signal(self, kind: SignalKind, data: bytes = b"") -> None:
        """Send a signal about everything that was submitted so far. Raises SessionError."""
        with self._sending:
            self._check()
            try:
                self._link.send(Signal(kind, self._bank.sent, data))
            except LinkClosed:
                self._find_out()

    def next_output(self, exchange: Exchange, timeout: float | None = None) -> ItemMessage:
        """The exchange's next output. Raises TimeoutError, or the session's error when it has ended."""
        arrived = exchange.arrived
        if not arrived:
            self.wait(exchange, arrived.__len__, timeout)
        return arrived.popleft()

    def wait(self, exchange: Exchange, ready: Callable[[], object], timeout: float | None = None) -> None:
        """Read, or let another thread read, until ``ready()``. Raises TimeoutError and the session's error."""
        turn = self._turn
        while True:
            with turn:
                exchange.waiting = True
                while self._reading and not ready():
                    self._waiters += 1
                    try:
                        if not turn.wait(timeout):
                            raise TimeoutError
                    finally:
                        self._waiters -= 1
                        exchange.waiting = False
                if ready():
                    exchange.waiting = False
                    return
                self._check()
                if len(self._exchanges) > len(exchange.open):
                    self._check_for_backlog(exchange)
                self._reading = True
            try:
                self._read(timeout)
            finally:
                with turn:
                    self._reading = exchange.waiting = False
                    if self._waiters:
                        turn.notify_all()

    def delivered(self, output: ItemMessage) -> None:
        """The consumer has taken this output and asks for more; tells the host when half a window has been taken."""
        with self._turn:
            self._bank.delivered(output.ordinal)
            acked = self._bank.acked
            if (acked - self._acked) * 2 < self._window:
                return
            self._acked = acked
        with self._sending:
            try:
                self._link.send(Credit(acked))
            except LinkClosed:
                return  # the next receive says why

    def abandon(self, exchange: Exchange) -> None:
        """The consumer has left: cancel what it sent, drop what still arrives for it."""
        with self._turn:
            exchange.abandoned = True
            dropped = list(exchange.arrived)
            exchange.arrived.clear()
            self._turn.notify_all()
        for output in dropped:
            self._drop(output)
        if exchange.open and self.error is None:
            self.signal(SignalKind.CANCEL)

    def interrupt(self, exchange: Exchange, kill: Callable[[], None]) -> None:
        """End the exchange's work: cancel, then SIGINT in the worker, then kill; returns within 2 s."""
        try:
            for kind, seconds in ((SignalKind.CANCEL, COOPERATIVE), (SignalKind.INTERRUPT, FORCED)):
                self.signal(kind)
                if self._drain(exchange, seconds):
                    return
            kill()
        except SessionError:
            return  # it ended by itself
        except KeyboardInterrupt:
            kill()

    def _drain(self, exchange: Exchange, seconds: float) -> bool:
        until = self._clock() + int(seconds * 1e9)
        while exchange.open or exchange.arrived:
            try:
                self._drop(self.next_output(exchange, max(0.0, (until - self._clock()) / 1e9)))
            except TimeoutError:
                return False
        return True

    def _drop(self, output: ItemMessage) -> None:
        if output.release is not None:
            output.buffers = ()
            output.release()
        self.delivered(output)

    def _read(self, timeout: float | None) -> None:
        """Take in what has arrived, waiting for the first message. What ends the session is kept in ``error``."""
        try:
            self._dispatch(self._link.recv(timeout))
            while (message := self._link.arrived()) is not None:
                self._dispatch(message)
        except LinkClosed:
            self.fail(SessionClosed("the executor has ended the session", self._bank.first_undelivered))
        except SessionError as error:
            error.first_undelivered = self._bank.first_undelivered
            self.fail(error)
        except AvlabError as error:  # a malformed or impossible message: this worker is not to be trusted further
            self.fail(error)
            self._link.close()

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, ItemMessage):
            self._arrive(message)
        elif isinstance(message, Log):
            self._observer.logged(message)
        elif isinstance(message, Credit):
            self._bank.granted = max(self._bank.granted, message.granted)
        elif isinstance(message, Failure):
            self.fail(restore(message, self._bank.first_undelivered))

    def _arrive(self, output: ItemMessage) -> None:
        with self._turn:
            if not self._bank.accept(output):
                return
            exchange = self._exchanges[output.input]
            if output.last:
                del self._exchanges[output.input]
                self._bytes -= exchange.open.pop(output.input)
            self._observer.received(output)
            if not exchange.abandoned:
                exchange.arrived.append(output)
                return
        self._drop(output)

    def _check_for_backlog(self, exchange: Exchange) -> None:
        """A call behind a stream that its own thread does not consume would wait for ever: say so instead."""
        others = {id(e): e for e in self._exchanges.values() if e is not exchange and not e.waiting}
        if any(len(e.arrived) >= self._window for e in others.values()):
            raise SessionError(
                "this call would wait for ever: an unfinished stream of the same session holds back its results; consume or "
                "close the stream first"
            )

    def end(self) -> None:
        """Tell the host that the session ends."""
        with self._sending:
            try:
                self._link.send(End())
            except LinkClosed:
                return  # it has ended already

    def fail(self, error: AvlabError) -> None:
        """The session is over: everybody who waits gets ``error``."""
        with self._turn:
            if self.error is None:
                self.error = error
            self._turn.notify_all()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _find_out(self) -> None:
        """A send failed: the link's receiving side knows why."""
        with self._turn:
            if self._reading:  # its reader will learn the reason
                return
        while self.error is None:
            self._read(None)
        self._check()
