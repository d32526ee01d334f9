"""Async twins of what blocks between its results: iterations and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from typing import Any

from avlab.core.channel import ChannelClosed, Receiver, Sender, open_channel
from avlab.core.twin import in_thread


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
