"""What only a real worker does: output, deaths, interrupts, closing. Over the embedded executor and gRPC."""

import asyncio
import gc
import signal
import threading
import time
from itertools import islice

import pytest
import remote_objects as far
from remote_objects import Callee
from serving import until

import avlab
from avlab.core.errors import RemoteError, SessionClosed, SessionError, WorkerDied


class Logs:
    """What a worker has said."""

    def __init__(self) -> None:
        self.entries = []
        self._arrived = threading.Condition()

    def __call__(self, log) -> None:
        with self._arrived:
            self.entries.append(log)
            self._arrived.notify_all()

    def text(self, stream: str = "stdout") -> str:
        return b"".join(log.data for log in self.entries if log.stream == stream).decode()

    def wait_for(self, text: str) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: text in self.text(), 20)


@pytest.fixture
def logs() -> Logs:
    return Logs()


# Output.


@pytest.mark.parametrize(("to", "stream"), [("stdout", "stdout"), ("stderr", "stderr"), ("logging", "stderr")])
def test_output_arrives_before_the_result_of_the_call_that_made_it(open_sandbox, logs, to, stream) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    for turn in range(30):
        session.call("say", f"turn {turn}", to)
        assert f"turn {turn}\n" in logs.text(stream)


def test_output_arrives_before_the_item_that_made_it(open_sandbox, logs) -> None:
    session = open_sandbox(far.Noisy(), on_log=logs)
    for value in session.stream(iter(range(2000))):
        assert f"{value}\n" in logs.text()[-4000:]


