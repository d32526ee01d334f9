"""The pool: fresh workers, refilled, verified from outside, without leaks, also when the host is killed."""

import errno
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from avlab_executor import zygote
from avlab_executor.pool import Pool
from avlab_executor.sandbox import selfprobe
from avlab_executor.sandbox.profile import Profile
from avlab_executor.sandbox.verify import verify, verify_limits
from sandbox_host import HERE, TIERS, Conversation, wait_for

from avlab.core.errors import AvlabError, TierUnavailable
from avlab.remote.limits import Limits

FREED_WITHIN = 2.0


def used_for(size_of: str, pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(size_of))


def test_an_idle_worker_uses_little_memory_of_its_own(pool):
    with pool.acquire() as worker:
        assert used_for("Private_", worker.pid) < 45 << 20


def test_a_worker_dies_before_its_host_when_memory_is_short(pool):
    with pool.acquire() as worker:
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "500\n"


def test_each_session_gets_a_new_worker(start):
    pids = {start().worker.pid for _ in range(4)}
    assert len(pids) == 4


def test_users_differ_between_workers(start, pool):
    uids = {os.stat(f"/proc/{start().worker.pid}").st_uid for _ in range(3)}
    status = [Path(f"/proc/{start().worker.pid}/status").read_text() for _ in range(2)]
    owners = {line for text in status for line in text.splitlines() if line.startswith("Uid")}
    assert uids and len(owners) == (2 if pool.tier == "namespaces" and os.geteuid() == 0 else 1)


def test_the_pool_refills(pool):
    for _ in range(3):
        wait_for(lambda: len(pool._waiting) == 1)
        waiting = pool._waiting[0]
        with pool.acquire() as worker:
            assert worker is waiting


def test_a_waiting_worker_that_died_is_not_handed_out(pool):
    wait_for(lambda: len(pool._waiting) == 1)
    waiting = pool._waiting[0]
    assert waiting._started.wait(5)
    os.kill(waiting.pid, signal.SIGKILL)
    assert waiting.exited(5) is not None
    with pool.acquire() as worker:
        assert worker is not waiting


def test_many_threads_acquire_at_once(pool):
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(5):
                conversation = Conversation(pool.acquire())
                assert conversation.ask(errand="allocate", size=1) == {"result": 1}
                conversation.close()
        except Exception as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_fifty_sessions_leave_nothing(pool):
    def held() -> tuple[object, ...]:
        groups = pool._spawner.groups
        with open(f"/proc/{pool._spawner._process.pid}/task/{pool._spawner._process.pid}/children") as file:
            zygote = int(file.read())
        return (
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(os.listdir(f"/proc/{zygote}/fd")),
            sorted(os.listdir(pool._spawner.folder)) if pool.tier == "landlock" else [],
            len([name for name in os.listdir(groups.folder) if name.isdigit()]) if groups else 0,
            len(Path("/proc/self/mounts").read_text().splitlines()),
            len(pool._alive),
        )

    def counts() -> tuple[object, ...]:
        wait_for(lambda: len(pool._waiting) == 1 and pool._waiting[0]._started.is_set())
        return tuple(len(item) if isinstance(item, list) else item for item in held())

    pool.acquire().close()
    before = counts()
    for _ in range(50):
        pool.acquire().close()
    wait_for(lambda: counts() == before)


def test_a_process_that_has_no_descriptors_left_says_so_and_has_workers_again_later() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Pool() as pool:
        pool.acquire().close()
        refused = 0
        for most in range(8, max(map(int, os.listdir("/proc/self/fd"))) + 8):  # so that each of the many is the last one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            try:
                pool.acquire().close()
            except AvlabError as error:
                refused += 1
                assert "Too many open files" in str(error) or "descriptor" in str(error) or "ended" in str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert refused
        pool.acquire().close()
        assert pool._thread.is_alive()


def test_closing_is_idempotent_and_ends_everything():
    pool = Pool("landlock", entry="sandbox_errands:main", paths=[HERE], preload=())
    worker = pool.acquire()
    handle, folder = os.pidfd_open(worker.pid), pool._spawner.folder
    pool.close()
    pool.close()
    assert select.select([handle], [], [], FREED_WITHIN)[0]
    os.close(handle)
    assert worker.exited(0).reason == "cancelled"
    worker.close()
    worker.close()
    assert not os.path.exists(folder)
    with pytest.raises(AvlabError, match="closed"):
        pool.acquire()


@pytest.mark.parametrize("tier", TIERS)
def test_a_zygote_has_one_thread_whatever_it_imports(tier):
    with Pool(tier, entry="sandbox_errands:main", paths=[HERE], preload=("numpy", "av")) as pool:
        pool.acquire().close()
        with open(f"/proc/{pool._spawner._process.pid}/task/{pool._spawner._process.pid}/children") as file:
            status = Path(f"/proc/{int(file.read())}/status").read_text()
        assert "Threads:\t1\n" in status


