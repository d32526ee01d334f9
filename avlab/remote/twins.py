"""Async twins of blocking calls: each runs in a thread of its own, so that no pool can run dry and block the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from avlab.core.channel import ChannelClosed, Receiver, Sender, open_channel

T = TypeVar("T")


async def in_thread(function: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
    """The result of a blocking function. When this is cancelled, ``cancel`` is called and the function's end awaited."""
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
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  raised again in the awaiting task
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    threading.Thread(target=run, name="avlab-twin", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
            await asyncio.wait([done])
            done.exception()
        raise


_END = object()


async def aiterate(make: Callable[[], Iterator[Any]], cancel: Callable[[], None]) -> AsyncIterator[Any]:
    """A blocking iterator as an async one; leaving it early closes the iterator."""
    iterator = make()
    try:
        while (value := await in_thread(lambda: next(iterator, _END), cancel)) is not _END:
            yield value
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def astream(
    make: Callable[[Iterable[Any]], Iterator[Any]], items: Any, cancel: Callable[[], None]
) -> AsyncIterator[Any]:
    """`aiterate` over ``make(items)``; an async iterable is pulled by the running loop, a few items ahead."""
    if not isinstance(items, AsyncIterable):
        async for value in aiterate(lambda: make(items), cancel):
            yield value
        return
    ends: tuple[Sender[Any], Receiver[Any]] = open_channel(8)
    sender, receiver = ends
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(_feed(items, sender))
        async for value in aiterate(lambda: make(receiver), cancel):
            yield value
        receiver.close()
        feeding.cancel()


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
