"""Limits that the kernel does not enforce for us: looked at now and then, from one thread, for the workers that need it."""

from __future__ import annotations

import os

from avlab_executor.exits import size
from avlab_executor.process import WorkerProcess
from avlab_executor.sandbox import scratch
from avlab_executor.sandbox.profile import DEFAULT_SCRATCH, LANDLOCK

MEMORY_SECONDS = 0.05
THOROUGH_SECONDS = 1.0
# In the other tier the kernel counts them.
MOST_THREADS = 1024

_INHERITED = 64 << 20  # what a fork of the zygote shares with it and still counts as its own
_TICKS = os.sysconf("SC_CLK_TCK")


def interval(worker: WorkerProcess) -> float | None:
    """Seconds between two looks at a worker; None if the kernel enforces all its limits."""
    if worker.profile.processes or worker.group is None:
        return MEMORY_SECONDS
    return THOROUGH_SECONDS if worker.tier == LANDLOCK else None


def look(worker: WorkerProcess, thoroughly: bool) -> None:
    """Kill a worker that is over a limit. thoroughly: look at its scratch folder and threads too."""
    if worker.profile.processes or worker.group is None:
        memory, cpu = usage(worker)
        limits = worker.limits
        if limits.memory and memory > limits.memory:
            worker.kill("oom")
        elif limits.cpu_seconds and cpu > limits.cpu_seconds:
            worker.kill("cpu")
    if thoroughly and worker.tier == LANDLOCK:
        bound = worker.limits.scratch or DEFAULT_SCRATCH
        if scratch.usage(worker.profile.scratch, bound) >= bound:
            worker.kill_saying("output", f"scratch limit of {size(bound)} reached")
        elif _threads(worker.pid) > MOST_THREADS:
            worker.kill_saying("oom", f"limit of {MOST_THREADS} threads reached")


def usage(worker: WorkerProcess) -> tuple[int, float]:
    """Memory that only this session uses, in bytes, and CPU seconds, of a worker and all processes below it."""
    regions = worker.inbox.size + worker.outbox.size
    memory, ticks, pending = 0, 0, [worker.pid]
    while pending:
        one = pending.pop()
        try:
            with open(f"/proc/{one}/status") as file:
                rows = {line.split()[0]: int(line.split()[1]) << 10 for line in file if line.startswith("Rss")}
            memory += max(0, rows["RssAnon:"] - _INHERITED) + max(0, rows["RssShmem:"] - regions)
            with open(f"/proc/{one}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own and those of children it has waited for
            if worker.profile.processes:
                pending += _children(one)
        except (OSError, KeyError):  # it has just ended
            continue
    return memory, ticks / _TICKS


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def _threads(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Threads:")), 0)
    except OSError:  # it has just ended
        return 0