@pytest.mark.parametrize("tier", TIERS)
def test_a_zygote_that_dies_takes_its_workers_and_is_replaced(tier):
    with Pool(tier, entry="sandbox_errands:main", paths=[HERE], preload=()) as pool:
        conversation = Conversation(pool.acquire())
        with open(f"/proc/{pool._spawner._process.pid}/task/{pool._spawner._process.pid}/children") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        end = conversation.worker.exited(FREED_WITHIN)
        assert end is not None and end.reason == "signal"
        conversation.close()
        conversation = Conversation(pool.acquire())
        assert conversation.ask(errand="allocate", size=1) == {"result": 1}
        conversation.close()


def test_an_entry_that_cannot_be_imported_is_named():
    with (
        Pool("landlock", entry="no_such_module:main", preload=()) as pool,
        pytest.raises(AvlabError, match="no_such_module"),
    ):
        pool.acquire()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("heir", [False, True], ids=["alone", "with a child that keeps its descriptors"])
def test_a_killed_host_frees_its_workers(tier, heir):
    code = f"""
        import json, os, sys, time
        from avlab_executor.pool import Pool
        pool = Pool({tier!r}, entry="sandbox_errands:main", paths=[{HERE!r}], preload=())
        workers = [pool.acquire() for _ in range(2)]
        groups = pool._spawner.groups
        child = os.fork() if {heir} else 0
        if {heir} and not child:
            time.sleep(60)
        print(json.dumps([child, [w.pid for w in workers], pool._spawner._process.pid, pool._spawner.folder, groups and groups.folder]), flush=True)
        time.sleep(60)
    """
    host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    child, workers, keeper, *folders = json.loads(host.stdout.readline())
    handles = [os.pidfd_open(pid) for pid in (*workers, keeper)]
    host.kill()
    killed = time.monotonic()
    host.wait()
    host.stdout.close()
    for handle in handles:
        assert select.select([handle], [], [], FREED_WITHIN)[0]
        os.close(handle)
    wait_for(lambda: not any(folder and os.path.exists(folder) for folder in folders))
    assert time.monotonic() - killed < FREED_WITHIN
    if child:
        os.kill(child, signal.SIGKILL)


def test_the_host_imports_none_of_what_workers_need():
    code = "import sys, avlab_executor.pool; print([m for m in ('numpy', 'av', 'cloudpickle', 'grpc') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Verification from outside.


@pytest.mark.parametrize("tier", TIERS)
def test_a_process_that_is_not_locked_is_refused(tier):
    answers = dict.fromkeys(selfprobe._ATTEMPTS, 0)
    with pytest.raises(TierUnavailable) as refused:
        verify(os.getpid(), Profile(tier, uid=12345), os.geteuid() == 0, answers)
    for layer in (
        "no seccomp filter",
        "no_new_privs is off",
        "Landlock does not refuse",
        *(["mnt namespace"] if tier == "namespaces" else []),
    ):
        assert layer in str(refused.value)


def test_limits_that_are_not_in_force_are_noticed():
    with pytest.raises(TierUnavailable, match="as, cpu"):
        verify_limits(os.getpid(), {"as": 1, "cpu": 1})


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("missing", ["seccomp.install", "landlock.restrict", "kernel.clear_capabilities"])
def test_a_worker_without_one_layer_is_refused(tier, missing, tmp_path):
    if os.geteuid() != 0 and missing.startswith("kernel"):
        pytest.fail("capabilities can be kept by root only: run the suite as root")
    # A zygote that was tampered with: the entry module disarms one layer before any worker is locked.
    module, _, name = missing.partition(".")
    (tmp_path / "disarmed.py").write_text(
        f"from avlab_executor.sandbox import {module}\n{module}.{name} = lambda *a, **k: None\nfrom sandbox_errands import main\n"
    )
    with Pool(tier, entry="disarmed:main", paths=[HERE, str(tmp_path)], preload=(), warm=0) as pool:
        if missing == "kernel.clear_capabilities" and tier == "namespaces":
            pool.acquire().close()  # the change of user has already emptied them
            return
        with pytest.raises(TierUnavailable, match="not locked"):
            pool.acquire()


def test_a_worker_that_cannot_be_locked_says_why(tmp_path):
    (tmp_path / "broken.py").write_text(
        "from avlab_executor.sandbox import landlock\n"
        "def fail(rules):\n    raise OSError(1, 'no Landlock today')\n"
        "landlock.restrict = fail\nfrom sandbox_errands import main\n"
    )
    with (
        Pool("landlock", entry="broken:main", paths=[HERE, str(tmp_path)], preload=(), warm=0) as pool,
        pytest.raises(TierUnavailable, match="no Landlock today"),
    ):
        pool.acquire(Limits(memory="64M"))


def test_the_process_tier_limits_resources_only():
    with Pool("process", entry="sandbox_attempts:when_told", paths=[HERE], preload=()) as pool:
        assert pool.tier == "process"
        worker = pool.acquire(Limits(memory="1G"))
        worker.socket.sendall(b"!")
        assert worker.exited(20).text == "exit code 1"  # the attack code has noticed that nothing confines it
        assert b"runs in a locked worker only" in os.read(worker.stderr, 1000)
        worker.close()


def test_a_kernel_that_lacks_what_a_pool_needs_is_told_so(monkeypatch) -> None:
    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", missing)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(json.dumps({"host": os.getpid()}).encode())
        zygote.main(str(theirs.detach()))
        assert re.match("pidfd_open: .* need Linux 5.3", json.loads(ours.recv(4096))["refused"])
