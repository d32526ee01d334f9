"""Reading a pipeline's results where they are wanted: in a for loop or in an async for loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

from avlab.core.channel import ChannelClosed, Receiver
from avlab.core.item import Item
from avlab.core.latch import NAP
from avlab.core.twin import in_thread
from avlab.flow.run import Run
from avlab.flow.stage import Cut


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
            await in_thread(run.cancel, _nothing)


async def started(start: Callable[[], Run]) -> Run:
    """A run whose nodes are opened in a thread; a caller that is cancelled meanwhile leaves no run behind."""
    runs: list[Run] = []

    def begin() -> Run:
        runs.append(start())
        return runs[0]

    try:
        return await in_thread(begin, _nothing)
    except asyncio.CancelledError:
        for run in runs:
            await _cancelled(run)
        raise


async def ended(run: Run) -> None:
    """Wait for the end of a run without blocking the loop; a caller that is cancelled cancels the run."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    run.on_finished(lambda: _tell(loop, over.set))
    try:
        await over.wait()
        await in_thread(run.wait)
    except asyncio.CancelledError:
        await _cancelled(run)
        raise


async def _cancelled(run: Run) -> None:
    """Cancel a run for a task that is cancelled itself: that is what it tells, and no error of the run's."""
    with suppress(Exception):
        await in_thread(run.cancel, _nothing)


def _nothing() -> None:
    """It ends by itself, and is waited for."""


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
        return
