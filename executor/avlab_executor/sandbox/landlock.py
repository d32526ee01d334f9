"""Landlock: the files that a worker may touch, enforced by the kernel without any privilege (Linux 5.13 and newer)."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from avlab_executor.sandbox.kernel import syscall

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE, _IOCTL_DEV = 1, 2, 4, 8, 1 << 13, 1 << 14, 1 << 15
_MAKE_AND_REMOVE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12  # directories, regular files, symbolic links
_FIRST_ABI = (1 << 13) - 1
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
WRITE = READ | _WRITE_FILE | _TRUNCATE | _REFER | _MAKE_AND_REMOVE
DEVICE = _READ_FILE | _WRITE_FILE

_VERSION_FLAG = 1
_PATH_BENEATH = 1


def abi() -> int:
    """The kernel's Landlock version. Raises OSError where it is absent (ENOSYS) or switched off (EOPNOTSUPP)."""
    return syscall("landlock_create_ruleset", None, 0, _VERSION_FLAG)


def restrict(rules: Iterable[tuple[str, int]], network: bool = False) -> None:
    """From now on this process reaches only the given paths, with the given rights, for ever.

    Abstract sockets and signals towards the outside are closed too where the kernel can, and TCP unless ``network``. Paths that do
    not exist are left out. no_new_privs must be set. Raises OSError.
    """
    version = abi()
    handled = _FIRST_ABI
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        handled |= right if version >= since else 0
    attributes = struct.pack("QQQ", handled, 3 if version >= 4 and not network else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = syscall("landlock_create_ruleset", attributes[:size], size, 0)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_FILES
        syscall("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
