"""The gvisor tier: what differs from workers that the zygote forks. The attempts, and callers without root, are tried beside the other tiers'."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest
from avlab_executor.pool import Pool
from avlab_executor.sandbox import gvisor
from avlab_executor.sandbox.family import tree
from avlab_executor.sandbox.profile import GVISOR, NAMESPACES, Profile, read_status
from avlab_executor.sandbox.verify import verify
from sandbox_host import HERE, Conversation, wait_for

from avlab.core.errors import LimitUnsupported, TierUnavailable
from avlab.remote.limits import Limits

MIB = 1 << 20


@pytest.fixture(scope="module")
def pool():
    with Pool("gvisor", entry="sandbox_errands:main", paths=[HERE], preload=("numpy", "av")) as made:
        yield made


@pytest.fixture
def start(pool):
    started = []

    def acquire(**limits):
        started.append(Conversation(pool.acquire(Limits(**limits))))
        return started[-1]

    yield acquire
    for conversation in started:
        conversation.close()


def test_everyday_code_works_on_a_kernel_of_its_own(start):
    conversation = start()
    assert conversation.ask(errand="everyday")["result"]["frames"] == 5
    assert conversation.ask(errand="kernel")["result"] not in platform.uname().version
    assert conversation.ask(errand="environment")["result"]["pid"] == 1


def test_from_outside_a_guest_is_runsc_without_privileges(start):
    worker = start().worker
    family = tree(worker.pid)
    assert len(family) >= 4
    assert {os.stat(f"/proc/{one}/exe").st_ino for one in family} == {os.stat(gvisor.program()).st_ino}
    uids = {read_status(one)["Uid"] for one in family}
    assert uids == ({worker.profile.uid} if os.geteuid() == 0 else {os.geteuid()}) and 0 not in uids
    assert gvisor.wrong(worker.pid, uids.pop()) == []


def test_a_process_that_is_not_runsc_is_refused():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(TierUnavailable, match="runsc has 1 processes"):
            verify(child.pid, Profile(GVISOR), True, {})
    finally:
        child.communicate(b"\n")


def test_a_worker_of_another_tier_does_not_pass_for_a_guest(monkeypatch):
    monkeypatch.setattr(gvisor, "_PROCESSES", 1)
    with Pool(NAMESPACES, entry="sandbox_errands:main", paths=[HERE], preload=()) as other, other.acquire() as worker:
        (text,) = [line for line in gvisor.wrong(worker.pid, worker.profile.uid) if "host's kernel" in line]
        assert os.path.realpath(sys.executable) in text


@pytest.mark.parametrize(
    ("limits", "errand", "outcome"),
    [
        ({"scratch": "8M"}, {"errand": "fill", "name": "x"}, {"result": {"written": 8 * MIB, "error": "ENOSPC"}}),
        ({"memory": "256M"}, {"errand": "allocate", "size": 512 * MIB}, {"error": "MemoryError"}),
        ({"memory": "256M"}, {"errand": "share", "size": 64 * MIB, "times": 12}, {"error": "ENOMEM"}),
        ({"open_files": 40}, {"errand": "open_many", "most": 100}, "EMFILE"),
    ],
    ids=["scratch", "memory", "shared memory", "open files"],
)
def test_limits_hold(start, limits, errand, outcome):
    answer = start(**limits).ask(**errand)
    assert answer == outcome or answer["result"]["error"] == outcome


def test_cpu_time_which_its_kernel_does_not_limit_is_watched_from_outside(start):
    conversation = start(cpu_seconds=1)
    conversation.tell(errand="burn")
    end = conversation.worker.exited(20)
    assert end is not None and end.reason == "cpu"
    assert end.text == "CPU limit of 1 s reached"
    assert end.cpu_seconds >= 1


def test_processes_are_refused_and_the_tier_that_can_is_named(pool):
    with pytest.raises(LimitUnsupported, match="'namespaces' can"):
        pool.acquire(Limits(processes=4))


def test_an_interrupt_reaches_code_that_sleeps(start):
    conversation = start()
    conversation.tell(errand="sleep")
    time.sleep(0.2)  # let it fall asleep: nothing announces that
    conversation.worker.interrupt()
    assert conversation.ask(errand="allocate", size=1) == {"error": "KeyboardInterrupt"}


@pytest.mark.parametrize(
    ("by", "reason", "text"),
    [
        ("SIGKILL", "signal", "SIGKILL"),
        ("SIGABRT", "signal", "SIGABRT"),
        ("fault", "signal", "SIGSEGV"),
        ("exit", "exit", "exit code 3"),
        ("exit as killed", "signal", "killed by SIGKILL, or an exit with code 137: runsc tells both alike"),
    ],
)
def test_a_death_tells_its_reason(start, by, reason, text):
    conversation = start()
    conversation.tell(errand="die", by=by)
    end = conversation.worker.exited(10)
    assert end is not None
    assert end.reason == reason and text in end.text


def test_a_kill_leaves_no_process(start):
    worker = start().worker
    handles = [os.pidfd_open(pid) for pid in tree(worker.pid)]
    worker.kill("cancelled")
    assert worker.exited(5).reason == "cancelled"
    for handle in handles:
        wait_for(lambda handle=handle: not _lives(handle))
        os.close(handle)


def _lives(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, 0)
    except ProcessLookupError:
        return False
    return True


def test_ten_sessions_leave_nothing(pool):
    def held():
        return len(os.listdir("/proc/self/fd")), len(pool._alive), os.listdir(pool._spawner.folder)

    def settled():
        return len(pool._waiting) == 1 and pool._waiting[0]._started.is_set()

    pool.acquire().close()
    wait_for(settled, 20)
    before = held()
    for _ in range(10):
        pool.acquire().close()
    wait_for(lambda: settled() and held() == before, 20)
