"""Every limit is hit once, in each tier that enforces it, and a death tells its true reason."""

import json
import os
import select
import signal
import time

import pytest
from avlab_executor.process import WorkerProcess
from sandbox_host import Conversation

from avlab.core.errors import LimitUnsupported
from avlab.remote.limits import Limits

MIB = 1 << 20
KNOWN_WITHIN = 2.0
MAPPED = 8  # six descriptors, and Python keeps one for each of the two mapped regions


def end_of(worker: WorkerProcess, seconds: float = 20.0):
    """The worker's end with its reason."""
    end = worker.exited(seconds)
    assert end is not None
    return end


def test_everyday_code_works(start):
    result = start().ask(errand="everyday")
    assert result.get("result") == {
        "frames": 5,
        "matrix": 200.0,
        "asyncio": 7,
        "threads": 20,
        "import": "xml.etree.ElementTree",
    }, result


def test_the_worker_knows_nothing_of_the_hosts_environment(start):
    conversation = start()
    result = conversation.ask(errand="environment")["result"]
    assert "secret" not in str(result)
    assert set(result["now"]) <= {
        "PATH",
        "LANG",
        "MALLOC_ARENA_MAX",
        "HOME",
        "TMPDIR",
        "PWD",
        "TZ",
        "LD_LIBRARY_PATH",
    } | {name for name in result["now"] if name.endswith("_THREADS")}
    assert result["cwd"] == result["now"]["HOME"] == result["now"]["TMPDIR"]


def test_the_worker_has_six_descriptors(start):
    result = start().ask(errand="descriptors")["result"]
    assert result[:6] == list("012345")
    assert len(result) == MAPPED + 1  # and the one that lists them


def test_a_namespace_holds_only_the_worker(start, pool):
    result = start().ask(errand="environment")["result"]
    if pool.tier == "namespaces":
        assert result["pid"] == 1
    else:
        assert result["uid"] == os.geteuid()


def test_random_numbers_differ_between_sessions(start):
    first, second = (start().ask(errand="numbers")["result"] for _ in range(2))
    assert first[0] != second[0] and first[1] != second[1]


def test_standard_output_and_error_arrive(start):
    conversation = start()
    conversation.ask(errand="speak", text="hello")
    worker = conversation.worker
    assert os.read(worker.stdout, 100) == os.read(worker.stderr, 100) == b"hello\n"


def test_memory(start):
    conversation = start(memory="256M")
    assert conversation.ask(errand="allocate", size=150 * MIB) == {"result": 150 * MIB}
    assert conversation.ask(errand="allocate", size=400 * MIB) == {"error": "MemoryError"}
    assert conversation.ask(errand="share", size=100 * MIB, times=5)["error"] in ("ENOMEM", "MemoryError")
    assert conversation.ask(errand="allocate", size=150 * MIB) == {"result": 150 * MIB}


def test_memory_beyond_the_default_needs_no_other_worker(start):
    assert start(memory="3G").worker.limits.memory == 3 << 30


def test_cpu_seconds(start):
    conversation = start(cpu_seconds=1)
    conversation.tell(errand="burn")
    end = end_of(conversation.worker)
    assert (end.reason, end.text) == ("cpu", "CPU limit of 1 s reached")
    assert 0.5 <= end.cpu_seconds < 2


def test_open_files(start):
    result = start(open_files=40).ask(errand="open_many", most=100)["result"]
    assert result == {"opened": 40 - MAPPED, "error": "EMFILE"}
    assert start().ask(errand="open_many", most=300)["result"] == {"opened": 256 - MAPPED, "error": "EMFILE"}


def test_threads_are_allowed_and_processes_are_not(start):
    conversation = start()
    assert conversation.ask(errand="threads", count=50) == {"result": 50}
    assert conversation.ask(errand="run", command=["/usr/bin/env"]) == {"error": "EPERM"}
    assert conversation.ask(errand="fork_many", most=1)["result"] == {"children": 0, "error": "EPERM"}


def test_scratch(start, pool):
    if pool.tier == "landlock":
        with pytest.raises(LimitUnsupported, match=r"scratch=.* tier 'namespaces' can"):
            pool.acquire(Limits(scratch="8M"))
        return
    conversation = start(scratch="8M")
    assert conversation.ask(errand="fill", name="big") == {"result": {"written": 8 * MIB, "error": "ENOSPC"}}
    assert conversation.ask(errand="fill", name="more") == {"result": {"written": 0, "error": "ENOSPC"}}
    assert conversation.ask(errand="spread", files=10_000, size=0) == {"error": "ENOSPC"}


def test_scratch_by_default(start, pool):
    conversation = start()
    if pool.tier == "namespaces":
        assert conversation.worker.limits.scratch == 1 << 30
        return
    big = conversation.ask(errand="fill", name="big", block=64 * MIB)["result"]
    assert big == {"written": 1 << 30, "error": "EFBIG"}
    end = end_of(conversation.worker)
    assert (end.reason, end.text) == ("output", "scratch limit of 1 GiB reached")
    folder = conversation.worker.profile.scratch
    conversation.close()
    assert not os.path.exists(folder)


