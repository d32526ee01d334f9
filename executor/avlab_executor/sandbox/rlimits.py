"""Resource limits of a worker: some for every worker, the others for its session. A worker can only lower them."""

from __future__ import annotations

import resource
from collections.abc import Mapping

_MEMLOCK = 8 << 20

# By the names that /proc/<pid>/limits prints, for the look from outside.
KINDS = {
    "as": (resource.RLIMIT_AS, "Max address space"),
    "cpu": (resource.RLIMIT_CPU, "Max cpu time"),
    "nofile": (resource.RLIMIT_NOFILE, "Max open files"),
    "nproc": (resource.RLIMIT_NPROC, "Max processes"),
    "fsize": (resource.RLIMIT_FSIZE, "Max file size"),
}


def close_leaks() -> None:
    """What no worker needs: core files, real-time priority, message queues, much locked memory."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, _MEMLOCK),
    ):
        _lower(kind, value)


def apply(limits: Mapping[str, int]) -> None:
    """Set soft and hard limit of each of KINDS that is given. A lower limit that is already there stays."""
    for name, value in limits.items():
        _lower(KINDS[name][0], value)


def own() -> dict[str, int]:
    """The hard limits in force for this process, by the names of KINDS; unlimited ones are left out."""
    found = {name: resource.getrlimit(kind)[1] for name, (kind, _) in KINDS.items()}
    return {name: value for name, value in found.items() if value != resource.RLIM_INFINITY}


def of_process(pid: int) -> dict[str, int]:
    """The hard limits in force for a process, by the names of KINDS; unlimited ones are left out. Raises OSError."""
    names = {text: name for name, (_, text) in KINDS.items()}
    found: dict[str, int] = {}
    with open(f"/proc/{pid}/limits") as file:
        for line in file:
            name = names.get(line[:25].strip())
            hard = line[46:67].strip()
            if name and hard != "unlimited":
                found[name] = int(hard)
    return found


def address_space(pid: int) -> int:
    """Bytes of address space that a process has. Raises OSError if it is gone."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
