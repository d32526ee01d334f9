"""Running pipelines: errors, stopping, statistics, live changes, threads."""

import asyncio
import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import Cancelled, ConfigError, MediaError, NodeError, PipelineError, TimedOut
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.flow.graph import Pipeline, tee

SOON = 10.0


class Add(Node):
    amount: int = 1

    def process(self, value: int) -> int:
        return value + self.amount


class AddLater(Add):
    async def process(self, value: int) -> int:
        return value + self.amount


class Apart(Add):
    own_thread = True


class Each(Add):
    def process(self, value: int):
        yield value + self.amount


class Bad(Node):
    at: int = 3
    error: object = ValueError("boom")

    def process(self, value: int) -> int:
        if value == self.at:
            raise self.error
        return value


class BadApart(Bad):
    own_thread = True


class BadLater(Bad):
    async def process(self, value: int) -> int:
        return Bad.process(self, value)


class BadEach(Bad):
    def process(self, value: int):
        yield Bad.process(self, value)


class Through(Node):
    consumes = (int,)

    def stream(self, items):
        yield from items


class Keep(Node):
    """A sink that remembers what was called."""

    def __init__(self, wanted=None):
        self.wanted, self.enough = wanted, threading.Event()
        self.calls, self.kept = [], []

    def open(self):
        self.calls, self.kept = ["open"], []
        self.enough.clear()

    def process(self, item: Item) -> None:
        self.kept.append(item.value)
        if len(self.kept) == self.wanted:
            self.enough.set()

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


class Count(Node):
    """An endless source."""

    def items(self):
        return itertools.count()


class Held(Node):
    """Stays in process until it is let go or cancelled."""

    def __init__(self, cancellable=False):
        self.entered, self.release = threading.Event(), threading.Event()
        if cancellable:
            self.cancel = self.release.set

    def process(self, value: int) -> int:
        self.entered.set()
        self.release.wait(SOON)
        return value


def avlab_threads():
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("avlab:") and "loop" not in thread.name
    ]


@pytest.fixture(autouse=True)
def ends_all_threads():
    yield
    assert not avlab_threads()


# Normal runs.


def test_a_run_opens_flushes_and_closes_in_order():
    order = []

    class Noted(Add):
        name: str = ""

        def open(self):
            order.append(f"open {self.name}")

        async def close(self):
            order.append(f"close {self.name}")

        def flush(self):
            order.append(f"flush {self.name}")

    result = ([1, 2] >> Noted(name="a") >> Each() >> Noted(name="b") >> Keep()).run()
    assert order == ["open a", "open b", "flush a", "flush b", "close b", "close a"]
    assert result["Keep"].kept == [4, 5]
    assert result["Keep"].calls == ["open", "flush", "close"]
    assert result.items == {"": 2}
    with pytest.raises(KeyError, match="there are: list, Noted"):
        result["Nobody"]


def test_items_of_a_source_alone_reach_the_end():
    result = Pipeline([[1, 2, 3]]).run()
    assert result.items == {"": 3}


def test_a_run_can_be_started_again():
    keep = Keep()
    pipeline = [1, 2, 3] >> AddLater() >> Each() >> keep
    for _ in range(3):
        pipeline.run()
        assert keep.kept == [3, 4, 5]


def test_the_same_nodes_cannot_run_twice_at_once():
    pipeline = Count() >> Add() >> Keep()
    with pipeline.start(), pytest.raises(PipelineError, match="is in a pipeline that runs: stop that run first"):
        pipeline.start()
    pipeline.start().stop()


def test_inside_a_running_loop():
    async def main():
        return ([1, 2] >> AddLater() >> Keep()).run()

    assert asyncio.run(main())["Keep"].kept == [2, 3]


def test_from_several_threads_at_once():
    def one(n):
        return (range(n) >> AddLater() >> Each() >> Keep()).run()["Keep"].kept

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(0, 60, 10))) == [[v + 2 for v in range(n)] for n in range(0, 60, 10)]


def test_context_variables_reach_the_nodes():
    cell = ContextVar("cell", default=None)

    class Read(Node):
        def process(self, value: int):
            return cell.get()

    cell.set("mine")
    assert [item.value for item in Pipeline([[1], Read()]).iterate()] == ["mine"]