def test_a_folder_too_deep_to_follow_is_removed_too(start, pool):
    conversation = start()
    try:
        assert conversation.ask(errand="nest", depth=3000) == {"result": None}
    except json.JSONDecodeError:  # on a busy machine the pool looks before it has ended, and takes it for too much
        assert "scratch limit" in end_of(conversation.worker).text
    conversation.close()
    if pool.tier == "landlock":
        assert not os.path.exists(conversation.worker.profile.scratch)


def test_processes(start, pool):
    if pool.tier == "landlock":
        with pytest.raises(LimitUnsupported, match=r"processes=4 .* tier 'namespaces' can"):
            pool.acquire(Limits(processes=4))
        return
    conversation = start(processes=4)
    assert conversation.ask(errand="run", command=["/usr/bin/id", "-u"])["result"].strip() != "0"
    assert conversation.ask(errand="fork_many", most=20)["result"] == {"children": 3, "error": "EAGAIN"}


def test_all_processes_die_with_the_worker(start, pool):
    if pool.tier == "landlock":
        with pytest.raises(LimitUnsupported):
            pool.acquire(Limits(processes=8))
        return
    conversation = start(processes=8)
    conversation.ask(errand="fork_many", most=5)
    with open(f"/proc/{conversation.worker.pid}/task/{conversation.worker.pid}/children") as file:
        children = [os.pidfd_open(int(pid)) for pid in file.read().split()]
    assert len(children) == 5
    conversation.worker.kill()
    for child in children:
        assert_ends(child)


def assert_ends(handle: int) -> None:
    try:
        assert select.select([handle], [], [], KNOWN_WITHIN)[0]
    finally:
        os.close(handle)


@pytest.mark.parametrize("grouped", [True, False], ids=["control group", "watched"])
def test_memory_of_many_processes_is_one_limit(start, pool, grouped, monkeypatch):
    if pool.tier == "landlock":
        with pytest.raises(LimitUnsupported):
            pool.acquire(Limits(processes=8))
        return
    if not grouped:
        monkeypatch.setattr(pool._spawner, "groups", None)
    conversation = start(processes=8, memory="128M")
    assert (conversation.worker.group is not None) is grouped
    conversation.tell(errand="children_allocate", count=5, size=100 * MIB)
    end = end_of(conversation.worker)
    assert (end.reason, end.text) == ("oom", "memory limit of 128 MiB reached")


def test_cpu_of_many_processes_is_one_limit(start, pool):
    if pool.tier == "landlock":
        with pytest.raises(LimitUnsupported):
            pool.acquire(Limits(processes=8))
        return
    conversation = start(processes=8, cpu_seconds=2)
    conversation.tell(errand="children_burn", count=3)
    end = end_of(conversation.worker)
    assert (end.reason, end.text) == ("cpu", "CPU limit of 2 s reached")


@pytest.mark.parametrize(
    ("by", "reason", "text"),
    [
        ("SIGKILL", "signal", "killed by SIGKILL"),
        ("fault", "signal", "killed by SIGSEGV"),
        ("abort", "signal", "killed by SIGABRT"),
        ("x32", "seccomp", "killed for a system call that no worker may make (SIGSYS)"),
        ("foreign", "seccomp", "killed for a system call that no worker may make (SIGSYS)"),
        ("exit", "exit", "exit code 3"),
    ],
)
def test_reasons_of_death(start, pool, by, reason, text):
    conversation = start()
    if pool.tier == "namespaces" and by == "SIGKILL":
        # The first process of a namespace is deaf to its own signals: somebody outside sends it.
        os.kill(conversation.worker.pid, signal.SIGKILL)
    else:
        conversation.tell(errand="die", by=by)
    end = end_of(conversation.worker, KNOWN_WITHIN)
    if pool.tier == "namespaces" and by in ("fault", "abort"):
        text = "killed by SIGSEGV, or by its own abort(): in this tier both end alike"
    assert (end.reason, end.text) == (reason, text)


@pytest.mark.parametrize("reason", ["signal", "wall", "output", "cancelled", "oom", "cpu"])
def test_the_hosts_own_kill_keeps_its_reason(start, reason):
    worker = start(output="1M").worker
    worker.kill(reason)
    worker.kill("signal")
    assert end_of(worker, KNOWN_WITHIN).reason == reason


def test_a_group_that_runs_out_of_memory_says_so(start, pool):
    conversation = start()
    group = conversation.worker.group
    assert group is not None, "this system gives us no memory control group"
    group.limit(64 * MIB)
    conversation.tell(errand="share", size=100 * MIB, times=1)
    assert end_of(conversation.worker, KNOWN_WITHIN).reason == "oom"


def test_interrupt(start):
    conversation: Conversation = start()
    conversation.tell(errand="sleep")
    started = time.monotonic()
    while wait_channel(conversation.worker.pid) == "0":
        assert time.monotonic() - started < KNOWN_WITHIN
    conversation.worker.interrupt()
    assert conversation._lines.readline() == '{"error": "KeyboardInterrupt"}\n'
    assert conversation.ask(errand="allocate", size=1) == {"result": 1}


def wait_channel(pid: int) -> str:
    """ "0" while it runs."""
    with open(f"/proc/{pid}/stat") as file:
        return "0" if file.read().rpartition(")")[2].split()[0] == "R" else "1"
