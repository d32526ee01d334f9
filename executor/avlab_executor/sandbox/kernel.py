"""Raw system calls of Linux: what the standard library does not offer. Every failure is an OSError with the kernel's errno."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from avlab_executor.sandbox.numbers import number

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100

PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 23, 24, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(name: str, *arguments: int | bytes | None) -> int:
    """The result of a system call. Integers are passed as long, bytes and None as pointers. Raises OSError."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number(name)), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """prctl(2) with up to two integers; the others are zero, as newer options demand."""
    return syscall("prctl", option, first, second, 0, 0)


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    try:
        syscall(
            "mount", source.encode(), target.encode(), None if kind is None else kind.encode(), flags, options.encode()
        )
    except OSError as error:
        raise OSError(error.errno, f"mount of {kind or source} on {target}: {os.strerror(error.errno or 0)}") from None


def make_readonly(target: str) -> None:
    """Make a mount and everything mounted below it read-only, without set-uid bits. Needs Linux 5.12."""
    flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    syscall("mount_setattr", _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes))


def make_writable(target: str) -> None:
    """Undo make_readonly for one mount."""
    attributes = struct.pack("QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
    syscall("mount_setattr", _AT_FDCWD, target.encode(), 0, attributes, len(attributes))


def umount(target: str) -> None:
    """Detach a mount; what uses it keeps it until it is done."""
    syscall("umount2", target.encode(), MNT_DETACH)


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root; the former root appears at ``old``."""
    syscall("pivot_root", new.encode(), old.encode())


def unshare(flags: int) -> None:
    """Enter new namespaces; a new pid namespace holds the next children only."""
    syscall("unshare", flags)


def setns(descriptor: int, flags: int) -> None:
    """Enter an existing namespace; a pid namespace holds the next children only."""
    syscall("setns", descriptor, flags)


def clear_capabilities() -> None:
    """Empty the effective, permitted, inheritable and ambient sets of this thread."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    syscall("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24))


def drop_bounding_set() -> None:
    """Drop every capability from the bounding set, so that no exec regains one. Raises OSError without CAP_SETPCAP."""
    for capability in range(64):
        try:
            if prctl(PR_CAPBSET_READ, capability):
                prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the last one of this kernel
                return
            raise


def set_seccomp_filter(program: bytes) -> None:
    """Install a classic BPF program as the seccomp filter of this thread; no_new_privs must be set."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(holder))
