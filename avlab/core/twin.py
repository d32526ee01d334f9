"""The async twin of a blocking call: it runs in a thread of its own, so that no pool can run dry and block the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, Self, TypeVar

T = TypeVar("T")

_task: ContextVar[object] = ContextVar("avlab_task", default=None)


def consumer() -> object:
    """Who runs now: the asyncio task that this thread works for, or the thread."""
    return _task.get() or threading.get_ident()


async def in_thread(
    function: Callable[[], T],
    cancel: Callable[[], None] | None = None,
    discard: Callable[[T], object] = lambda result: None,
) -> T:
    """The result of a blocking function, which sees this task's context variables.

    When this is cancelled, ``cancel`` is called and the function's end awaited, however often it is cancelled meanwhile; without
    ``cancel`` the function is left to itself, and ``discard`` gets its result, in a thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  raised again in the awaiting task
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)
            return
        if failure is None:
            discard(result)  # type: ignore[arg-type]

    def left(ended: asyncio.Future[T]) -> None:
        if ended.exception() is None:
            threading.Thread(target=discard, args=(ended.result(),), name="avlab-discard", daemon=True).start()

    context = copy_context()
    context.run(_task.set, asyncio.current_task())
    try:
        threading.Thread(target=context.run, args=(run,), name="avlab-twin", daemon=True).start()
        return await asyncio.shield(done)
    except (KeyboardInterrupt, GeneratorExit):  # asyncio.run raises the second Ctrl-C wherever its loop is: nobody awaits the end
        done.add_done_callback(left)
        if cancel is not None:
            cancel()
        raise
    except asyncio.CancelledError:
        if cancel is None:
            done.add_done_callback(left)
        else:
            cancel()
            while not done.done():
                with suppress(asyncio.CancelledError):  # asked again: it is about to end
                    await asyncio.wait([done])
            done.exception()
        raise


class Closing:
    """What has a blocking, idempotent ``close``: a context manager, also an async one."""

    def close(self) -> None:
        """End it. Idempotent."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """`close` for async code."""
        await in_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
