"""Locking a worker: every layer in the only order that works. Runs in the worker, before the first user byte."""

from __future__ import annotations

import os
import signal

from avlab_executor.sandbox import kernel, landlock, namespaces, rlimits, seccomp
from avlab_executor.sandbox.profile import GVISOR, LANDLOCK, NAMESPACES, PROCESS, Profile
from avlab_executor.sandbox.visible import DEVICES, PROC_FILES, PROC_SELF_FILES, SYSTEM, SYSTEM_FILES

_OUTSIDE = 0  # the parent's pid as a process sees it whose parent is in another pid namespace


def lock(profile: Profile, administrator: bool, proc: int, has_proc: bool, zygote: int) -> None:
    """Lock this process for ever. ``proc``: a descriptor of /proc, which the caller closes afterwards. ``zygote``: the parent's pid.
    Raises OSError.

    The order: own namespaces while capabilities last; the working folder; rlimits; capabilities and user; the death signal (a
    change of user clears it); no_new_privs; Landlock; seccomp, which refuses all the former.
    """
    die_first(proc)
    if profile.tier == NAMESPACES:
        namespaces.enter_worker(profile, administrator, proc, has_proc)
    _enter_scratch(profile.scratch)
    if profile.tier != GVISOR:  # whose kernel has nothing of what these bound
        rlimits.close_leaks()
    if profile.tier not in (PROCESS, GVISOR):  # runsc starts a guest as its user, without a capability
        drop_privileges(profile, administrator)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (zygote, _OUTSIDE):
        raise ProcessLookupError("the zygote ended while its worker was starting")
    if profile.tier == PROCESS:
        return
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if profile.landlock:
        landlock.restrict(_rules(profile))
    seccomp.install(os.getpid(), profile.processes, shared_owner=profile.tier == LANDLOCK)


def die_first(proc: int) -> None:
    """Have the kernel choose this process and its children before others when it is out of memory."""
    # When the whole system runs out of memory, a worker shall go before the notebook that it serves.
    descriptor = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, b"500")
    finally:
        os.close(descriptor)


def _enter_scratch(scratch: str) -> None:
    os.chdir(scratch)
    os.environ.update(HOME=scratch, TMPDIR=scratch, PWD=scratch)


def drop_privileges(profile: Profile, administrator: bool) -> None:
    """Become the profile's user, without any capability. Raises OSError."""
    # Only who may set it can empty the bounding set: all callers but ordinary users in the landlock tier, whom no_new_privs holds.
    if administrator or profile.tier == NAMESPACES or os.geteuid() == 0:
        kernel.drop_bounding_set()
    if administrator:
        os.setgroups([])
    if profile.uid:
        os.setresgid(profile.uid, profile.uid, profile.uid)
        os.setresuid(profile.uid, profile.uid, profile.uid)
    kernel.clear_capabilities()


def _rules(profile: Profile) -> list[tuple[str, int]]:
    rules = [(path, landlock.RUN) for path in (*SYSTEM, *profile.readable)]
    own = [f"/proc/{os.getpid()}/{name}" for name in PROC_SELF_FILES]
    rules += [(path, landlock.READ) for path in (*SYSTEM_FILES, *PROC_FILES, *own)]
    rules += [(path, landlock.DEVICE) for path in DEVICES]
    return [*rules, (profile.scratch, landlock.WRITE)]
