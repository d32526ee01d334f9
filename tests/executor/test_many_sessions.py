"""Two hundred sessions opened and dropped, in every way that a session can end: nothing of them is left."""

import gc
import os
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from avlab_executor.sandbox import cgroup
from neighbours import feel
from serving import served, until
from small import Small

import avlab
from avlab.core.errors import SessionError

SESSIONS = 200
AT_ONCE = 4


def drop(executor: avlab.Executor, number: int) -> str:
    """Open a session and end it, each time in another way."""
    session = executor.open(Small())
    ways: dict[str, Callable[[], object]] = {
        "used and closed": lambda: (session.call("process", 1), session.close()),
        "closed at once": session.close,
        "forgotten": lambda: session.call("process", 1),
        "left in the middle of a stream": lambda: (next(session.iterate("count", 1000)), session.close()),
        "closed with inputs under way": lambda: (next(session.stream(range(50))), session.close()),
        "killed": lambda: os.kill(worker_of(session), 9) if worker_of(session) else session.close(),
    }
    way = list(ways)[number % len(ways)]
    with suppress(SessionError):  # of one that was killed
        ways[way]()
        if way == "killed":
            session.call("process", 1)
    return way


GRPC_THREADS = 8
"""By so many the pools of gRPC, which keep their threads, may have grown meanwhile: one or two were seen. A leak would be 33 at least."""


def worker_of(session: avlab.Session) -> int:
    """The worker's process where it is on this machine and ours to see, else 0."""
    return int(getattr(session._link, "pid", 0))


def drop_many(executor: avlab.Executor, count: int) -> Counter[str]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return Counter(threads.map(lambda number: drop(executor, number), range(count)))


def holds(process: psutil.Process) -> dict[str, int]:
    """What a process and its children hold and have put down on this machine."""
    family = [process, *process.children(recursive=True)]
    gc.collect()  # forgotten sessions are found by it
    return {
        "processes": len(family),
        "threads": sum(one.num_threads() for one in family),
        "descriptors": sum(one.num_fds() for one in family),
        "folders": len(list(Path(tempfile.gettempdir()).glob("avlab-*/*"))),
        "groups": sum(len(list(folder.glob("*/"))) for folder in groups_of(family)),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
    }


def groups_of(family: list[psutil.Process]) -> list[Path]:
    """Folders of the control groups that workers of this family are in; none where groups cannot be made."""
    pids = {str(one.pid) for one in family}
    try:
        folders = Path(cgroup.find().folder).glob("avlab-*/*/")
    except OSError:
        return []
    return list({f.parent for f in folders if pids & set((f / "cgroup.procs").read_text().split())})


def settled(process: psutil.Process) -> dict[str, int]:
    """What it holds when the pool has refilled and the last worker is buried: the same twice, a moment apart."""
    last: dict[str, int] = {}
    for _ in range(100):
        threading.Event().wait(0.2)
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            now = holds(process)
            if now == last:
                return now
            last = now
    return last


def more(process: psutil.Process, before: dict[str, int]) -> dict[str, int]:
    with suppress(psutil.NoSuchProcess, FileNotFoundError):  # one has just ended
        return {name: value for name, value in holds(process).items() if value > before[name]}
    return {"processes": 1}


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Folders of other executors on this machine are not counted."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.alone
def test_embedded(alone):
    process = psutil.Process()
    with avlab.connect() as executor:
        drop_many(executor, 12)
        before = settled(process)
        ways = drop_many(executor, SESSIONS)
        assert until(lambda: not more(process, before), 20), more(process, before)
    assert sum(ways.values()) == SESSIONS and len(ways) == 6


@pytest.mark.alone
def test_a_server(alone):
    with served() as (url, server), avlab.connect(url, grace=0) as executor:
        processes = psutil.Process(server.pid), psutil.Process()
        drop_many(executor, 24)
        before = [settled(process) for process in processes]
        for each in before:
            each["threads"] += GRPC_THREADS
        drop_many(executor, SESSIONS)
        assert until(lambda: not any(map(more, processes, before)), 20), list(map(more, processes, before))


@pytest.mark.alone
def test_a_neighbour_that_burns_all_processors_is_hardly_felt():
    """Measured by make neighbours; here only that nothing of another order happens."""
    felt = feel("namespaces", rounds=3)
    assert felt.beside[1] < 4 * felt.alone[1] + 5


def test_an_executor_that_nobody_holds_ends_after_its_last_session():
    """Its zygote stayed until the end of the process."""
    children = set(psutil.Process().children(recursive=True))
    session = avlab.connect().open(Small())
    gc.collect()
    started = set(psutil.Process().children(recursive=True)) - children
    assert started
    assert session.call("process", 1) == 2  # it holds its executor
    del session
    assert until(lambda: gc.collect() is not None and not any(each.is_running() for each in started))
    avlab.connect()
    assert until(lambda: gc.collect() is not None and set(psutil.Process().children(recursive=True)) <= children)


def test_a_session_whose_worker_died_is_freed_when_it_is_forgotten():
    """The error that was raised must not keep the session: its descriptors were lost until the process ended."""
    with avlab.connect() as executor:
        executor.open(Small()).close()
        session = executor.open(Small())
        os.kill(worker_of(session), 9)
        with pytest.raises(avlab.WorkerDied):
            session.call("process", 1)
        gone, link = weakref.ref(session), weakref.ref(session._link)
        del session
        assert until(lambda: gc.collect() is not None and gone() is None and link() is None)
