"""Async twins of blocking calls: each runs in a thread of its own, so that no pool can run dry and block the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from avlab.core.channel import ChannelClosed, Receiver, Sender, open_channel

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
    """The result of a blocking function.

    When this is cancelled, ``cancel`` is called and the function's end awaited; without ``cancel`` the function is left to
    itself, and ``discard`` gets its result.
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

    context = copy_context()
    context.run(_task.set, asyncio.current_task())
    try:
        threading.Thread(target=context.run, args=(run,), name="avlab-twin", daemon=True).start()
        return await asyncio.shield(done)
    except (KeyboardInterrupt, GeneratorExit):  # asyncio.run raises the second Ctrl-C wherever its loop is: nobody awaits the end
        done.add_done_callback(lambda ended: ended.exception() or discard(ended.result()))
        if cancel is not None:
            cancel()
        raise
    except asyncio.CancelledError:
        if cancel is None:
            done.add_done_callback(lambda ended: ended.exception() or discard(ended.result()))
        else:
            cancel()
            while not done.done():
                with suppress(asyncio.CancelledError):  # asked again: it is about to end
                    await asyncio.wait([done])
            done.exception()
        raise


async def left_iterations() -> None:
    """Let the loop close an iteration that this task has just left: it takes two steps."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


_END = object()


async def aiterate(make: Callable[[], Iterator[Any]], cancel: Callable[[], None]) -> AsyncGenerator[Any, None]:
    """A blocking iterator as an async one; leaving it early closes the iterator."""
    await left_iterations()
    iterator = await in_thread(make, cancel)
    try:
        while (value := await in_thread(lambda: next(iterator, _END), cancel)) is not _END:
            yield value
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            with suppress(ValueError):  # it runs: a second Ctrl-C has cut the waiting for its end, which is near
                close()  # at once: what the task does next may need what this iteration holds


async def astream(
    make: Callable[[Iterable[Any]], Iterator[Any]], items: Any, cancel: Callable[[], None]
) -> AsyncGenerator[Any, None]:
    """`aiterate` over ``make(items)``; an async iterable is pulled by the running loop, a few items ahead."""
    if not isinstance(items, AsyncIterable):
        async with aclosing(aiterate(lambda: make(items), cancel)) as values:
            async for value in values:
                yield value
        return
    ends: tuple[Sender[Any], Receiver[Any]] = open_channel(8)
    sender, receiver = ends
    feeding = asyncio.create_task(_feed(items, sender))
    try:
        async with aclosing(aiterate(lambda: make(receiver), cancel)) as values:
            async for value in values:
                yield value
    finally:
        receiver.close()
        feeding.cancel()
        await asyncio.wait([feeding])


async def _feed(items: AsyncIterable[Any], sender: Sender[Any]) -> None:
    cause: BaseException | None = None
    try:
        async for item in items:
            await in_thread(lambda item=item: sender.send(item))  # type: ignore[misc]
    except ChannelClosed:
        return
    except Exception as error:  # noqa: BLE001  raised again where the stream is consumed
        cause = error
    finally:
        sender.close(cause)
