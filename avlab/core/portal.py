"""Portal: one event loop on a thread of its own, where coroutines run while blocking code waits for them.

Nothing of avlab touches the caller's own loop, so blocking calls work in a script, in a notebook and inside a running loop.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

from avlab.core.errors import AvlabError, Cancelled, TimedOut
from avlab.core.latch import Latch

T = TypeVar("T")


class Call:
    """A coroutine under way on a portal's loop."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done = Latch()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make it a task of the loop."""
        self._loop = loop
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        assert self._loop is not None
        if self._done.is_set():
            return
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._end)
        if self._cancelled:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            self._value = await self._awaitable
        except BaseException as error:  # noqa: BLE001  result() raises it: SystemExit must not end the loop of all others
            self._error = error

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._error = asyncio.CancelledError()
        _drop(self._awaitable)
        self._done.set()

    def cancel(self) -> None:
        """Cancel the coroutine; `result` then raises Cancelled. Idempotent."""
        self._cancelled = True
        if self._loop is None:
            self._cancel_task()
        elif not self._done.is_set():
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self._done.is_set():  # it never began
            self._error = asyncio.CancelledError()
            _drop(self._awaitable)
            self._done.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when ``timeout`` seconds were too short."""
        return self._done.wait(timeout)

    def result(self) -> Any:
        """What the coroutine returned. Raises what it raised, or Cancelled when it was cancelled or does not end."""
        if not self._done.is_set() or isinstance(self._error, asyncio.CancelledError):
            raise Cancelled("the coroutine was cancelled") from None
        if self._error is not None:
            raise self._error
        return self._value


class Portal:
    """An event loop on its own daemon thread, started by the first call.

    ``call`` may be used from any thread but the loop's own. A process that was forked after the start is refused with an
    AvlabError: a fork does not copy threads.
    """

    def __init__(self, name: str = "avlab:loop") -> None:
        self.name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def start(self) -> None:
        """Start the loop if it does not run."""
        self._refuse_fork()
        with self._lock:
            self._running()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            loop = runner.get_loop()
            thread = threading.Thread(target=_serve, args=(runner, loop), name=self.name, daemon=True)
            thread.start()
            self._process, self._thread, self._loop = os.getpid(), thread, loop
        return self._loop

    def _refuse_fork(self) -> None:
        if self._process not in (0, os.getpid()):
            raise AvlabError(
                "this process was forked from one in which avlab's event loop runs: start it with the "
                "'spawn' or 'forkserver' method of multiprocessing instead"
            )

    @property
    def inside(self) -> bool:
        """Whether the caller runs on the loop's own thread."""
        return threading.current_thread() is self._thread

    def submit(self, awaitable: Awaitable[Any]) -> Call:
        """Begin a coroutine on the loop, in the caller's context variables. Raises AvlabError in a forked process."""
        call = Call(awaitable)
        self.begin(call)
        return call

    def begin(self, call: Call) -> None:
        """Begin a prepared call, as `submit` does."""
        try:
            self._refuse_fork()
        except AvlabError:
            call.cancel()
            raise
        with self._lock:
            call.begin(self._running())

    def call(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        """Run a coroutine to its end and return its result.

        Raises what it raises; Cancelled when it was cancelled; TimedOut after ``timeout`` seconds. On the timeout, and when
        an exception (KeyboardInterrupt) ends the waiting, the coroutine is cancelled first and gets a second to clean up.
        """
        if self.inside:
            _drop(awaitable)
            raise AvlabError(
                "a blocking call on avlab's own event loop would wait for itself: await the coroutine instead"
            )
        call = Call(awaitable)
        try:
            self.begin(call)
            if not call.wait(timeout):
                raise TimedOut(f"the coroutine did not end within {timeout:g} s")
        except BaseException:
            call.cancel()
            call.wait(1.0)
            raise
        result: T = call.result()
        return result

    def close(self, timeout: float = 2.0) -> None:
        """Cancel what is under way, end the loop and its thread. A later call starts a new one. Idempotent."""
        if self._process not in (0, os.getpid()):
            return
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._process = 0
            if loop is None or thread is None:
                return
            loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)


class Scope:
    """The coroutines of one owner: called like a function with an awaitable, it blocks until its result is there.

    After ``cancel`` what is under way raises Cancelled, and later calls, which can only clean up, get ``grace`` seconds.
    """

    def __init__(self, portal: Portal, grace: float = 0.3) -> None:
        self._portal, self._grace = portal, grace
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._cancelled = False

    def __call__(self, awaitable: Awaitable[T]) -> T:
        if self._portal.inside:
            return self._portal.call(awaitable)
        call = Call(awaitable)
        try:
            with self._lock:
                self._calls.add(call)
                late = self._cancelled
            self._portal.begin(call)
            if not call.wait(self._grace if late else None):
                call.cancel()
                call.wait(self._grace)
        except BaseException:
            call.cancel()
            call.wait(1.0)
            raise
        finally:
            with self._lock:
                self._calls.discard(call)
        result: T = call.result()
        return result

    def cancel(self) -> None:
        """Cancel what is under way, without waiting for it. Idempotent."""
        with self._lock:
            self._cancelled = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()


def _serve(runner: asyncio.Runner, loop: asyncio.AbstractEventLoop) -> None:
    with runner:  # its end cancels what is under way and closes the loop
        loop.run_forever()


def _drop(awaitable: Awaitable[Any]) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()


portal = Portal()
"""The process-wide portal."""
atexit.register(portal.close)