def test_memory_stays_bounded_when_the_sink_is_slow():
    made = []

    def source():
        for n in itertools.count():
            made.append(n)
            yield n

    held = Held()
    run = (source() >> Apart() >> held).start()
    assert held.entered.wait(SOON)
    seen = -1
    while len(made) != seen:  # until the source, too, stands still
        seen = len(made)
        threading.Event().wait(0.05)
    assert len(made) <= 2 * 8 + 4
    held.release.set()
    run.cancel()


# Errors.


@given(st.integers(0, 12), st.sampled_from([Bad, BadApart, BadLater, BadEach]), st.integers(1, 4))
def test_what_came_before_an_error_arrives(at, cls, capacity):
    keep = Keep()
    original = ValueError("boom")
    pipeline = Pipeline([Count(), cls(at=at, error=original), Add(), Each(), Through(), keep], capacity=capacity)
    with pytest.raises(ValueError, match=rf"boom \(in {cls.__name__}\.process, item {at}\)") as caught:
        pipeline.run()
    assert isinstance(caught.value, NodeError)
    assert caught.value.__cause__ is original
    assert keep.kept == [v + 2 for v in range(at)]
    assert keep.calls == ["open", "close"]


def test_the_track_of_the_failing_item_is_named():
    items = [Item(n, n, track="video" if n % 2 else "audio") for n in range(8)]
    with pytest.raises(ValueError, match=r"in Bad\.process, item 2 of track 'video'"):
        (items >> Bad(at=5) >> Keep()).run()


def test_an_error_in_one_branch_ends_the_others():
    keep = Keep()
    with pytest.raises(ValueError, match="boom"):
        (Count() >> tee(Bad(), keep)).run()
    assert keep.kept[:3] == [0, 1, 2]
    assert keep.calls == ["open", "close"]


@pytest.mark.parametrize("method", ["flush", "close"])
def test_errors_of_other_methods(method):
    def fail(self):
        raise ValueError("no")

    keep = Keep()
    bad = type("Faulty", (Add,), {method: fail})()
    with pytest.raises(ValueError, match=rf"no \(in Faulty\.{method}\)"):
        ([1] >> bad >> keep).run()
    assert keep.kept == [2]
    assert keep.calls[-1] == "close"


def test_an_error_in_open_closes_what_is_open():
    class Shut(Add):
        def open(self):
            raise MediaError("no such file")

    first, last = Keep(), Keep()
    pipeline = [1] >> tee(first, Shut() >> last)
    for _ in range(2):  # nothing stays reserved
        with pytest.raises(MediaError, match="no such file"):
            pipeline.start()
    assert (first.calls, last.calls) == (["open", "close"], [])


def test_a_source_that_breaks():
    def source():
        yield 1
        raise OSError("unplugged")

    keep = Keep()
    with pytest.raises(OSError, match="unplugged"):
        (source() >> Add() >> keep).run()
    assert (keep.kept, keep.calls) == ([2], ["open", "close"])


def test_later_errors_are_notes_of_the_first():
    class BadClose(Bad):
        def close(self):
            raise KeyError("second")

    with pytest.raises(ValueError, match="boom") as caught:
        (Count() >> BadClose()).run()
    assert any("second" in note for note in caught.value.__notes__)


def test_exit_in_a_node_ends_the_run():
    class Leaves(Add):
        def process(self, value: int):
            raise SystemExit

    with pytest.raises(NodeError, match=r"SystemExit \(in Leaves\)"):
        (Count() >> Leaves()).run()


def test_an_error_is_not_held_up_by_a_source_that_waits(monkeypatch):
    monkeypatch.setattr("avlab.flow.run.STALLED", 0.2)
    waiting, release = threading.Event(), threading.Event()

    def source():
        yield 3
        waiting.set()
        release.wait(SOON)

    with pytest.raises(ValueError, match="boom") as caught:
        (source() >> Bad()).run()
    assert any("generator did not return" in note for note in caught.value.__notes__)
    release.set()
    join_left_behind()


def join_left_behind():
    for thread in threading.enumerate():
        if thread.name.startswith("avlab:") and "loop" not in thread.name:
            thread.join(SOON)


# Stopping.


