"""Where workers are born: the zygote's side of a tier. It forks each worker into a new pid namespace without a process between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from avlab_executor.sandbox import kernel, namespaces
from avlab_executor.sandbox.lock import lock
from avlab_executor.sandbox.profile import GVISOR, NESTED, Profile, is_administrator


class Nest:
    """One tier as its zygote has set it up. Made before the zygote's own fork, completed in the zygote by ``build``."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self.administrator = is_administrator()
        self.has_proc = True
        self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own_pids = -1

    def isolate_children(self) -> None:
        """Let the next child of this process, the zygote, be the first of a pid namespace. Raises OSError."""
        if self.tier not in NESTED:
            return
        if not self.administrator:
            if os.geteuid() == 0:
                # Inside, /proc/sys would still take this user for the owner of the kernel's settings.
                raise OSError(
                    errno.EPERM,
                    "as root it needs CAP_SYS_ADMIN, SYS_PTRACE, SETUID, SETGID, SETPCAP and KILL: run as another user, or use tier 'landlock'",
                )
            namespaces.enter_user_namespace(self.proc)
        kernel.unshare(kernel.CLONE_NEWPID)

    def build(self, folders: Iterable[str]) -> None:
        """In the zygote: make the root that all workers share. Raises OSError."""
        if self.tier in NESTED:
            self._own_pids = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
            self.has_proc = namespaces.enter_root(folders, for_runsc=self.tier == GVISOR)

    def fork(self) -> int:
        """os.fork; in a nested tier the child is the first of its own pid namespace. Raises OSError."""
        if self.tier not in NESTED:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.setns(self._own_pids, kernel.CLONE_NEWPID)
        return pid

    def lock(self, profile: Profile, zygote: int) -> None:
        """In the worker: lock this process. Raises OSError."""
        lock(profile, self.administrator, self.proc, self.has_proc, zygote)
        os.close(self.proc)

    def move(self, descriptor: int) -> None:
        """In the worker: keep the one descriptor that locking needs at this number; the caller closes all others."""
        os.dup2(self.proc, descriptor, inheritable=False)
        self.proc = descriptor
