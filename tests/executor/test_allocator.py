"""The memory of a server: one arena for all threads, and frames that do not go back to the system one by one."""

import subprocess
import sys
from pathlib import Path

from remote_objects import Callee
from serving import FAULTS, served

import avlab

HEAP = 64 << 20  # glibc maps so much for each arena but the first

CHURN = """
import ctypes, sys
if sys.argv[1] == "settled":
    from avlab_executor import allocator
    allocator.settle()
""" + FAULTS


def arenas(pid: int) -> int:
    """Of glibc, besides the first: each a part that is used and a part that is not, HEAP in all."""
    found, used = 0, None
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        extent, rights, *_ = line.split()
        begin, end = (int(number, 16) for number in extent.split("-"))
        if rights == "---p" and used is not None and used[1] == begin and used[0] % HEAP == 0 and end - used[0] == HEAP:
            found += 1
        used = (begin, end) if rights == "rw-p" else None
    return found


def arenas_of_a_server(**environment: str) -> int:
    with (
        served("--warm", "1", **environment) as (url, process),
        avlab.connect(url) as executor,
        executor.open(Callee()) as session,
    ):
        assert session.call("add", 1, 2) == 3
        return arenas(process.pid)


def test_all_threads_of_a_server_share_one_arena() -> None:
    assert arenas_of_a_server() == 0


def test_what_the_environment_says_of_the_allocator_stays() -> None:
    assert arenas_of_a_server(MALLOC_ARENA_MAX="8") > 0


def test_frames_are_made_of_memory_that_is_there() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True).stdout)
        for how in ("settled", "as it is")
    }
    assert faults["settled"] * 10 < faults["as it is"], faults
