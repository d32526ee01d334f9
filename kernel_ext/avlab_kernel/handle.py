"""Handle: the one session of one remote object."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

from avlab.core.clock import monotonic
from avlab.core.errors import AvlabError, RemoteError, SessionError

KEEP_ALIVE = 0.1
"""Seconds between wake-ups of a loop that awaits a remote call: an idle loop does not notice the stop button."""


class Opener(Protocol):
    """Where sessions are opened: the home of a cell's definitions."""

    @property
    def label(self) -> str | None: ...
    @property
    def on(self) -> str | None: ...
    @property
    def desk(self) -> Any: ...
    def open(self, handle: Handle, target: object) -> Any: ...


class Handle:
    """Opens the session of one object on its first use, and never a second time.

    ``make`` gives what to pack, ``made`` is the expression that makes another one. After the session's end every use
    raises SessionError that says why.
    """

    def __init__(self, home: Opener, name: str, made: str, make: Callable[[], object]) -> None:
        self.home, self.name, self.made = home, home.label or name, made
        self.feed = home.desk.outputs.feed(self.name)
        self._make = make
        self.node: weakref.ref[Any] | None = None  # strong, it would keep the owner alive
        self._lock = threading.RLock()  # held while the session is opened, which takes as long as its executor does
        self._opening = False
        self._session: Any = None
        self._over: str | None = None
        self.owner: weakref.ref[Any] | None = None  # strong, the session would keep it alive
        self._opened_at = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a session to close."""
        return self._session is not None and not self.is_over

    @property
    def is_opening(self) -> bool:
        """Whether a session is on its way."""
        return self._opening and self._over is None

    @property
    def age(self) -> float:
        """Seconds since the session was opened."""
        return (monotonic() - self._opened_at) / 1e9

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return self._over is not None or (self._session is not None and self._session.closed)

    @property
    def statistics(self) -> Any:
        """The figures of the open session, or None."""
        return self._session.statistics() if self.is_open else None

    @property
    def label(self) -> str:
        """The open session's name in the tables of its executor."""
        return str(self._session.label) if self.is_open else ""

    def session(self) -> Any:
        """The session, opened if this is the first use. Raises SessionError when it is over."""
        with self._lock:
            if self._over is None and self._session is not None and self._session.closed:
                self._over = _reason(self._session)
            self._refuse_over()
            self.feed.here()
            if self._session is None:
                self._opening = True
                try:
                    session = self.home.open(self, self._make())
                finally:
                    self._opening = False
                session.itself = self.owner
                self._session, self._opened_at = session, monotonic()
                if self._over is not None:  # meanwhile
                    session.close()
                    self._refuse_over()
            return self._session

    def _refuse_over(self) -> None:
        if self._over is not None:
            raise SessionError(
                f"{self.made} cannot be used any more, and what it held is lost: make a new one, or run its %%remote cell "
                f"again ({self._over})"
            )

    @property
    def unused(self) -> Any:
        """What the session would be opened with, if it never was; then another one may be opened with it."""
        return self._make() if self._session is None and self._over is None else None

    def close(self, why: str) -> None:
        """End the session, or the one that is being opened as soon as it stands; ``why`` is told to whoever still tries to use it."""
        self._over = self._over or why  # before the session is looked at: who opens one looks at it afterwards
        session = self._session
        if session is not None:
            session.close()

    def call(self, owner: object, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method over there; ``owner`` lives at least until its end."""
        session = self.session()
        with self._noticing():
            return session.call(method, *args, **kwargs)

    def iterate(
        self, owner: object, method: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Generator[Any, None, Any]:
        """Iterate what a method over there yields, one value at a time; returns what a generator returns."""
        session = self.session()
        with self._noticing():
            values = session.iterate(method, *args, **kwargs)
            while True:
                try:
                    value = next(values)
                except StopIteration as end:
                    return end.value
                yield value

    async def acall(self, owner: object, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """`call` for coroutines."""
        session = self.session()
        with self._noticing(), _stoppable():
            return await session.acall(method, *args, **kwargs)

    async def aiterate(
        self, owner: object, method: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """`iterate` for coroutines."""
        session = self.session()
        with self._noticing(), _stoppable():
            async for value in session.aiterate(method, *args, **kwargs):
                yield value

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        __tracebackhide__ = True
        try:
            yield
        except SessionError as error:
            self._over = self._over or str(error)
            raise


def _reason(session: Any) -> str:
    """Why a session is over: every use of it raises the error that ended it."""
    try:
        session.set()
    except AvlabError as error:
        return str(error)
    return "its session has ended"


def stops_iteration(error: RemoteError, name: str) -> bool:
    """Whether a remote error is the StopIteration (or StopAsyncIteration) of that name: a worker may not raise it here."""
    return error.type_name.rpartition(".")[2] == name


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(KEEP_ALIVE, tick)

    tick()
    try:
        yield
    finally:
        timer.cancel()
