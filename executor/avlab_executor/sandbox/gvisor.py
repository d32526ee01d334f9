"""The gvisor tier: each session under a kernel of its own, runsc without privileges, inside the root that `namespaces` builds.

Nothing of runsc needs root: whoever calls, its processes have an ordinary user's uid in a user namespace of their own. What would
break out of gVisor's kernel finds itself in the namespaces tier's root, without a network.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

from avlab_executor.sandbox import kernel, namespaces
from avlab_executor.sandbox.family import tree
from avlab_executor.sandbox.launch import environment
from avlab_executor.sandbox.lock import die_first
from avlab_executor.sandbox.profile import SCRATCH, Profile, read_status

_PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
_CAPABILITIES = ("bounding", "effective", "inheritable", "permitted", "ambient")
_BUNDLE_OPTIONS = "mode=0700,size=4m,nr_inodes=256"
_PR_SET_DUMPABLE = 4
_FILTER_MODE = 2
_SIGKILL = 9
# Of runsc itself: below it are at least a file server, the kernel and one process that carries the guest's threads.
_PROCESSES = 4


def program() -> str:
    """The path of runsc; empty if it is not installed where sandboxes see it."""
    return shutil.which("runsc", path=_PATH) or ""


def start(profile: Profile, administrator: bool, proc: int, command: Sequence[str], streams: Sequence[int]) -> NoReturn:
    """Become runsc, which runs ``command`` as its only process with ``streams`` as standard input, output and error.

    Runs in the first process of a pid namespace, in the root of `namespaces.enter_root`. A socket or pipe in ``streams`` is the
    guest's own end of it. ``proc``: a descriptor of /proc. Raises OSError.
    """
    runsc = program()
    die_first(proc)
    kernel.unshare(namespaces.OWN)
    namespaces.mount_proc(readonly=False)
    uid, gid = (profile.uid, profile.uid) if administrator else (os.geteuid(), os.getegid())
    options = f"{_BUNDLE_OPTIONS},uid={uid},gid={gid}"
    kernel.mount("tmpfs", SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    if administrator:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        kernel.prctl(_PR_SET_DUMPABLE, 1)  # the change of user has closed this process's own /proc to it
    namespaces.enter_user_namespace(proc, as_root=True)
    with open(f"{SCRATCH}/config.json", "w") as file:
        json.dump(_configuration(profile, command, uid, gid), file)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(len(streams), os.sysconf("SC_OPEN_MAX"))
    flags = ["--rootless", "--network=none", "--ignore-cgroups", "--overlay2=none", "--platform=ptrace"]
    flags.append(f"--root={SCRATCH}/state")
    os.execve(runsc, ["runsc", *flags, "run", f"--bundle={SCRATCH}", "session"], environment())


def _configuration(profile: Profile, command: Sequence[str], uid: int, gid: int) -> dict[str, Any]:
    """The OCI runtime configuration. The root is read-only already, and runsc could not make it so here."""
    scratch = f"size={profile.scratch_size},mode=0700,uid={uid},gid={gid}"
    own = [SCRATCH] if os.listdir("/tmp") else [SCRATCH, "/tmp"]  # packages may be installed below /tmp
    return {
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": {"path": "/", "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": scratch.split(",")} for path in own),
        ],
        "process": {
            "args": list(command),
            "cwd": SCRATCH,
            "env": [f"{name}={value}" for name, value in environment().items()],
            "user": {"uid": uid, "gid": gid},
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in _CAPABILITIES},
        },
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
    }


def wrong(pid: int, uid: int) -> list[str]:
    """What is not as it must be, seen from outside, of the runsc process ``pid`` and all below it; empty if all is.

    Each is runsc's own program (no other one runs on this kernel), has ``uid``, and but for the first, which only waits, a seccomp
    filter and no_new_privs. Raises OSError if it is gone.
    """
    found = tree(pid)
    if len(found) < _PROCESSES:
        return [f"runsc has {len(found)} processes instead of {_PROCESSES} or more"]
    ours, seen = os.stat(program()), []
    for one in found:
        status, file = read_status(one), os.stat(f"/proc/{one}/exe")
        if (file.st_dev, file.st_ino) != (ours.st_dev, ours.st_ino):
            seen.append(f"process {one} runs {os.readlink(f'/proc/{one}/exe')} on the host's kernel")
        if status["Uid"] != uid:
            seen.append(f"process {one} runs as uid {status['Uid']} instead of {uid}")
        if one != pid and (status["Seccomp"] != _FILTER_MODE or status["NoNewPrivs"] != 1):
            seen.append(f"process {one} of runsc has no seccomp filter")
    return seen


def wait_status(status: int) -> int:
    """The guest's own wait status from runsc's: a shell's exit code for a signal, and 128 when its kernel was killed."""
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    return status if code < 128 else code - 128 or _SIGKILL
