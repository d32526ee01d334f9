"""What a worker is locked into: decided by the host, carried out by the worker itself before the first user byte."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from avlab.remote.limits import TIERS

STRENGTH = TIERS  # strongest first
GVISOR, NAMESPACES, LANDLOCK, PROCESS = TIERS
NESTED = (GVISOR, NAMESPACES)  # in a root file system of their own, as pid 1 of a pid namespace

SCRATCH = "/scratch"  # where nested tiers mount a session's scratch space
DEFAULT_SCRATCH = 1 << 30

_ADMINISTRATION = (
    1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 19 | 1 << 21
)  # CAP_KILL SETGID SETUID SETPCAP SYS_PTRACE SYS_ADMIN


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to lock a worker.

    scratch: its writable folder, which is its working directory, HOME and TMPDIR. scratch_size: bytes; nested tiers mount exactly
    that much. processes: whether it may fork and exec. readable: files and folders that it may read and run. uid: the user
    to become, 0 to stay. landlock: whether the kernel has it.
    """

    tier: str
    scratch: str = SCRATCH
    scratch_size: int = DEFAULT_SCRATCH
    processes: bool = False
    readable: tuple[str, ...] = ()
    uid: int = 0
    landlock: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values for the way to the zygote."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Profile:
        """The inverse of to_json."""
        return cls(**{**values, "readable": tuple(values["readable"])})


def is_administrator() -> bool:
    """Whether this process may make namespaces without a user namespace and change its user: root with its capabilities."""
    return os.geteuid() == 0 and read_status(os.getpid())["CapEff"] & _ADMINISTRATION == _ADMINISTRATION


def read_status(pid: int) -> dict[str, int]:
    """The security lines of /proc/<pid>/status as numbers. Raises OSError if the process is gone."""
    wanted = {"Seccomp": 10, "NoNewPrivs": 10, "CapInh": 16, "CapPrm": 16, "CapEff": 16, "CapBnd": 16, "CapAmb": 16}
    found: dict[str, int] = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in wanted:
                found[name] = int(value, wanted[name])
            elif name == "Uid":
                found["Uid"] = int(value.split()[1])
            elif name == "State":
                found["Dead"] = int(value.split()[0] in "ZX")
    return found
