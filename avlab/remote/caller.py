"""Caller: the near bank of a session. Numbers and sends inputs, and hands each output to whoever waits for it.

There is no reader thread: the thread that waits for a result reads the link itself, so a blocking call pays no wake-up.
When several threads wait, one reads for all and the turn passes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, Cancelled, CodecError, LinkClosed, SessionClosed, SessionError
from avlab.core.item import Item
from avlab.core.message import Credit, End, Failure, ItemMessage, Log, Message, Mode, Signal, SignalKind
from avlab.core.twin import consumer
from avlab.remote.delivery import IN_FLIGHT, CallerBank
from avlab.remote.exchange import Exchange, Observer
from avlab.remote.failure import ending
from avlab.remote.interrupts import NOTICE, Lock, exposed
from avlab.remote.link import Link

AT_ONCE = 64
"""Messages that are taken in before whoever waits looks whether it is done, late, or interrupted: some send without end."""
END_SECONDS = 1.0
"""How long a session may take to close."""


class Caller:
    """Sends and receives for one session; thread-safe. ``kill`` ends the session's worker when nothing else helps."""

    def __init__(self, link: Link, bank: CallerBank, observer: Observer, clock: Clock = monotonic) -> None:
        self._link, self._bank, self._observer, self._clock = link, bank, observer, clock
        self._sending = Lock()
        lock = threading.RLock()
        self._turn, self._room = threading.Condition(lock), threading.Condition(lock)
        self._reader: Exchange | None = None
        self._waiters = self._feeders = 0
        self._plenty = max(1, bank.granted // 4)
        self._exchanges: dict[int, Exchange] = {}  # input → who waits for its outputs
        self._holders: dict[int, Exchange] = {}  # ordinal of an output that is not delivered → who has it
        self._bytes = 0
        self._acked = self._taken = 0  # outputs that the host knows to be delivered, bytes delivered since
        self._credit_due = False
        self.error: SessionError | None = None

    def room_for(self, size: int) -> bool:
        """Whether an input of ``size`` bytes may be sent now: credit in items and in bytes, but two items always."""
        bank = self._bank
        return bank.room and (self._bytes + size <= IN_FLIGHT or len(self._exchanges) < 2)

    def wait_for_room(self, exchange: Exchange, has_room: Callable[[], bool]) -> None:
        """Until a quarter of the credit is free (for fewer wake-ups), while another thread reads. Raises the session's error."""
        with self._turn:
            while not has_room() and not exchange.abandoned:
                self._check()
                self._feeders += 1
                try:
                    self._room.wait()
                finally:
                    self._feeders -= 1

    def submit(self, exchange: Exchange, message: ItemMessage, parent: Item | None = None) -> bool:
        """Send an input; False when there is no room now. For an abandoned exchange nothing is sent.

        Raises CodecError for an input that cannot travel, and SessionError (with the reason) when the session is over.
        """
        try:
            with self._sending:
                return self._submit(exchange, message, parent)
        except LinkClosed:
            self._find_out()
            return True
        finally:
            self._give_credit()

    def _submit(self, exchange: Exchange, message: ItemMessage, parent: Item | None) -> bool:
        try:
            with self._turn:
                self._check()
                if exchange.abandoned:
                    return True
                if not self.room_for(message.nbytes):
                    return False
                self._number(exchange, message, parent)
            self._observer.sent(message)
            self._link.send(message)
            return True
        except CodecError:
            self._withdraw(exchange, message)
            raise
        except AvlabError:
            raise
        except BaseException as error:  # an interrupt: nobody can tell how much of the message has left
            self.fail(SessionClosed(f"{type(error).__name__} cut an item in two: open a new session"))
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Small inputs that are submitted within travel together. Raises SessionError."""
        self._link.hold()
        try:
            yield
        finally:
            try:
                self._link.flush()
            except LinkClosed:
                self._find_out()

    def _number(self, exchange: Exchange, message: ItemMessage, parent: Item | None) -> None:
        self._bank.number(message)
        self._acked, self._taken = message.acked, 0
        self._exchanges[message.input] = exchange
        exchange.open[message.input] = message.nbytes
        exchange.complete = exchange.complete or message.mode is Mode.FLUSH
        if parent is not None:
            exchange.parents[message.input] = parent
        self._bytes += message.nbytes

    def _withdraw(self, exchange: Exchange, message: ItemMessage) -> None:
        with self._turn:
            self._observer.withdrawn(message)
            del self._exchanges[message.input]
            self._bytes -= exchange.open.pop(message.input)
            exchange.parents.pop(message.input, None)
            self._bank.withdraw(message)

    def signal(self, kind: SignalKind, inputs: Sequence[int] = (), data: bytes = b"") -> None:
        """Send a signal. Raises SessionError."""
        try:
            with self._sending:
                self._check()
                self._link.send(Signal(kind, inputs, data))
        except LinkClosed:
            self._find_out()
        finally:
            self._give_credit()

    def next_output(self, exchange: Exchange, timeout: float | None = None) -> ItemMessage:
        """The exchange's next output. Raises TimeoutError, Cancelled, or the session's error when it has ended."""
        arrived = exchange.arrived
        if not arrived:
            self.wait(exchange, arrived.__len__, timeout)
        return arrived.popleft()

    def wait(self, exchange: Exchange, ready: Callable[[], object], timeout: float | None = None) -> None:
        """Read, or let another thread read, until ``ready()``. Raises TimeoutError, Cancelled and the session's error."""
        turn = self._turn
        exchange.owner = consumer()
        until = None if timeout is None else self._clock() + int(timeout * 1e9)
        left = NOTICE
        while True:
            if until is not None:
                left = min(NOTICE, (until - self._clock()) / 1e9)
                if left < 0:
                    raise TimeoutError
            with turn:
                while self._reader is not None and not ready() and not exchange.cancelled:
                    self._waiters += 1
                    try:
                        with exposed:
                            if not turn.wait(left) and until is not None:
                                break
                    finally:
                        self._waiters -= 1
                if ready():
                    return
                if exchange.cancelled:
                    raise Cancelled("stopped on request")
                if self._reader is not None:
                    continue
                self._check()
                if len(self._holders) > 1:
                    self._check_for_backlog(exchange)
                self._reader = exchange
            try:
                self._read(left)
            finally:
                with turn:
                    self._reader = None
                    if self._waiters:
                        turn.notify_all()
                    if self._feeders and self._bank.granted - self._bank.sent >= self._plenty:
                        self._room.notify_all()
            with exposed:  # there may always be something to read
                pass

    def cancel(self, exchange: Exchange) -> None:
        """Make the thread that waits for this exchange raise Cancelled."""
        with self._turn:
            exchange.cancelled = True
            reads = self._reader is exchange
            self._turn.notify_all()
        if reads:
            self._link.wake()

    def delivered(self, output: ItemMessage) -> None:
        """The consumer has taken this output and asks for more; tells the host when half a window has been taken."""
        with self._turn:
            self._holders.pop(output.ordinal, None)
            self._bank.delivered(output.ordinal)
            self._taken += output.nbytes
            if (self._bank.acked - self._acked) * 2 < self._bank.window and (
                self._taken * 4 < IN_FLIGHT or not self._exchanges
            ):
                return
            self._credit_due = True
        self._give_credit()

    def _give_credit(self) -> None:
        """Send what is due, unless another thread sends: it does so when it is done, and may wait for what only this one's
        reading brings."""
        while self._credit_due and self._sending.acquire(timeout=0):
            try:
                with self._turn:
                    self._credit_due = False
                    self._acked, self._taken = self._bank.acked, 0
                self._link.send(Credit(self._acked))
            except LinkClosed:
                return  # the next receive says why
            finally:
                self._sending.release()

    def abandon(self, exchange: Exchange) -> None:
        """The consumer has left: cancel what it sent, drop what still arrives for it."""
        dropped = self.leave(exchange)
        if self.error is not None or not (dropped or exchange.open):
            return
        if not self._sending.acquire(timeout=0):
            # Another thread sends, or this one, if the garbage collector closes a forgotten iterator just now.
            threading.Thread(target=self.give_up, args=(exchange, dropped), name="avlab-cancel", daemon=True).start()
            return
        self._sending.release()
        self.give_up(exchange, dropped)

    def leave(self, exchange: Exchange) -> list[ItemMessage]:
        """Nobody waits for this exchange any more: what had arrived for it, to be given to `give_up`."""
        with self._turn:
            exchange.abandoned = True
            dropped = list(exchange.arrived)
            exchange.arrived.clear()
            self._turn.notify_all()
            self._room.notify_all()
        return dropped

    def give_up(self, exchange: Exchange, dropped: Iterable[ItemMessage]) -> None:
        """Drop these outputs and cancel the inputs that are under way."""
        for output in dropped:
            self._drop(output)
        try:
            if exchange.open:
                self.signal(SignalKind.CANCEL, list(exchange.open))
        except SessionError:
            return  # it has ended: who uses it next gets the reason

    @property
    def abandoned(self) -> list[int]:
        """Inputs under way that nobody waits for any more."""
        return [number for number, exchange in list(self._exchanges.items()) if exchange.abandoned]

    @property
    def is_abandoned(self) -> bool:
        """Whether what the worker works on now is for nobody any more."""
        first = next(iter(self._exchanges.values()), None)
        return first is not None and first.abandoned

    def _drop(self, output: ItemMessage) -> None:
        if output.release is not None:
            output.buffers = ()
            output.release()
        self.delivered(output)

    def _read(self, timeout: float) -> None:
        """Take in what has arrived, waiting for the first message. What ends the session is kept in ``error``."""
        try:
            self._dispatch(self._link.recv(timeout))
            for _ in range(AT_ONCE):
                if (message := self._link.arrived()) is None:
                    break
                self._dispatch(message)
        except TimeoutError:
            return
        except LinkClosed:
            self.fail(SessionClosed("the executor has ended the session", self._bank.first_undelivered))
        except SessionError as error:
            error.first_undelivered = self._bank.first_undelivered
            self.fail(error)
        except AvlabError as error:  # a malformed or impossible message: this worker is not to be trusted further
            self.fail(SessionError(f"the session is lost: {error}", self._bank.first_undelivered))
            self._link.close()

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, ItemMessage):
            try:
                self._arrive(message)
            except AvlabError:
                raise
            except BaseException as error:
                self.fail(SessionClosed(f"{type(error).__name__} came between a result and its receiver: open a new session"))
                raise
        elif isinstance(message, Log):
            self._observer.logged(message)
        elif isinstance(message, Credit):
            self._bank.granted = max(self._bank.granted, message.granted)
        elif isinstance(message, Failure):
            raise ending(message)

    def _arrive(self, output: ItemMessage) -> None:
        with self._turn:
            if not self._bank.accept(output):
                return
            exchange = self._exchanges[output.input]
            if output.last:
                del self._exchanges[output.input]
                self._bytes -= exchange.open.pop(output.input)
            self._observer.received(output)
            self._holders[output.ordinal] = exchange
            if not exchange.abandoned:
                exchange.arrived.append(output)
                return
        self._drop(output)

    def _check_for_backlog(self, exchange: Exchange) -> None:
        """A call behind a stream that its own thread does not consume would wait for ever: say so instead."""
        if self._bank.received - self._acked < self._bank.window:
            return
        first = self._holders.get(self._bank.acked + 1)
        if first is not None and first is not exchange and first.owner == exchange.owner:
            raise SessionError(
                "this call would wait for ever: an unfinished stream of the same session holds back its results; consume "
                "or close the stream first"
            )

    def end(self) -> None:
        """Tell the host that the session ends, and take in what the object prints while it closes; 1 s at most.

        An object that is at work is not waited for.
        """
        until = self._clock() + int(END_SECONDS * 1e9)
        if not self._sending.acquire(timeout=END_SECONDS):
            return
        try:
            self._link.send(End())
        except LinkClosed:
            return  # it has ended already
        finally:
            self._sending.release()
        with self._turn:
            if self._exchanges or self._reader is not None:
                return
        try:
            while (left := until - self._clock()) > 0:  # whatever comes
                message = self._link.recv(left / 1e9)
                if isinstance(message, Log):
                    self._observer.logged(message)
        except (TimeoutError, AvlabError):
            return  # it has ended, or takes too long

    def fail(self, error: SessionError) -> None:
        """The session is over: everybody who waits gets ``error``."""
        with self._turn:
            if self.error is None:
                self.error = error
            self._turn.notify_all()
            self._room.notify_all()

    def _check(self) -> None:
        if self.error is not None:
            # What arrived before the end has been taken since.
            self.error.first_undelivered = self._bank.first_undelivered
            raise self.error.with_traceback(None)  # of those who met it before

    def broken_off(self, kill: Callable[[], None]) -> None:
        """An output never became complete. Raises what ended its worker, which is killed if nothing did."""
        try:
            self.wait(Exchange(), lambda: False, END_SECONDS)
        except TimeoutError:
            kill()
            self._find_out()

    def _find_out(self) -> None:
        """A send failed: the link's receiving side knows why. Raises it."""
        self.wait(Exchange(), lambda: False)