@pytest.mark.parametrize("middle", [Add, AddLater, Each, Through, Apart])
def test_stop_drains_and_flushes(middle):
    keep = Keep(wanted=20)
    run = (Count() >> middle() >> keep).start()
    assert run.running
    assert keep.enough.wait(SOON)
    result = run.stop()
    assert not run.running
    hop = result.statistics[middle.__name__]
    assert hop.received == hop.sent == len(keep.kept)
    assert keep.kept == list(range(keep.kept[0], keep.kept[0] + len(keep.kept)))
    assert keep.calls == ["open", "flush", "close"]
    assert run.stop().items == result.items == run.wait().items  # idempotent


def test_cancel_does_not_flush():
    keep = Keep(wanted=5)
    run = (Count() >> Add() >> keep).start()
    assert keep.enough.wait(SOON)
    run.cancel()
    assert keep.calls == ["open", "close"]
    for hop in run.statistics().hops[1:]:
        assert hop.waiting in (0, None)


def test_stop_while_the_source_is_blocked_in_send():
    held = Held()
    run = (Count() >> held).start()
    assert held.entered.wait(SOON)
    while run.statistics()["Held"].waiting < 8:
        threading.Event().wait(0.001)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(run.stop, SOON)
        held.release.set()
        result = stopping.result(SOON)
    hop = result.statistics["Held"]
    assert hop.received == hop.sent >= 8


def test_a_file_is_finished_even_when_the_source_never_answers():
    release = threading.Event()

    def source():
        yield from range(3)
        release.wait(SOON)

    keep = Keep(wanted=3)
    run = (source() >> Add() >> keep).start()
    assert keep.enough.wait(SOON)
    with pytest.raises(Cancelled, match=r"generator did not return within .* s; the thread is left behind"):
        run.stop(0.3)
    assert keep.calls == ["open", "flush", "close"]
    release.set()
    join_left_behind()


def test_what_is_queued_is_dropped_when_time_is_short_but_nodes_still_flush():
    class Slow(Keep):
        def process(self, item: Item) -> None:
            super().process(item)
            threading.Event().wait(0.06)

    slow = Slow(wanted=1)
    run = (Count() >> slow).start()
    assert slow.enough.wait(SOON)
    while run.statistics()["Slow"].waiting < 8:
        threading.Event().wait(0.001)
    result = run.stop(0.5)
    assert slow.calls == ["open", "flush", "close"]
    assert result.statistics["Slow"].dropped > 0


def test_a_node_that_never_returns_is_named_and_left_behind():
    held, keep = Held(), Keep()
    pipeline = Count() >> held >> keep
    run = pipeline.start()
    assert held.entered.wait(SOON)
    began = time.monotonic_ns()
    with pytest.raises(Cancelled, match="Held did not return"):
        run.stop(0.3)
    assert time.monotonic_ns() - began < 2e9
    assert keep.calls[-1] == "close"
    with pytest.raises(PipelineError, match="stop that run first"):  # its thread still has the node
        pipeline.start()
    held.release.set()
    join_left_behind()
    held.entered.clear()
    pipeline.start().stop()


def test_a_nodes_own_cancel_is_called():
    held = Held(cancellable=True)
    run = (Count() >> held).start()
    assert held.entered.wait(SOON)
    run.cancel()
    assert held.release.is_set()


def test_a_stop_that_loses_items_says_so():
    held, keep = Held(cancellable=True), Keep()
    run = (Count() >> held >> keep).start()
    assert held.entered.wait(SOON)
    with pytest.raises(Cancelled, match=r"Held, Keep was not done 0\.18 s after the stop: what was under way is lost"):
        run.stop(0.3)
    assert keep.calls == ["open", "close"]


def test_stop_ends_an_async_source_that_waits():
    started, ended = threading.Event(), threading.Event()

    async def source():
        try:
            yield 1
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    keep = Keep()
    run = (source() >> keep).start()
    assert started.wait(SOON)
    run.stop()
    assert ended.is_set()
    assert (keep.kept, keep.calls) == ([1], ["open", "flush", "close"])


def test_cancel_ends_a_coroutine_that_waits():
    entered = threading.Event()

    class Waits(Node):
        async def process(self, value: int):
            entered.set()
            await asyncio.Event().wait()

    run = (Count() >> Waits()).start()
    assert entered.wait(SOON)
    run.cancel()


