"""Limits that the kernel does not enforce for us: looked at now and then, from one thread, for the workers that need it."""

from __future__ import annotations

from avlab.core.units import size
from avlab_executor.process import WorkerProcess
from avlab_executor.sandbox import scratch
from avlab_executor.sandbox.family import cpu_time, tree
from avlab_executor.sandbox.profile import DEFAULT_SCRATCH, GVISOR, LANDLOCK

MEMORY_SECONDS = 0.05
THOROUGH_SECONDS = 1.0
# In the namespaces tier the kernel counts them; in gVisor they are its own, and its memory.
MOST_THREADS = 1024

_INHERITED = (
    64 << 20
)  # what a fork of the zygote shares with it, or gVisor needs itself, and still counts as the process's own


def interval(worker: WorkerProcess) -> float | None:
    """Seconds between two looks at a worker; None if the kernel enforces all its limits."""
    if _is_measured(worker):
        return MEMORY_SECONDS
    return THOROUGH_SECONDS if worker.tier == LANDLOCK else None


def look(worker: WorkerProcess, thoroughly: bool) -> None:
    """Kill a worker that is over a limit. thoroughly: look at its scratch folder and threads too."""
    if _is_measured(worker):
        used, cpu = usage(worker)
        limits = worker.limits
        if limits.memory and used > limits.memory:
            worker.kill("oom")
        elif limits.cpu_seconds and cpu > limits.cpu_seconds:
            worker.kill("cpu")
    if not thoroughly or worker.tier != LANDLOCK:
        return
    bound = worker.limits.scratch or DEFAULT_SCRATCH
    if scratch.usage(worker.profile.scratch, bound) >= bound:
        worker.kill_saying("output", f"scratch limit of {size(bound)} reached")
    elif _threads(worker.pid) > MOST_THREADS:
        worker.kill_saying("oom", f"limit of {MOST_THREADS} threads reached")


def _is_measured(worker: WorkerProcess) -> bool:
    """Whether memory and CPU time are counted here."""
    return worker.profile.processes or worker.group is None or worker.tier == GVISOR


def _family(worker: WorkerProcess) -> list[int]:
    return tree(worker.pid) if worker.profile.processes or worker.tier == GVISOR else [worker.pid]


def usage(worker: WorkerProcess) -> tuple[int, float]:
    """Memory that only this session uses, in bytes, and CPU seconds, of a worker and all processes below it."""
    family = _family(worker)
    regions = worker.inbox.size + worker.outbox.size
    private, shared = 0, [0]
    for one in family:
        try:
            with open(f"/proc/{one}/status") as file:
                rows = {line.split()[0]: int(line.split()[1]) << 10 for line in file if line.startswith("Rss")}
            private += max(0, rows["RssAnon:"] - _INHERITED)
            shared.append(max(0, rows["RssShmem:"] - regions))
        except (OSError, KeyError):  # it has just ended
            continue
    # All processes of gVisor map the same memory, which is the guest's.
    memory = private + (max(shared) if worker.tier == GVISOR else sum(shared))
    return memory, cpu_time(family) - worker.cpu_before


def _threads(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Threads:")), 0)
    except OSError:  # it has just ended
        return 0
