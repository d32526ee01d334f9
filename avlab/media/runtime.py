"""MediaRuntime: where live media runs, off the loop of the notebook's kernel."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, ClassVar, TypeVar

from avlab.core.portal import Call, Portal

T = TypeVar("T")


class MediaRuntime:
    """An event loop on a thread of its own for peers, encoders and jitter buffers: a busy cell does not stop it."""

    _default: ClassVar[MediaRuntime | None] = None
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._portal = Portal("avlab:media")

    @classmethod
    def default(cls) -> MediaRuntime:
        """The one of this process, made when it is first asked for and closed at exit."""
        with cls._making:
            if cls._default is None:
                cls._default = cls()
                atexit.register(cls._default.close)
            return cls._default

    def run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result. Raises what it raises, Cancelled, TimedOut (seconds)."""
        return self._portal.call(awaitable, timeout)

    def start(self, awaitable: Awaitable[object]) -> Call:
        """Begin a coroutine on the loop; the call can be waited for and cancelled."""
        return self._portal.submit(awaitable)

    def post(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin a coroutine that nobody waits for: what it raises is logged, as asyncio does with a task of its own."""
        self._portal.submit(_Logged(work))

    def close(self) -> None:
        """Cancel what runs, end the thread. Idempotent."""
        self._portal.close()


class _Logged:
    """A coroutine whose error is told to its loop. It can be dropped unbegun, as a coroutine can."""

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        self._work = work
        self.close = work.close

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield from self._work.__await__()
        except Exception as error:  # noqa: BLE001  logged: the loop is that of all others too
            context = {"message": f"{self._work!r} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
