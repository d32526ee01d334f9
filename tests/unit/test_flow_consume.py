"""Reading results in for loops, async for loops, and awaiting a run."""

import asyncio
import itertools
import threading

import pytest

from avlab.core.errors import MediaError, TimedOut
from avlab.core.node import Node
from avlab.flow.graph import Pipeline

SOON = 10.0


class Add(Node):
    def process(self, value: int) -> int:
        return value + 1


class Closing(Add):
    def open(self):
        self.calls = []

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


class Bad(Node):
    def process(self, value: int) -> int:
        if value == 3:
            raise ValueError("boom")
        return value


class BadOpen(Add):
    def open(self):
        raise MediaError("no such file")


@pytest.fixture(autouse=True)
def ends_all_threads():
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("avlab:") and t.name != "avlab:loop"]
    assert not left


def test_leaving_a_loop_early_cancels():
    node = Closing()
    for item in Pipeline([itertools.count(), node]).iterate():
        if item.value == 20:
            break
    assert node.calls == ["close"]


def test_results_come_while_the_source_still_works():
    go = threading.Event()

    def source():
        yield 1
        assert go.wait(SOON)
        yield 2

    results = Pipeline([source(), Add()]).iterate()
    assert next(results).value == 2
    go.set()
    assert [item.value for item in results] == [3]


def test_an_error_comes_after_the_last_result():
    got = []
    with pytest.raises(ValueError, match=r"boom \(in Bad\.process, item 3\)"):
        got.extend(item.value for item in Pipeline([itertools.count(), Bad(), Add()]).iterate())
    got = []
    with pytest.raises(ValueError, match="boom"):
        for item in Pipeline([itertools.count(), Bad(), Add()]).iterate():
            got.append(item.value)
    assert got == [1, 2, 3]


def test_nothing_starts_before_the_first_result_is_asked_for():
    Pipeline([[1], BadOpen()]).iterate()
    with pytest.raises(MediaError):
        next(Pipeline([[1], BadOpen()]).iterate())


def test_async_results():
    async def main():
        return [item.value async for item in Pipeline([range(100), Add()], capacity=2).stream()]

    assert asyncio.run(main()) == list(range(1, 101))


def test_the_loop_runs_on_while_results_are_awaited():
    async def main():
        ticked, go = asyncio.Event(), threading.Event()

        def source():
            assert go.wait(SOON)
            yield 1

        async def tick():
            ticked.set()
            go.set()

        task = asyncio.create_task(tick())
        got = [item.value async for item in Pipeline([source(), Add()]).stream()]
        await task
        return got

    assert asyncio.run(main()) == [2]


def test_leaving_an_async_loop_early_cancels():
    node = Closing()

    async def main():
        results = Pipeline([itertools.count(), node]).stream()
        async for item in results:
            if item.value == 20:
                break
        await results.aclose()

    asyncio.run(main())
    assert node.calls == ["close"]


def test_errors_of_async_results():
    async def main(got):
        async for item in Pipeline([itertools.count(), Bad()]).stream():
            got.append(item.value)

    got = []
    with pytest.raises(ValueError, match="boom"):
        asyncio.run(main(got))
    assert got == [0, 1, 2]


def test_cancelling_the_task_cancels_the_run():
    node = Closing()

    async def main():
        started = asyncio.Event()

        async def read():
            async for _ in Pipeline([itertools.count(), node]).stream():
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert node.calls == ["close"]


def test_awaiting_a_run():
    node = Closing()

    async def main():
        return await Pipeline([range(3), node]).arun()

    assert asyncio.run(main()).items == {"": 3}
    assert node.calls == ["flush", "close"]


def test_errors_of_an_awaited_run():
    async def main(node):
        await Pipeline([itertools.count(), node]).arun()

    with pytest.raises(ValueError, match="boom"):
        asyncio.run(main(Bad()))
    with pytest.raises(MediaError, match="no such file"):
        asyncio.run(main(BadOpen()))


def test_a_timeout_around_an_awaited_run_ends_it():
    node = Closing()

    async def main():
        async with asyncio.timeout(0.05):
            await Pipeline([itertools.count(), node]).arun()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())
    assert not isinstance(caught.value, TimedOut)
    assert node.calls == ["close"]


def test_cancelled_while_the_nodes_open():
    tell = None

    class Slow(Closing):
        def open(self):
            super().open()
            tell()
            assert go.wait(SOON)

    go, node = threading.Event(), Slow()

    async def main():
        nonlocal tell
        loop, opening = asyncio.get_running_loop(), asyncio.Event()
        tell = lambda: loop.call_soon_threadsafe(opening.set)  # noqa: E731
        task = asyncio.create_task(Pipeline([itertools.count(), node]).arun())
        await opening.wait()
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert node.calls[-1] == "close"


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("bad", [False, True])
def test_a_task_that_is_cancelled_says_so_and_leaves_no_run(times, bad):
    """Not the error of a node that opens badly meanwhile, and not before the run has ended, however often it is asked."""
    go, opening = threading.Event(), threading.Event()

    class Slow(Closing):
        def open(self):
            super().open()
            opening.set()
            assert go.wait(SOON)
            if bad:
                raise MediaError("no such file")

    node = Slow()

    async def main():
        task = asyncio.create_task(Pipeline([itertools.count(), node]).arun())
        assert await asyncio.to_thread(opening.wait, SOON)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not task.done()  # and the loop goes on
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert node.calls[-1] == "close"

    asyncio.run(main())


def test_many_pipelines_on_one_loop():
    async def main():
        return await asyncio.gather(*(Pipeline([range(n), Add()]).arun() for n in range(5)))

    assert [sum(result.items.values()) for result in asyncio.run(main())] == list(range(5))