def test_output_is_bounded_and_what_is_left_out_is_counted(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    assert session.call("flood", 30_000) == 30_000
    kept, dropped = sum(len(log.data) for log in logs.entries), sum(log.dropped for log in logs.entries)
    assert kept + dropped == 3_000_000
    assert dropped > 0
    assert kept <= 3 << 20
    assert session.call("add", 1) == 2


def test_without_a_taker_output_is_printed(open_sandbox, capsys) -> None:
    session = open_sandbox(Callee())
    session.call("say", "on stdout")
    session.call("say", "on stderr", "stderr")
    shown = capsys.readouterr()
    assert shown.out == "on stdout\n"
    assert shown.err == "on stderr\n"


def test_figures_come_as_png(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    assert session.call("draw") == "drawn"
    (figure,) = [log for log in logs.entries if log.stream == "display"]
    assert figure.mime == "image/png"
    assert figure.data.startswith(b"\x89PNG")


def test_a_taker_of_output_that_fails_breaks_its_call_but_not_the_session(open_sandbox) -> None:
    broken = [True]

    def on_log(log) -> None:
        if broken and broken.pop():
            raise RuntimeError("no more paper")

    session = open_sandbox(Callee(), on_log=on_log)
    with pytest.raises(RuntimeError, match="paper"):
        session.call("say", "anything")
    for turn in range(40):
        assert session.call("add", turn) == turn + 1


def test_open_and_close_of_a_node_are_called_and_heard(open_sandbox, logs) -> None:
    session = open_sandbox(far.Lifecycle(), on_log=logs)
    assert logs.text() == "opened\n"
    assert list(session.stream([1])) == [1]
    session.close()
    assert logs.text() == "opened\nclosed\n"


def test_an_error_while_closing_is_shown_without_avlabs_own_lines(open_sandbox, logs) -> None:
    session = open_sandbox(far.BreaksClosing(), on_log=logs)
    assert list(session.stream([1])) == [1]
    session.close()
    assert "ValueError: not closed" in logs.text("stderr")
    assert "remote_objects.py" in logs.text("stderr")
    assert "core/drive.py" not in logs.text("stderr")


# Deaths.


@pytest.mark.parametrize(
    ("method", "arguments", "reason", "text"),
    [("die", (7,), "exit", "exit code 7"), ("crash", (), "signal", "SIGSEGV"), ("leave", (), "exit", "exit code 3")],
)
def test_a_death_is_told_with_its_reason(open_sandbox, logs, method, arguments, reason, text) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    began = time.monotonic()
    with pytest.raises(avlab.WorkerDied, match=text) as caught:
        session.call(method, *arguments)
    assert time.monotonic() - began < 2.5
    assert caught.value.reason == reason
    assert caught.value.first_undelivered == 1
    assert session.closed
    with pytest.raises(avlab.WorkerDied, match=text):
        session.call("add", 1)
    with pytest.raises(avlab.WorkerDied, match=text):
        list(session.stream([1]))
    if method == "die":
        assert logs.text() == "last words\n"
        assert "last words" in str(caught.value)


def test_a_worker_that_cannot_even_begin_says_why(open_sandbox, logs) -> None:
    with pytest.raises(avlab.WorkerDied, match="exit code 1"):
        open_sandbox(Callee(), on_log=logs, open_files=1)
    assert "Too many open files" in logs.text("stderr")


def test_what_was_made_before_a_death_is_delivered_and_the_rest_is_named(open_sandbox) -> None:
    session = open_sandbox(far.Dies())
    delivered = []
    with pytest.raises(avlab.WorkerDied) as caught:
        for value in session.stream(iter(range(10))):
            delivered.append(value)
    assert delivered == [0, 1, 2]
    assert caught.value.first_undelivered == 4


def test_everybody_who_waits_hears_of_a_death(open_sandbox) -> None:
    session = open_sandbox(Callee())
    deaths = []

    def ask() -> None:
        with pytest.raises(avlab.WorkerDied) as caught:
            session.call("sleep", 0.3)
            session.call("die", 1)
        deaths.append(caught.value.reason)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert deaths == ["exit"] * 6


# The stop button.


class StopButton:
    """Sends SIGINT to the main thread once the worker has said that it is busy, and ``ready`` is true."""

    def __init__(self, logs: Logs, text: str, ready=lambda: True) -> None:
        def press() -> None:
            logs.wait_for(text)
            assert until(ready)
            self.pressed = time.monotonic()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        self.pressed = 0.0
        self._thread = threading.Thread(target=press)
        self._thread.start()

    def check(self) -> None:
        self._thread.join()
        assert time.monotonic() - self.pressed < 2.5


def test_interrupting_a_call_that_never_returns(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    button = StopButton(logs, "spinning")
    with pytest.raises(KeyboardInterrupt):
        session.call("spin_saying")
    button.check()
    assert session.call("add", 1) == 2


def test_interrupting_a_coroutine(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    button = StopButton(logs, "waiting")
    with pytest.raises(KeyboardInterrupt):
        session.call("forever")
    button.check()
    assert session.call("later", 1) == 1


def test_interrupting_code_that_does_not_let_itself_be_interrupted_ends_its_worker(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    button = StopButton(logs, "spinning")
    with pytest.raises(KeyboardInterrupt):
        session.call("stubborn")
    button.check()
    with pytest.raises(SessionError):
        session.call("add", 1)


@pytest.mark.parametrize("form", [list, iter])
def test_interrupting_a_stream_of_slow_items_leaves_the_session_usable(open_sandbox, logs, form) -> None:
    session = open_sandbox(far.SlowNoisy(), on_log=logs)
    button = StopButton(logs, "item 1")
    with pytest.raises(KeyboardInterrupt):
        list(session.stream(form([0.4] * 50)))
    button.check()
    assert list(session.stream([0.0])) == [0.0]


def test_interrupting_a_wait_for_the_input_of_a_stream(open_sandbox, logs) -> None:
    session = open_sandbox(far.Noisy(), on_log=logs)
    release = threading.Event()

    def inputs():
        yield 1
        release.wait(20)

    button = StopButton(logs, "1")
    with pytest.raises(KeyboardInterrupt):
        list(session.stream(inputs()))
    button.check()
    release.set()
    assert list(session.stream([2])) == [2]


def test_the_remote_code_sees_an_interrupt_as_keyboard_interrupt(open_sandbox, logs) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    answers = []

    def ask() -> None:
        with pytest.raises(RemoteError) as caught:
            session.call("spin_saying")
        answers.append(caught.value)

    thread = threading.Thread(target=ask)
    thread.start()
    logs.wait_for("spinning")
    session.interrupt()
    thread.join(10)
    assert answers[0].type_name == "KeyboardInterrupt"
    assert not isinstance(answers[0], KeyboardInterrupt)
    assert session.call("add", 1) == 2


@pytest.mark.parametrize("first", ["mine", "theirs"])
def test_an_interrupt_of_one_thread_leaves_the_work_of_another_alone(open_sandbox, logs, first) -> None:
    session = open_sandbox(Callee(), on_log=logs)
    answers = []

    def ask() -> None:
        assert until(lambda: session.statistics().inputs == (first == "mine"))
        answers.append(session.call("say_and_sleep", "theirs", 1.0))

    thread = threading.Thread(target=ask)
    thread.start()
    if first == "theirs":
        assert until(lambda: session.statistics().inputs == 1)
    button = StopButton(logs, first, lambda: session.statistics().inputs == 2)
    with pytest.raises(KeyboardInterrupt):
        session.call("say_and_sleep", "mine", 30)
    button.check()
    thread.join(40)
    assert answers == ["theirs"]
    assert session.call("add", 1) == 2


def test_an_interrupt_reaches_work_that_was_left_behind(open_sandbox, logs) -> None:
    """Who left a stream early may have left the worker in an endless loop: the next stop ends that too."""
    session = open_sandbox(Callee(), on_log=logs)
    results = session.iterate("one_then_spin")
    assert next(results) == 1
    results.close()
    button = StopButton(logs, "spinning", lambda: session.statistics().inputs == 2)
    with pytest.raises(KeyboardInterrupt):
        session.call("add", 1)
    button.check()
    assert session.call("add", 1) == 2


def test_stopping_a_busy_stream_at_any_moment_costs_one_stream_and_not_the_session(open_sandbox) -> None:
    """Small items at full speed: most of the time the main thread is between two waits."""
    session = open_sandbox(far.Double())
    for turn in range(40):
        reached = threading.Event()

        def press(reached=reached) -> None:
            reached.wait(20)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        seen = []
        try:
            for value in session.stream(list(range(100_000))):
                seen.append(value)
                if len(seen) == 20 + turn:
                    reached.set()
            raise AssertionError("the stream was not stopped")
        except KeyboardInterrupt:
            thread.join()
        assert seen == [2 * n for n in range(len(seen))]
        assert session.call("process", turn) == 2 * turn
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Closing.


@pytest.mark.parametrize("method", ["spin", "forever", "endless"])
def test_closing_while_the_worker_is_busy(open_sandbox, method) -> None:
    session = open_sandbox(Callee(), on_log=lambda log: None)
    answers = []

    def ask() -> None:
        with pytest.raises(SessionClosed) as caught:
            list(session.iterate(method)) if method == "endless" else session.call(method)
        answers.append(caught.value)

    thread = threading.Thread(target=ask)
    thread.start()
    while not session.statistics().inputs:
        threading.Event().wait(0.001)
    began = time.monotonic()
    session.close()
    thread.join(10)
    assert time.monotonic() - began < 2.5
    assert len(answers) == 1


def test_closing_from_many_threads_at_once(open_sandbox) -> None:
    session = open_sandbox(Callee())
    threads = [threading.Thread(target=session.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with pytest.raises(SessionClosed):
        session.call("add", 1)


# Async twins.


def test_async_calls_and_iterations(sandboxed) -> None:
    async def use() -> None:
        async with await sandboxed.aopen(Callee()) as session:
            assert await session.acall("add", 1, b=4) == 5
            assert await asyncio.gather(*(session.acall("same", n) for n in range(30))) == list(range(30))
            assert [n async for n in session.aiterate("numbers", 50)] == list(range(50))
            with pytest.raises(ValueError, match="bad"):
                await session.acall("fail", "ValueError", "bad")
            async for number in session.aiterate("endless"):
                if number == 100:
                    break
            assert await session.acall("add", 1) == 2

    asyncio.run(use())


def test_async_streams_with_plain_and_async_input(sandboxed) -> None:
    async def inputs(count: int):
        for number in range(count):
            await asyncio.sleep(0)
            yield number

    async def failing():
        yield 1
        raise ConnectionResetError("the microphone is gone")

    async def use() -> None:
        async with await sandboxed.aopen(far.Double()) as session:
            assert [value async for value in session.astream(range(60))] == [2 * n for n in range(60)]
            assert [value async for value in session.astream(inputs(60))] == [2 * n for n in range(60)]
            got = []
            with pytest.raises(ConnectionResetError):
                async for value in session.astream(failing()):
                    got.append(value)
            assert got == [2]
            stream = session.astream(inputs(1_000_000))
            assert [await anext(stream) for _ in range(10)] == [2 * n for n in range(10)]
            await stream.aclose()
            assert await session.acall("process", 4) == 8

    asyncio.run(use())


def test_cancelling_an_async_call_interrupts_the_remote_code(sandboxed, logs) -> None:
    async def use() -> None:
        async with await sandboxed.aopen(Callee(), on_log=logs) as session:
            task = asyncio.create_task(session.acall("spin_saying"))
            await asyncio.to_thread(logs.wait_for, "spinning")
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 2.5
            assert await session.acall("add", 1) == 2

    asyncio.run(use())


def test_cancelling_a_stream_that_waits_for_its_input(sandboxed) -> None:
    async def use() -> None:
        async with await sandboxed.aopen(far.Double()) as session:
            first = asyncio.Event()

            async def inputs():
                yield 1
                await asyncio.Event().wait()

            async def consume() -> None:
                async for _ in session.astream(inputs()):
                    first.set()

            task = asyncio.create_task(consume())
            await first.wait()
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 2.5
            assert await session.acall("process", 2) == 4

    asyncio.run(use())


def test_an_async_call_behind_its_own_tasks_unfinished_stream_raises(sandboxed) -> None:
    async def use() -> None:
        async with await sandboxed.aopen(Callee()) as session:
            results = session.aiterate("endless")
            assert [await anext(results) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(SessionError, match="stream"):
                await session.acall("add", 1)
            await results.aclose()
            assert await session.acall("add", 1) == 2

    asyncio.run(use())


def test_an_opening_that_is_cancelled_leaves_no_session(sandboxed) -> None:
    async def use() -> None:
        before = sandboxed.describe().sessions
        task = asyncio.create_task(sandboxed.aopen(Callee()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end = time.monotonic() + 10
        while sandboxed.describe().sessions > before or threads("avlab-twin"):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(use())


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_forgotten_streams_are_cancelled(open_sandbox) -> None:
    session = open_sandbox(Callee())
    for _ in range(20):
        assert list(islice(session.iterate("endless"), 3)) == [0, 1, 2]
    assert session.call("add", 1) == 2


def test_forgotten_sessions_end(sandboxed) -> None:
    before = sandboxed.describe().sessions
    for number in range(5):
        assert sandboxed.open(Callee()).call("add", number) == number + 1
    gc.collect()
    assert until(lambda: sandboxed.describe().sessions <= before)


@pytest.mark.parametrize("seconds", [0, 0.01, 0.02, 0.04])
def test_a_worker_that_dies_while_it_answers_is_named(sandboxed, seconds) -> None:
    """In the middle of a large result, as a rule."""
    with sandboxed.open(Callee()) as session, pytest.raises(WorkerDied, match="exit code 9"):
        session.call("die_answering", seconds)
        session.call("sleep", 60)
    try:
        assert len(sandboxed.execute(Callee(), "die_answering", seconds)) == 60 << 20
    except WorkerDied as died:
        assert "exit code 9" in str(died)
