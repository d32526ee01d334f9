"""Reading a pipeline's results where they are wanted: in a for loop or in an async for loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from avlab.core.channel import ChannelClosed, Receiver
from avlab.core.item import Item
from avlab.core.latch import NAP
from avlab.flow.run import Run
from avlab.flow.stage import Cut

T = TypeVar("T")


def consume(start: Callable[[], Run], results: Receiver[Item]) -> Iterator[Item]:
    """The results as they come. Leaving the loop early cancels the run; a node's error is raised after the last result."""
    run = start()
    try:
        while True:
            try:
                item = results.receive(NAP)
            except TimeoutError:
                continue
            except (ChannelClosed, Cut):
                break
            yield item
        run.wait()
    finally:
        if run.running:
            run.cancel()


async def consume_async(start: Callable[[], Run], results: Receiver[Item]) -> AsyncIterator[Item]:
    """`consume` for an event loop, which is never blocked."""
    run = await started(start)
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    results.listen(lambda: _tell(loop, arrived.set))
    try:
        while True:
            try:
                item = results.receive(0)
            except TimeoutError:
                await arrived.wait()
                arrived.clear()
                continue
            except (ChannelClosed, Cut):
                break
            yield item
        await ended(run)
    finally:
        results.listen(None)
        if run.running:
            await asyncio.shield(in_thread(run.cancel))


async def started(start: Callable[[], Run]) -> Run:
    """A run whose nodes are opened in a thread; a caller that is cancelled meanwhile leaves no run behind."""
    starting = asyncio.ensure_future(in_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        run = await starting
        await in_thread(run.cancel)
        raise


async def ended(run: Run) -> None:
    """Wait for the end of a run without blocking the loop; a caller that is cancelled cancels the run."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    run.on_finished(lambda: _tell(loop, over.set))
    try:
        await over.wait()
        await in_thread(run.wait)
    except asyncio.CancelledError:
        await in_thread(run.cancel)
        raise


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a thread of its own, which ends with it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not future.done():
            outcome()

    def body() -> None:
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001  the awaiting coroutine raises it
            failure = error
            _tell(loop, lambda: settle(lambda: future.set_exception(failure)))
        else:
            _tell(loop, lambda: settle(lambda: future.set_result(value)))

    thread = threading.Thread(target=body, name="avlab:wait", daemon=True)
    thread.start()
    try:
        return await future
    finally:
        if future.done():
            thread.join()


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
        return
