"""Session: one object in one worker, used from here."""

from __future__ import annotations

import json
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import Cancelled, ConfigError, LinkClosed, SessionClosed
from avlab.core.item import Item, Stamp
from avlab.core.message import ItemMessage, Log, Mode, Opened, SignalKind
from avlab.core.scrub import cell
from avlab.core.status import label
from avlab.core.tree import Values
from avlab.core.twin import Closing, in_thread
from avlab.remote.caller import Caller
from avlab.remote.delivery import CallerBank
from avlab.remote.exchange import Exchange
from avlab.remote.failure import restore
from avlab.remote.feed import Feed
from avlab.remote.interrupts import shielded
from avlab.remote.latest import Latest
from avlab.remote.link import Connection, Link
from avlab.remote.statistics import Meter, SessionStatistics
from avlab.remote.stopping import stop
from avlab.remote.tracing import enabled, tracing
from avlab.remote.twins import aiterate, astream, left_iterations

WINDOW = 32
"""Outputs that may be under way before the consumer has asked for the next."""
OnLog = Callable[[Log], None]


def new_session_id() -> str:
    """An unguessable name: resuming a session needs no more than knowing it."""
    return secrets.token_hex(16)


class Session(Closing):
    """A session on an object in a worker. Thread-safe; a context manager (also async).

    Results come in the order of their inputs. Remote exceptions are RemoteError (and the builtin type that they were);
    a worker's death is WorkerDied or LimitExceeded with its reason, and then every later use raises the same.
    """

    def __init__(
        self,
        link: Link,
        values: Values,
        opened: Opened,
        *,
        name: str = "",
        on_log: OnLog | None = None,
        kill: Callable[[], None] | None = None,
        live: bool = False,
        executor: object = None,
        clock: Clock = monotonic,
    ) -> None:
        self._live, self._executor = live, executor  # which ends with its last session at the earliest
        self._link, self._values, self._opened, self._clock = link, values, opened, clock
        self.name, self.on_log = name, on_log
        self._tier = cell(opened.tier, 80)  # goes into tables on terminals
        self._meter = Meter(clock)
        self._stamped = tuple(f"{name}.{hop}" for hop in ("sent", "received", "started", "finished", "arrived"))
        bank = CallerBank(window=WINDOW)
        bank.granted = opened.window
        self._caller = Caller(link, bank, self, clock)
        self._kill = kill or link.close
        self._closed = False
        self._forgotten = weakref.finalize(self, close_soon, link)
        self._forgotten.atexit = False

    @property
    def tier(self) -> str:
        """The isolation tier that the executor achieved for this session."""
        return self._tier

    @property
    def label(self) -> str:
        """Its name in the executor's tables and logs."""
        return label(self._opened.session)

    @property
    def closed(self) -> bool:
        """Whether the session can no longer be used."""
        return self._closed or self._caller.error is not None

    @property
    def consumes(self) -> Sequence[str]:
        """Type names that the object's ``process`` takes; empty: everything."""
        return self._opened.consumes

    @property
    def itself(self) -> Any:
        """What a remote ``return self`` becomes here."""
        return self._values.itself

    @itself.setter
    def itself(self, value: Any) -> None:
        self._values.itself = value

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object and return its one result. Raises RemoteError, CodecError, SessionError."""
        if not enabled():
            return self._call(Exchange(), method, args, kwargs)
        about = {"avlab.session": self.label, "avlab.node": self.name, "avlab.method": method}
        with tracing("avlab.call", attributes=about):
            return self._call(Exchange(), method, args, kwargs)

    def iterate(self, method: str, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Call a method that returns an iterator; yields each value when it is made, returns what a generator
        returns. Leaving early cancels it."""
        return self._iterate(Exchange(), method, args, kwargs)

    def stream(self, items: Iterable[Any], *, live: bool | Mapping[str, int] | None = None) -> Iterator[Any]:
        """Feed ``process`` with items and yield its results, in order, while items are still being sent.

        Items in, Items out; plain values in, plain values out. ``items`` is pulled only as far as there is credit, from a
        thread of its own unless it is a list or tuple. At its end the object's ``flush`` gives what it held back.
        Raises what a result raises after all results before it; leaving early cancels the rest.

        live (default: as the session's config says): ``items`` is pulled as it comes, two items at most are under way, and the newest
        of each track is sent next; the others are dropped and counted in `statistics`. A mapping says how many of a track are kept.
        """
        return self._stream(Exchange(), items, live)

    def set(self, **parameters: Any) -> None:
        """Change parameters of the object between two items. Raises ConfigError for values that are not plain data.

        A name that the object has no parameter of is told as output of the worker, and nothing is set then.
        """
        try:
            data = json.dumps(parameters).encode()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"parameters must be plain data: {error}") from None
        with shielded:
            self._caller.signal(SignalKind.SET, data=data)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs in the worker now."""
        with shielded:
            self._caller.signal(SignalKind.INTERRUPT)

    def statistics(self) -> SessionStatistics:
        """Counts since the session was opened, percentiles of recent trips."""
        meter = self._meter
        return SessionStatistics(
            tier=self.tier,
            inputs=meter.inputs,
            outputs=meter.outputs,
            bytes_sent=meter.bytes_sent,
            bytes_received=meter.bytes_received,
            dropped=meter.dropped,
            restarts=getattr(self._link, "restarts", 0),
            busy=meter.busy / 1e9,
            offset=meter.offset,
            hops=meter.hops(),
        )

    def close(self) -> None:
        """End the session; its worker goes. Idempotent."""
        with shielded:
            if self._closed:
                return
            self._closed = True
            self._forgotten.detach()
            going_on = self._caller.error is None
            self._caller.fail(SessionClosed(f"session {self.name!r} is closed: open a new one"))
            try:
                if going_on:
                    self._caller.end()
            finally:
                self._link.close()

    async def acall(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """`call` for async code. Cancelling it interrupts the remote code, as the stop button does."""
        exchange = Exchange()
        await left_iterations()
        return await in_thread(
            lambda: self._call(exchange, method, args, kwargs), lambda: self._caller.cancel(exchange)
        )

    def aiterate(self, method: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """`iterate` for async code."""
        exchange = Exchange()
        return aiterate(lambda: self._iterate(exchange, method, args, kwargs), lambda: self._caller.cancel(exchange))

    def astream(self, items: Any, *, live: bool | Mapping[str, int] | None = None) -> AsyncIterator[Any]:
        """`stream` for async code; ``items`` may be an async iterable."""
        exchange = Exchange()
        return astream(
            lambda values: self._stream(exchange, values, live), items, lambda: self._caller.cancel(exchange)
        )

    def __repr__(self) -> str:
        return f"<Session {self.name!r} tier={self.tier!r} {'closed' if self.closed else 'open'}>"

    def sent(self, message: ItemMessage) -> None:
        """An input leaves (called by the caller bank)."""
        self._meter.sent(message)

    def withdrawn(self, message: ItemMessage) -> None:
        """It could not leave (called by the caller bank)."""
        self._meter.withdrawn(message)

    def received(self, message: ItemMessage) -> None:
        """An output arrives (called by the caller bank)."""
        self._meter.received(message)

    def logged(self, log: Log) -> None:
        """Output of the worker arrives (called by the caller bank)."""
        if self.on_log is not None:
            self.on_log(log)

    def _call(self, exchange: Exchange, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            with shielded:
                self._ask(exchange, Mode.CALL, method, args, kwargs)
                output = self._caller.next_output(exchange)
                try:
                    return self._value(output)
                finally:
                    self._caller.delivered(output)
        except (KeyboardInterrupt, Cancelled):
            self._stop(exchange)
            raise
        except BaseException:
            with shielded:
                self._caller.abandon(exchange)
            raise

    def _iterate(self, exchange: Exchange, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        with shielded:
            self._ask(exchange, Mode.ITERATE, method, args, kwargs)
            return _begun(self._outputs(exchange, self._value, lambda: None, returns=True))

    def _stream(
        self, exchange: Exchange, items: Iterable[Any], live: bool | Mapping[str, int] | None = None
    ) -> Iterator[Any]:
        live = self._live if live is None else live
        latest = None
        with shielded:  # when threads pull and feed there is a consumer, who can leave
            if live:
                latest = Latest(items, live if isinstance(live, Mapping) else {}, self._meter.drop)
            feed = Feed(self._caller, self._values, items, exchange, latest)
            return _begun(self._outputs(exchange, lambda output: self._result(output, feed), feed.pump))

    def _ask(self, exchange: Exchange, mode: Mode, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        packed = bool(kwargs) or len(args) != 1
        codec, meta, buffers = self._values.encode((args, kwargs) if packed else args[0])
        message = ItemMessage(mode=mode, method=method, codec=codec, meta=meta, buffers=buffers, packed=packed)
        exchange.complete = True
        while not self._caller.submit(exchange, message):
            self._caller.wait(exchange, lambda: self._caller.room_for(message.nbytes))

    def _stop(self, exchange: Exchange) -> None:
        with shielded:
            stop(self._caller, exchange, self._kill)

    def _outputs(
        self,
        exchange: Exchange,
        convert: Callable[[ItemMessage], Any],
        pump: Callable[[], None],
        *,
        returns: bool = False,
    ) -> Generator[Any, None, Any]:
        """Values as they come; ``returns``: one that comes with the last output is what the generator over there returns."""
        output: ItemMessage | None = None
        try:
            yield None  # see _begun
            while True:
                with shielded:
                    self._done_with(output, exchange)
                    output = None
                    pump()
                    if not (exchange.open or exchange.arrived or not exchange.complete):
                        return
                    output = self._caller.next_output(exchange)
                    given = bool(output.codec) or output.failure is not None
                    value = convert(output) if given else None
                if given and returns and output.last:
                    return value
                if given:
                    yield value
        except (KeyboardInterrupt, Cancelled):
            with shielded:
                self._done_with(output, exchange)  # what follows it could not be acknowledged before
                output = None
            self._stop(exchange)
            raise
        finally:
            with shielded:
                self._done_with(output, exchange)
                self._caller.abandon(exchange)

    def _done_with(self, output: ItemMessage | None, exchange: Exchange) -> None:
        if output is not None:
            self._caller.delivered(output)
            if output.last:
                exchange.parents.pop(output.input, None)

    def _result(self, output: ItemMessage, feed: Feed) -> Any:
        value = self._value(output)
        if not feed.as_items:
            return value
        parent = feed.exchange.parents.get(output.input)
        stamps = tuple(map(Stamp, self._stamped, output.stamps))
        if parent:
            stamps = parent.stamps + stamps
        return Item(value, output.pts, output.time_base, output.track, output.seq, stamps)

    def _value(self, output: ItemMessage) -> Any:
        if output.failure is not None:
            raise restore(output.failure)
        try:
            return self._values.decode(output.codec, output.meta, output.buffers)
        except LinkClosed:
            self._caller.broken_off(self._kill)
        finally:
            if output.release is not None:
                output.buffers = ()
                output.release()


def close_soon(what: Link | Connection) -> None:
    """For what was dropped without a close. In a thread: the garbage collector may run where any lock is held."""
    with shielded:
        threading.Thread(target=what.close, name="avlab-close", daemon=True).start()


def _begun(results: Iterator[Any]) -> Iterator[Any]:
    """A generator that has come to its first yield: closing one that has not would not run its ``finally``."""
    next(results)
    return results
