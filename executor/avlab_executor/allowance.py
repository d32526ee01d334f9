"""What a session's limits mean in a tier: defaults filled in, impossible ones refused, numbers for the kernel."""

from __future__ import annotations

import math
from dataclasses import replace

from avlab.core.errors import LimitUnsupported
from avlab.remote.limits import Limits
from avlab_executor.sandbox.profile import DEFAULT_SCRATCH, GVISOR, LANDLOCK, NAMESPACES, PROCESS

DEFAULT_MEMORY = 2 << 30
DEFAULT_OPEN_FILES = 256
_TASKS_WITHOUT_PROCESSES = 512


def effective(limits: Limits, tier: str) -> Limits:
    """The limits that will be in force. Raises LimitUnsupported, which names the tier that can enforce what this one cannot."""
    if tier != NAMESPACES:
        for name in ("processes",) if tier == GVISOR else ("processes", "scratch"):
            value = getattr(limits, name)
            if value is not None:
                raise LimitUnsupported(
                    f"limit {name}={value} cannot be enforced by tier {tier!r}; tier {NAMESPACES!r} can: "
                    f"open with tier={NAMESPACES!r} or without this limit"
                )
    return replace(
        limits,
        memory=limits.memory or DEFAULT_MEMORY,
        cpu_seconds=None if limits.cpu_seconds is None else math.ceil(limits.cpu_seconds),
        open_files=limits.open_files or DEFAULT_OPEN_FILES,
        scratch=limits.scratch or (DEFAULT_SCRATCH if tier != PROCESS else None),
    )


def for_kernel(limits: Limits, tier: str) -> dict[str, int]:
    """rlimits by the names of sandbox.rlimits, without the address space, for limits made by ``effective``."""
    numbers = {"nofile": limits.open_files or DEFAULT_OPEN_FILES}
    if limits.cpu_seconds is not None and tier != GVISOR:  # whose kernel ignores it: the pool watches
        numbers["cpu"] = int(limits.cpu_seconds)
    if tier == NAMESPACES:
        # Elsewhere the kernel counts all processes of the host's user.
        numbers["nproc"] = limits.processes or _TASKS_WITHOUT_PROCESSES
    if tier == LANDLOCK:
        numbers["fsize"] = limits.scratch or DEFAULT_SCRATCH
    return numbers
