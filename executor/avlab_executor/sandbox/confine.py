"""Running an installer: a program of ours that needs the network, reads what strangers have made, and may run what they have written.

It sees the system's libraries and the folders it is given, and writes where it is told to, without any capability, as a user of its
own where the system lets us. It is no worker: its network is the host's, and no system call is refused to it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from avlab_executor.sandbox import kernel, landlock, namespaces, reap, rlimits
from avlab_executor.sandbox.launch import command
from avlab_executor.sandbox.lock import drop_privileges
from avlab_executor.sandbox.nest import Nest
from avlab_executor.sandbox.profile import NAMESPACES, PROCESS, Profile, is_administrator
from avlab_executor.sandbox.visible import DEVICES, PROC_FILES, SYSTEM, SYSTEM_FILES

NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
)
UID = 65520
"""Who the installer is where this process may change its user: nobody else, and no worker."""
CANNOT_START = 70  # EX_SOFTWARE of sysexits.h


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a program is held. readable: files and folders; writable: folders, in which it may also execute if ``runs``. limits: by the
    names of sandbox.rlimits. landlock: whether the kernel has it. The first writable folder is where it starts."""

    tier: str
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    limits: dict[str, int]
    landlock: bool = True
    runs: bool = False

    @property
    def uid(self) -> int:
        """The user that it becomes; 0: it keeps this one."""
        return UID if self.tier == NAMESPACES and is_administrator() else 0

    def command(self, import_path: Sequence[str], program: Sequence[str]) -> list[str]:
        """The command line that runs ``program`` so: it begins when it reads a byte from its standard input, and ends with all that it
        has started when that is closed."""
        return command("avlab_executor.sandbox.confine:main", import_path, json.dumps(asdict(self)), *program)


def main(words: str, *program: str) -> NoReturn:
    """The keeper of one program."""
    values: dict[str, Any] = json.loads(words)
    held = Confinement(**{**values, "readable": tuple(values["readable"]), "writable": tuple(values["writable"])})
    status = CANNOT_START
    try:
        if os.read(0, 1):
            status = _keep(held, program)
    except OSError as error:
        sys.stderr.write(f"the installer cannot be confined: {error}\n")
    sys.stderr.flush()
    os._exit(status)


def _keep(held: Confinement, program: Sequence[str]) -> int:
    nest = Nest(held.tier)
    reap.adopt_orphans()
    nest.isolate_children()
    pid = os.fork()
    if pid == 0:
        _become(held, nest, program)
    handle = os.pidfd_open(pid)
    ready, _, _ = select.select([handle, 0], [], [])
    if handle not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    reap.end_children()
    return os.waitstatus_to_exitcode(status) & 0xFF


def _become(held: Confinement, nest: Nest, program: Sequence[str]) -> NoReturn:
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if held.tier == NAMESPACES:
            own = namespaces.OWN & ~kernel.CLONE_NEWNET
            namespaces.enter_root((*held.readable, *NETWORK_FILES), held.writable, own)
        os.chdir(held.writable[0])
        rlimits.close_leaks()
        rlimits.apply(held.limits)
        if held.tier != PROCESS:
            drop_privileges(Profile(held.tier, uid=held.uid), nest.administrator)
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user has cleared it
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if held.tier != PROCESS and held.landlock:
            landlock.restrict(_rules(held), network=True)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execv(program[0], list(program))
    except BaseException as error:  # noqa: BLE001  told to the host; a fork must not run on in the keeper's code
        sys.stderr.write(f"the installer cannot be confined or started: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(CANNOT_START)


def _rules(held: Confinement) -> list[tuple[str, int]]:
    rules = [(path, landlock.RUN) for path in (*SYSTEM, *held.readable)]
    rules += [(path, landlock.READ) for path in (*SYSTEM_FILES, *NETWORK_FILES, *PROC_FILES, "/proc/self")]
    rules += [(os.path.realpath(path), landlock.READ) for path in NETWORK_FILES]
    rules += [(path, landlock.DEVICE) for path in DEVICES]
    own = landlock.WRITE | landlock.RUN if held.runs else landlock.WRITE
    return [*rules, *((path, own) for path in held.writable)]
