"""Limits that the kernel does not enforce for us: looked at now and then, from one thread, for the workers that need it."""

from __future__ import annotations

import os

from avlab_executor.exits import size
from avlab_executor.process import WorkerProcess
from avlab_executor.sandbox import scratch
from avlab_executor.sandbox.profile import DEFAULT_SCRATCH, LANDLOCK

MEMORY_SECONDS = 0.05
SCRATCH_SECONDS = 1.0

_INHERITED = 64 << 20  # what a fork of the zygote shares with it and still counts as its own
_TICKS = os.sysconf("SC_CLK_TCK")


def interval(worker: WorkerProcess) -> float | None:
    """Seconds between two looks at a worker; None if the kernel enforces all its limits."""
    if worker.profile.processes or worker.group is None:
        return MEMORY_SECONDS
    return SCRATCH_SECONDS if worker.tier == LANDLOCK else None


def look(worker: WorkerProcess, at_scratch: bool) -> None:
    """Kill a worker that is over a limit. at_scratch: measure its scratch folder too."""
    if worker.profile.processes or worker.group is None:
        memory, cpu = _usage(worker.pid, worker.inbox.size + worker.outbox.size)
        limits = worker.limits
        if limits.memory and memory > limits.memory:
            worker.kill("oom")
        elif limits.cpu_seconds and cpu > limits.cpu_seconds:
            worker.kill("cpu")
    if at_scratch and worker.tier == LANDLOCK:
        bound = worker.limits.scratch or DEFAULT_SCRATCH
        if scratch.usage(worker.profile.scratch, bound) >= bound:
            worker.kill_saying("output", f"scratch limit of {size(bound)} reached")


def _usage(pid: int, regions: int) -> tuple[int, float]:
    """Memory that only these processes use, in bytes, and CPU seconds, of a process and all below it."""
    memory, ticks, pending = 0, 0, [pid]
    while pending:
        one = pending.pop()
        try:
            with open(f"/proc/{one}/status") as file:
                rows = {line.split()[0]: int(line.split()[1]) << 10 for line in file if line.startswith("Rss")}
            memory += max(0, rows["RssAnon:"] - _INHERITED) + max(0, rows["RssShmem:"] - regions)
            with open(f"/proc/{one}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own and those of children it has waited for
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    pending += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue  # it has just ended
    return memory, ticks / _TICKS