def test_a_node_may_stop_its_own_run():
    class Enough(Node):
        run = None

        def process(self, value: int) -> int:
            if value == 5:
                self.run.stop()
            return value

    enough, keep, ready = Enough(), Keep(), threading.Event()

    def source():
        ready.wait(SOON)
        yield from itertools.count()

    run = enough.run = (source() >> enough >> keep).start()
    ready.set()
    run.wait(SOON)
    assert keep.kept[:6] == list(range(6))
    assert keep.calls == ["open", "flush", "close"]


@pytest.mark.parametrize("middle", [Add, AddLater])
def test_a_hundred_starts_and_stops_leak_no_thread(middle):
    pipeline = Count() >> middle() >> Each() >> tee(Keep(), Keep())
    for _ in range(100):
        pipeline.start().stop()
    assert not avlab_threads()


def test_a_context_manager_stops():
    with (Count() >> Keep()).start() as run:
        assert run.running
    assert not run.running
    with pytest.raises(KeyError, match="mine"), (Count() >> Keep()).start() as run:
        raise KeyError("mine")
    assert not run.running
    with pytest.raises(ValueError, match="boom"), (Count() >> Bad()).start() as run:
        run.wait()


# Waiting and interrupts.


def test_wait_times_out_and_the_run_goes_on():
    run = (Count() >> Keep()).start()
    with pytest.raises(TimedOut):
        run.wait(0.01)
    assert run.running
    run.stop()


@pytest.mark.parametrize("progress", [False, True])
def test_run_with_a_timeout_ends_everything(progress, capsys):
    with pytest.raises(TimeoutError, match=r"within 0\.3 s"):
        (Count() >> Keep()).run(progress, timeout=0.3)
    assert not avlab_threads()


@pytest.mark.parametrize("timeout", ["2", float("nan"), True])
def test_a_timeout_that_is_no_number_is_refused_before_anything_opens(timeout):
    keep = Keep()
    with pytest.raises(ConfigError, match="not a number of seconds"):
        ([1] >> keep).run(timeout=timeout)
    assert keep.calls == []


def test_an_endless_timeout_is_none():
    keep = Keep()
    ([1] >> keep).run(timeout=float("inf"))
    assert keep.calls == ["open", "flush", "close"]


def test_a_source_that_cannot_even_be_counted_leaves_nothing_running():
    class Broken(Count):
        def total(self):
            raise MediaError("no file")

    with pytest.raises(MediaError, match="no file"):
        (Broken() >> Keep()).run()
    assert not avlab_threads()


@pytest.mark.parametrize("progress", [False, True])
def test_an_interrupt_stops_the_run_and_is_raised_again(progress, capsys):
    keep = Keep(wanted=10)

    def interrupt():
        keep.enough.wait(SOON)
        os.kill(os.getpid(), signal.SIGINT)

    pipeline = Count() >> AddLater() >> keep
    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic_ns()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(progress=progress)
    assert time.monotonic_ns() - began < 2e9 + 1e9
    thread.join(SOON)
    assert keep.calls == ["open", "flush", "close"]


def test_an_interrupt_is_not_held_up_by_a_stuck_node():
    held = Held()

    def interrupt():
        held.entered.wait(SOON)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        (Count() >> held).run()
    assert any("Held did not return" in note for note in caught.value.__notes__)
    thread.join(SOON)
    held.release.set()
    join_left_behind()


def test_an_interrupt_while_opening_closes_what_is_open():
    class Opens(Add):
        def open(self):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(SOON)

    keep = Keep()
    with pytest.raises(KeyboardInterrupt):
        ([1] >> tee(keep, Opens())).run()
    assert keep.calls == ["open", "close"]


def test_a_thread_that_cannot_start_undoes_the_start(monkeypatch):
    keep = Keep()
    start, names = threading.Thread.start, []

    def limited(thread):
        names.append(thread.name)
        if len(names) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        (Count() >> Apart() >> keep).start()
    assert keep.calls == ["open", "close"]


# Figures.


