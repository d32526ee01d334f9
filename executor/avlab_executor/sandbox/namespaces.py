"""The namespaces tier: a root of its own, read-only, in which nothing of the host's network, processes and files exists.

A zygote builds the root once; each worker gets copies of it in namespaces of its own, with its own /proc and scratch space.
Root builds them directly; other users first enter a user namespace in which they are alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from avlab_executor.sandbox import kernel
from avlab_executor.sandbox.profile import SCRATCH, Profile
from avlab_executor.sandbox.visible import DEVICES, PROC_FILES, SYSTEM, SYSTEM_FILES

OWN = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
NAMES = ("mnt", "net", "ipc", "uts", "cgroup", "pid")
_FORMER = "/former-root"
_BLOCK = 4096


def enter_user_namespace(proc: int, *, as_root: bool = False) -> None:
    """Become the only user of a new user namespace, keeping the uid or, inside, as its root. ``proc``: a descriptor of /proc."""
    uid, gid = os.geteuid(), os.getegid()
    inside_uid, inside_gid = (0, 0) if as_root else (uid, gid)
    kernel.unshare(kernel.CLONE_NEWUSER)
    maps = ("setgroups", "deny"), ("uid_map", f"{inside_uid} {uid} 1"), ("gid_map", f"{inside_gid} {gid} 1")
    for name, text in maps:
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def enter_root(
    folders: Iterable[str], writable: Iterable[str] = (), own: int = OWN, *, for_runsc: bool = False
) -> bool:
    """Give this process, the first of its pid namespace, its own namespaces and a root with SYSTEM and ``folders``, read-only, and
    folders that stay ``writable``. ``own``: which namespaces. ``for_runsc``: it writes to /proc, and where the first one is read-only
    the kernel allows no other; and it mounts on /tmp, which must be no link.

    Returns whether /proc could be mounted: where a container masks parts of the host's, it cannot, and a few constant files stand
    in its place. Raises OSError.
    """
    writable = tuple(map(os.path.realpath, writable))
    sources = {path: os.path.realpath(path) for path in (*folders, *SYSTEM_FILES)}
    kernel.unshare(own)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=4m")
    os.mkdir("/tmp" + _FORMER)
    kernel.pivot_root("/tmp", "/tmp" + _FORMER)
    os.chdir("/")
    for path in SYSTEM:
        if os.path.islink(_FORMER + path):
            os.symlink(os.readlink(_FORMER + path), path)
        elif os.path.isdir(_FORMER + path):
            _show(path, path)
    # Shorter paths first: a folder inside another one is mounted on top of it.
    for path, real in sorted(sources.items()):
        for target in dict.fromkeys((path, real)):
            _show(real, target)
    for path in writable:  # a mount of its own, also inside a folder that is shown already
        os.makedirs(path, exist_ok=True)
        kernel.mount(_FORMER + path, path, None, kernel.MS_BIND | kernel.MS_REC)
    for path in DEVICES:
        _show(path, path)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink("/proc/self/fd" + target, f"/dev/{name}")
    os.mkdir(SCRATCH)
    os.symlink(SCRATCH, "/dev/shm")
    if not os.path.exists("/tmp"):  # it does if packages are installed below it
        os.mkdir("/tmp") if for_runsc else os.symlink(SCRATCH, "/tmp")
    has_proc = _mount_first_proc(readonly=not for_runsc)
    kernel.umount(_FORMER)
    os.rmdir(_FORMER)
    kernel.make_readonly("/")
    for path in writable:
        kernel.make_writable(path)
    return has_proc


def enter_worker(profile: Profile, administrator: bool, proc: int, has_proc: bool) -> None:
    """Give a worker, the first of its pid namespace, its own namespaces, /proc and a scratch space of exactly its size."""
    kernel.unshare(OWN)
    if has_proc:
        mount_proc()
    uid, gid = (profile.uid, profile.uid) if administrator else (os.geteuid(), os.getegid())
    inodes = max(1024, profile.scratch_size // _BLOCK)
    options = f"mode=0700,uid={uid},gid={gid},size={profile.scratch_size},nr_inodes={inodes}"
    kernel.mount("tmpfs", SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    if not administrator:
        # Last: what was mounted before belongs to the zygote's user namespace, so this one has no power over it.
        enter_user_namespace(proc)


def mount_proc(*, readonly: bool = True) -> None:
    """Mount /proc for this process's pid namespace."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", flags | kernel.MS_RDONLY if readonly else flags)


def _show(source: str, target: str) -> None:
    """Bind a file or folder of the former root, if it exists and is not there already."""
    former = _FORMER + source
    if not os.path.exists(former) or os.path.exists(target):
        return
    if os.path.isdir(former):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    kernel.mount(former, target, None, kernel.MS_BIND | kernel.MS_REC)


def _mount_first_proc(readonly: bool) -> bool:
    os.mkdir("/proc")
    try:
        mount_proc(readonly=readonly)
    except PermissionError:
        for path in PROC_FILES:
            shutil.copyfile(_FORMER + path, path)
        return False
    return True
