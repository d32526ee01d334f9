"""For every test: a test module that leaves a process, thread or file descriptor behind fails. And how two processes share the tests."""

import fcntl
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from hypothesis import settings

settings.register_profile("avlab", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "avlab")

GRACE = 5.0  # seconds in which what a test has closed may still be ending
# Descriptors that libraries keep for the life of the process (grpc's and zmq's pollers, random numbers).
KEPT = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/dev/urandom", "/dev/null")
BROWSERS = ("rtc", "ui")
LOCKS = pytest.StashKey[tuple[IO[str], ...]]()


def folder(nodeid: str) -> str:
    """Tests of one folder follow each other in one process, and so do all that start browsers: two at once would be too slow to judge."""
    name = nodeid.split("/")[1]
    return "browsers" if name in BROWSERS else name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Gives a process the next folder when it is through with its last."""
    from xdist.scheduler import LoadScopeScheduling

    class Folders(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder(nodeid)

    return Folders(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where two processes share the tests, what takes longest begins first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: folder(item.nodeid) != "browsers")


def pytest_configure(config: pytest.Config) -> None:
    any_two_files = Path(__file__), config.rootpath / "pyproject.toml"
    config.stash[LOCKS] = tuple(map(Path.open, any_two_files))


def pytest_unconfigure(config: pytest.Config) -> None:
    for lock in config.stash[LOCKS]:
        lock.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is marked ``alone`` waits until no other process tests, and the others wait for it."""
    turn, running = item.config.stash[LOCKS]
    fcntl.flock(turn, fcntl.LOCK_EX)  # who waits to be alone is next
    fcntl.flock(running, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
    fcntl.flock(turn, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(running, fcntl.LOCK_UN)


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Compares processes, threads and descriptors before and after the module."""
    before = held()
    yield
    close_shared()
    gc.collect()
    end = time.monotonic() + GRACE
    while (left := held() - before) and time.monotonic() < end:
        threading.Event().wait(0.05)  # nothing announces that a process or descriptor is gone
        gc.collect()
    assert not left, f"left behind: {sorted(left)}"


def close_shared() -> None:
    """End what lives as long as the process: the executors that nodes share and the loop thread, where they were used."""
    connecting, portal = sys.modules.get("avlab.remote.connect"), sys.modules.get("avlab.core.portal")
    if connecting:
        connecting.close_shared()
    if portal:
        portal.portal.close()


def held() -> set[str]:
    """What this process holds, by names that stay the same while it holds them."""
    processes = {f"process {child.pid}" for child in psutil.Process().children(recursive=True)}
    threads = {f"thread {thread.name} {thread.native_id}" for thread in threading.enumerate()}
    return processes | threads | set(descriptors())


def descriptors() -> Iterator[str]:
    """Open descriptors with what they refer to."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the one that reads this folder
            continue
        if target not in KEPT and not target.endswith("/fd"):
            yield f"descriptor {entry.name} {target}"
