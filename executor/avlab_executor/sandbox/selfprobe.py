"""What a freshly locked worker tries, to prove that its layers hold: Landlock cannot be seen from outside.

Our own code in a worker that no user byte has reached, so its answers can be believed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from avlab_executor.sandbox import kernel
from avlab_executor.sandbox.profile import PROCESS, Profile

_NOBODY_HERE = 0x3FFFFF  # a pid that no system gives out by default

Answers = dict[str, int]


def answers(profile: Profile) -> Answers:
    """The errno of each attempt, 0 where it succeeded; empty in a tier that locks nothing."""
    return {name: _errno(attempt) for name, (attempt, _, _) in _expected(profile).items()}


def failures(profile: Profile, got: Answers) -> list[str]:
    """The layers that do not hold, in words; empty if all do."""
    wrong = []
    for name, (_, layer, expected) in _expected(profile).items():
        if got.get(name) not in expected:
            wrong.append(f"{layer} does not refuse {name} (got {errno.errorcode.get(got.get(name, 0), 'success')})")
    return wrong


def _errno(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _internet() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _list_root() -> None:
    os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _write_outside() -> None:
    path = f"/usr/avlab-probe-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(path)


_REFUSED = (errno.EPERM,)
_ATTEMPTS: dict[str, tuple[Callable[[], object], str, tuple[int, ...]]] = {
    "socket": (_internet, "seccomp", _REFUSED),
    "fork": (_fork, "seccomp", _REFUSED),
    "ptrace": (lambda: kernel.syscall("ptrace", 16, _NOBODY_HERE, 0, 0), "seccomp", _REFUSED),
    "unshare": (lambda: kernel.unshare(kernel.CLONE_NEWUSER), "seccomp", _REFUSED),
    "mount": (lambda: kernel.mount("none", "/usr", "tmpfs"), "seccomp", _REFUSED),
    "bpf": (lambda: kernel.syscall("bpf", 0, None, 0), "seccomp", _REFUSED),
    "io_uring": (lambda: kernel.syscall("io_uring_setup", 1, None), "seccomp", (errno.ENOSYS,)),
    "listing of /": (_list_root, "Landlock", (errno.EACCES,)),
    "a file in /usr": (_write_outside, "Landlock", (errno.EACCES, errno.EROFS)),
}


def _expected(profile: Profile) -> dict[str, tuple[Callable[[], object], str, tuple[int, ...]]]:
    if profile.tier == PROCESS:
        return {}
    left_out = {"fork"} if profile.processes else set()
    left_out |= set() if profile.landlock else {name for name, row in _ATTEMPTS.items() if row[1] == "Landlock"}
    return {name: row for name, row in _ATTEMPTS.items() if name not in left_out}