@given(st.lists(st.integers() | st.text(max_size=2), max_size=40), st.integers(1, 4))
def test_counts_add_up(values, capacity):
    result = Pipeline([list(values), Add(), Each(), Through(), Keep()], capacity=capacity).run()
    numbers = sum(isinstance(v, int) for v in values)
    assert result.statistics["list"].sent == len(values)
    for name in ("Add", "Each", "Through"):
        hop = result.statistics[name]
        assert (hop.received, hop.sent, hop.passed) == (numbers, numbers, len(values) - numbers)
        assert hop.dropped == 0
    assert sum(result.items.values()) == len(values)


def test_live_sources_drop_the_old_and_count_it():
    class Live(Node):
        live = True

        def __init__(self):
            self.go, self.made = threading.Event(), threading.Event()

        def items(self):
            yield 0
            self.go.wait(SOON)
            yield from range(1, 101)
            self.made.set()

    live, held = Live(), Held()
    run = (live >> held).start()
    assert held.entered.wait(SOON)
    live.go.set()
    assert live.made.wait(SOON)
    held.release.set()
    hop = run.wait().statistics["Held"]
    assert (hop.received, hop.dropped) == (2, 99)


def test_live_sources_may_keep_more_of_a_track():
    class Live(Node):
        live = {"audio": 50}  # noqa: RUF012

        def __init__(self):
            self.go, self.made = threading.Event(), threading.Event()

        def items(self):
            yield Item(-1, track="first")
            self.go.wait(SOON)
            for n in range(30):
                yield Item(n, track="audio")
                yield Item(n, track="video")
            self.made.set()

    live, held, keep = Live(), Held(), Keep()
    run = (live >> held >> keep).start()
    assert held.entered.wait(SOON)
    live.go.set()
    assert live.made.wait(SOON)
    held.release.set()
    assert run.wait().items == {"first": 1, "audio": 30, "video": 1}


def test_statistics_while_it_runs():
    keep = Keep(wanted=50)
    with (Count() >> Add() >> keep).start() as run:
        assert keep.enough.wait(SOON)
        now = run.statistics()
        assert now["Keep"].received >= 50
        assert now["Add"].p50 <= now["Add"].p95
        assert now["Add"].busy > 0
        assert now["Add"].capacity == 8
        assert now.latency[0] is not None
        assert 0 < now.elapsed < SOON


def test_tables():
    class Remote(Through):
        tier = "namespaces"

        def statistics(self):
            return {"bytes": 1234567, "dropped": 2}

    result = ([1, 2] >> Remote() >> Keep()).run()
    text = str(result)
    assert text.splitlines()[0].split() == [
        "node",
        "in",
        "out",
        "past",
        "drops",
        "fps",
        "p50",
        "ms",
        "p95",
        "ms",
        "load",
        "queue",
        "bytes",
        "tier",
    ]
    assert "1,234,567" in text
    assert "namespaces" in text
    assert "2 items at the end" in text
    assert "<table>" in result._repr_html_()
    assert result.statistics["Remote"].dropped == 2


# Live changes.


def test_parameters_change_between_items():
    add = Add()
    turn, ready = threading.Event(), threading.Event()

    class Turn(Keep):
        def process(self, item: Item) -> None:
            super().process(item)
            ready.set()

    def source():
        yield 0
        turn.wait(SOON)
        yield 0

    keep = Turn()
    run = (source() >> add >> keep).start()
    assert ready.wait(SOON)
    run.set(add, amount=10)
    run.set("Add", amount=20)
    turn.set()
    run.wait()
    assert keep.kept == [1, 20]


def test_stream_nodes_change_by_their_own_set():
    class Settable(Through):
        gain: int = 1

        def __init__(self):
            self.set_to = None

        def set(self, **values):
            self.set_to = values

    class Real(Settable):
        def __init__(self, gain=1):
            super().__init__()

    real = Real()
    with (Count() >> real >> Keep()).start() as run:
        run.set(real, gain=3)
    assert real.set_to == {"gain": 3}


def test_wrong_changes_are_refused():
    add = Add()
    with (Count() >> add >> Keep()).start() as run:
        with pytest.raises(ConfigError, match="Add has no parameter 'amuont'; it has: amount"):
            run.set(add, amuont=1)
        with pytest.raises(ConfigError, match="is not in this run; there are: Count, Add, Keep"):
            run.set(Add(), amount=1)
    with pytest.raises(PipelineError, match="the run has ended"):
        run.set(add, amount=1)
