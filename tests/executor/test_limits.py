"""Limits and deaths as a session's owner meets them, in each tier. What one worker does to the kernel is tested elsewhere."""

import errno
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import avlab
from avlab.core.errors import ConfigError, LimitExceeded, LimitUnsupported, RemoteError, WorkerDied

TIERS = ("landlock", "namespaces")
MIB = 1 << 20
KNOWN_WITHIN = 2.0


class Greedy:
    """Takes more than it may."""

    def allocate(self, size: int) -> int:
        kept = bytearray(size)
        kept[:: mmap.PAGESIZE] = b"x" * len(kept[:: mmap.PAGESIZE])
        return len(kept)

    def connect(self) -> None:
        socket.create_connection(("127.0.0.1", 7))

    def read_elsewhere(self) -> None:
        open("not_sent.csv")  # noqa: SIM115

    def complain(self) -> None:
        raise OSError("of the user")

    def burn(self) -> None:
        while True:
            pass

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def open_many(self, most: int) -> int:
        kept: list[int] = []
        try:
            while len(kept) < most:
                kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        finally:
            for descriptor in kept:
                os.close(descriptor)
        return len(kept)

    def give(self, size: int) -> bytes:
        return bytes(size)

    def print(self, size: int) -> int:
        os.write(1, b"x" * size)
        return size

    def write(self, size: int) -> int:
        with open("file", "wb") as file:
            return file.write(bytes(size))

    def fork(self, most: int) -> int:
        """Children that end at once when their parent reads what they wait for; how many could be made."""
        gate, hold = os.pipe()
        children: list[int] = []
        try:
            for _ in range(most):
                child = os.fork()
                if not child:
                    os.close(hold)
                    os.read(gate, 1)
                    os._exit(0)
                children.append(child)
        except OSError as error:
            assert error.errno in (errno.EAGAIN, errno.EPERM), error
        os.close(hold)
        for child in children:
            os.waitpid(child, 0)
        return len(children)

    def signal_self(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def die(self, code: int) -> None:
        os._exit(code)

    def crash(self) -> None:
        import ctypes

        ctypes.string_at(0)

    def pid(self) -> int:
        return os.getpid()

    def numbers(self, count: int):
        yield from range(count)
        os._exit(3)


class Slow:
    def process(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


class Parts:
    """Gives two results for each input, and dies at one."""

    def __init__(self, fatal: int, after: int) -> None:
        self.fatal, self.after = fatal, after

    def process(self, value: int):
        for part in range(2):
            if (value, part) == (self.fatal, self.after):
                os._exit(3)
            yield value, part


@pytest.fixture(scope="module", params=TIERS)
def executor(request: pytest.FixtureRequest) -> Iterator[avlab.Executor]:
    """The embedded executor with workers of each tier in turn."""
    with avlab.connect("local:", tier=request.param) as made:
        yield made


@pytest.fixture
def start(executor: avlab.Executor) -> Iterator[Callable[..., avlab.Session]]:
    """Opens sessions and closes them after the test."""
    opened: list[avlab.Session] = []

    def open_session(target: object = None, **limits: object) -> avlab.Session:
        options = {"on_log": lambda log: None} | limits
        opened.append(executor.open(Greedy() if target is None else target, **options))
        assert opened[-1].tier == executor.config.tier
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()


def assert_over(session: avlab.Session, error: WorkerDied) -> None:
    """Its end is told again to whoever uses the session, and it never begins anew."""
    assert session.closed
    for use in (
        lambda: session.call("pid"),
        lambda: list(session.stream([1])),
        lambda: list(session.iterate("numbers", 1)),
    ):
        with pytest.raises(type(error)) as again:
            use()
        assert again.value.reason == error.reason


# Memory.


def test_memory(start) -> None:
    session = start(memory="200M")
    assert session.call("allocate", 100 * MIB) == 100 * MIB
    with pytest.raises((MemoryError, LimitExceeded)) as caught:
        session.call("allocate", 400 * MIB)
    if isinstance(caught.value, LimitExceeded):
        assert caught.value.reason == "oom"
    else:  # what could not be had was not taken: the session goes on
        assert isinstance(caught.value, RemoteError)
        assert "memory= sets how many bytes" in caught.value.remote_traceback
        assert session.call("allocate", 100 * MIB) == 100 * MIB


def test_memory_of_one_session_is_not_anothers(start) -> None:
    small, large = start(memory="64M"), start(memory="400M")
    assert large.call("allocate", 200 * MIB) == 200 * MIB
    with pytest.raises((MemoryError, LimitExceeded)):
        small.call("allocate", 200 * MIB)
    assert large.call("allocate", 200 * MIB) == 200 * MIB


def test_a_unit_that_was_forgotten_is_told() -> None:
    with pytest.raises(ConfigError, match="memory=512 is less than 1 MiB: without a unit it is bytes"):
        avlab.Limits(memory=512)


def test_what_the_sandbox_denies_is_told_with_the_remedy(start) -> None:
    session = start()
    for denied, remedy in (("connect", "a worker has no network"), ("read_elsewhere", "name them with --files")):
        with pytest.raises(OSError) as caught:
            session.call(denied)
        assert remedy in caught.value.remote_traceback
    with pytest.raises(OSError, match="of the user") as caught:
        session.call("complain")
    assert "a worker" not in caught.value.remote_traceback


# Time.


def test_cpu_seconds(start) -> None:
    session = start(cpu_seconds=1)
    with pytest.raises(LimitExceeded, match="CPU limit of 1 s reached") as caught:
        session.call("burn")
    assert caught.value.reason == "cpu"
    assert caught.value.first_undelivered == 1
    assert_over(session, caught.value)


def test_sleeping_costs_no_cpu_seconds(start) -> None:
    session = start(cpu_seconds=1)
    assert session.call("sleep", 1.2) == 1.2


@pytest.mark.parametrize("method", ["burn", "sleep"])
def test_item_timeout(start, method) -> None:
    session = start(item_timeout=0.7)
    assert session.call("sleep", 0.01) == 0.01
    began = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"an item took longer than its limit of 0\.7 s") as caught:
        session.call(method, *([60] if method == "sleep" else []))
    assert 0.6 < time.monotonic() - began < 0.7 + KNOWN_WITHIN
    assert caught.value.reason == "wall"
    assert caught.value.first_undelivered == 2
    assert_over(session, caught.value)


def test_item_timeout_is_each_items_own(start) -> None:
    session = start(Slow(), item_timeout=0.8)
    assert list(session.stream([0.2] * 6)) == [0.2] * 6  # together more than the limit
    delivered = []
    with pytest.raises(LimitExceeded, match="an item took longer") as caught:
        for seconds in session.stream(iter([0.0, 0.1, 60.0, 0.0])):
            delivered.append(seconds)
    assert delivered == [0.0, 0.1]
    assert caught.value.reason == "wall"


def test_a_consumer_that_pauses_costs_no_item_timeout(start) -> None:
    session = start(item_timeout=0.7)
    results = session.iterate("numbers", 1000)
    assert next(results) == 0
    threading.Event().wait(1.0)
    assert next(results) == 1
    results.close()


@pytest.mark.parametrize("method", ["burn", "sleep"])
def test_session_timeout_of_a_busy_session(start, method) -> None:
    sessions = []
    with pytest.raises(LimitExceeded, match=r"the session took longer than its limit of 1\.5 s") as caught:
        sessions.append(start(session_timeout=1.5))  # opening it counts too, and takes as long on a busy machine
        sessions[0].call(method, *([60] if method == "sleep" else []))
    assert caught.value.reason == "wall"
    for session in sessions:
        assert_over(session, caught.value)


def test_session_timeout_of_an_idle_session(start) -> None:
    with pytest.raises(LimitExceeded, match="the session took longer") as caught:
        session = start(session_timeout=1.5)
        threading.Event().wait(1.6)
        session.call("pid")
    assert caught.value.reason == "wall"


# Output, files, processes.


@pytest.mark.parametrize("method", ["give", "print"])
def test_output(start, method) -> None:
    session = start(output="1M")
    assert session.call("give", 1000) == bytes(1000)
    with pytest.raises(LimitExceeded, match="output limit of 1 MiB reached") as caught:
        for _ in range(40):
            session.call(method, 60_000)
    assert caught.value.reason == "output"
    assert_over(session, caught.value)


def test_open_files(start) -> None:
    few, many = start(open_files=32), start(open_files=64)
    assert 0 < few.call("open_many", 200) < 32
    assert few.call("open_many", 200) + 32 == many.call("open_many", 200)


@pytest.mark.parametrize("limit", [{"scratch": "4M"}, {"processes": 4}])
def test_what_a_tier_cannot_enforce_is_refused_naming_the_one_that_can(executor, start, limit) -> None:
    if executor.config.tier == "namespaces":
        assert start(**limit).call("write", 1000) == 1000
        return
    for use in (lambda: start(**limit), lambda: executor.execute(Greedy(), "pid", **limit)):
        with pytest.raises(LimitUnsupported, match=f"{next(iter(limit))}=.*tier 'namespaces' can"):
            use()
    assert start().call("write", 1000) == 1000


def test_scratch(executor, start) -> None:
    if executor.config.tier == "landlock":
        assert start().call("write", MIB) == MIB
        return
    session = start(scratch="4M")
    assert session.call("write", 3 * MIB) == 3 * MIB
    with pytest.raises(OSError, match="No space left"):
        session.call("write", 5 * MIB)
    assert session.call("write", 3 * MIB) == 3 * MIB


def test_processes(executor, start) -> None:
    assert start().call("fork", 1) == 0  # none unless they are asked for
    if executor.config.tier == "namespaces":
        session = start(processes=6)
        assert 1 <= session.call("fork", 20) <= 5
        assert session.call("pid") > 0


@pytest.mark.parametrize(
    "limit",
    [
        {"memory": 0},
        {"memory": "much"},
        {"cpu_seconds": -1},
        {"item_timeout": 0},
        {"session_timeout": float("nan")},
        {"open_files": True},
        {"processes": "4"},
        {"cpus": 2},
    ],
    ids=str,
)
def test_values_that_are_no_limits_are_named(executor, limit) -> None:
    name = next(iter(limit))
    with pytest.raises(ConfigError, match=name if name != "memory" or limit[name] == 0 else "much"):
        executor.open(Greedy(), **limit)


@pytest.mark.parametrize(
    "limit",
    [
        {"item_timeout": float("inf")},
        {"session_timeout": float("inf")},
        {"session_timeout": 1e12},
        {"item_timeout": 1e6},
        {"session_timeout": 1e6},
        {"cpu_seconds": 1e6},
        {"cpu_seconds": float("inf")},
        {"memory": 1 << 62},
        {"memory": 1 << 70},
        {"open_files": 1 << 40},
        {"open_files": 40.5},
        {"open_files": 40.0},
        {"output": 1 << 62},
    ],
    ids=str,
)
def test_huge_limits_work_or_are_refused_by_name(executor, limit) -> None:
    try:
        session = executor.open(Greedy(), **limit)
    except ConfigError as error:
        assert next(iter(limit)) in str(error)
        return
    with session:
        assert session.call("give", 10) == bytes(10)


# Deaths.


@pytest.mark.parametrize(
    ("method", "arguments", "reason", "text"),
    [
        ("die", (3,), "exit", "exit code 3"),
        ("die", (0,), "exit", "exit code 0"),
        ("crash", (), "signal", "SIGSEGV"),
    ],
)
def test_a_death_has_its_reason_and_its_place(start, method, arguments, reason, text) -> None:
    session = start()
    for number in range(3):
        assert session.call("give", number) == bytes(number)
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=text) as caught:
        session.call(method, *arguments)
    assert time.monotonic() - began < KNOWN_WITHIN
    assert not isinstance(caught.value, LimitExceeded)
    assert caught.value.reason == reason
    assert caught.value.first_undelivered == 4
    assert_over(session, caught.value)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_kill_from_outside(executor, start, busy) -> None:
    session = start()
    assert session.call("give", 1) == b"\0"
    deaths: list[WorkerDied] = []

    def call() -> None:
        with pytest.raises(WorkerDied) as caught:
            session.call("burn")
        deaths.append(caught.value)

    thread = threading.Thread(target=call)
    if busy:
        thread.start()
        while session.statistics().inputs < 2:
            threading.Event().wait(0.001)
    os.kill(session._link.pid, signal.SIGKILL)
    began = time.monotonic()
    if not busy:
        thread.start()
    thread.join(10)
    assert time.monotonic() - began < KNOWN_WITHIN
    assert deaths[0].reason == "signal"
    assert "SIGKILL" in str(deaths[0])
    assert deaths[0].first_undelivered == 2
    assert_over(session, deaths[0])


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
def test_the_first_undelivered_input_is_named(start, after, form) -> None:
    session = start(Parts(fatal=5, after=after))
    delivered = []
    with pytest.raises(WorkerDied, match="exit code 3") as caught:
        for value in session.stream(form(list(range(20)))):
            delivered.append(value)
    expected = [(value, part) for value in range(5) for part in range(2)] + [(5, 0)] * after
    assert delivered == expected
    assert caught.value.first_undelivered == 6  # inputs are counted from 1


def test_an_iteration_gives_what_was_made_before_the_death(start) -> None:
    session = start()
    delivered = []
    with pytest.raises(WorkerDied) as caught:
        for number in session.iterate("numbers", 40):
            delivered.append(number)
    assert delivered == list(range(40))
    assert caught.value.first_undelivered == 1


def test_a_death_of_one_session_is_not_anothers(start) -> None:
    dies, lives = start(), start()
    with pytest.raises(WorkerDied):
        dies.call("die", 1)
    assert lives.call("give", 2) == bytes(2)
