"""Scratch folders on the host's own file system, for tiers that cannot mount one: measured and removed by the host.

Their content is the worker's: links are not followed, depth does not matter.
"""

from __future__ import annotations

import contextlib
import itertools
import os

_SMALLEST = 16 << 10  # what a file counts for at least, so that many empty ones are noticed too
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def usage(folder: str, enough: int) -> int:
    """Bytes that a folder holds, counted until ``enough``; a path that is too long to follow counts as enough."""
    total, pending = 0, [folder]
    while pending and total < enough:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    total += max(entry.stat(follow_symlinks=False).st_blocks * 512, _SMALLEST)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    if total >= enough:
                        break
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue  # it has just changed
        except OSError:
            return enough
    return total


def remove(folder: str) -> None:
    """Remove a folder and all it holds, if it is there; nobody may be writing to it. Raises OSError."""
    try:
        root = _open(folder, None)
    except FileNotFoundError:
        return
    names = map(".avlab-{}".format, itertools.count())
    try:
        while found := os.listdir(root):
            for name in found:
                if not _unlink(name, root):
                    _empty(name, root, names)
    finally:
        os.close(root)
    with contextlib.suppress(FileNotFoundError):  # host and keeper both clean up; the other was first
        os.rmdir(folder)


def _empty(name: str, root: int, names: map[str]) -> None:
    # Folders inside move up to the root, where they are emptied in turn: two levels are all there ever is.
    descriptor = _open(name, root)
    try:
        for child in os.listdir(descriptor):
            if not _unlink(child, descriptor):
                os.close(_open(child, descriptor))
                os.rename(child, _free(names, root), src_dir_fd=descriptor, dst_dir_fd=root)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=root)


def _free(names: map[str], root: int) -> str:
    for name in names:
        try:
            os.stat(name, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            return name
    raise AssertionError("the count is endless")


def _unlink(name: str, root: int) -> bool:
    try:
        os.unlink(name, dir_fd=root)
    except IsADirectoryError:
        return False
    return True


def _open(name: str, root: int | None) -> int:
    """Open a folder, making it accessible to its owner."""
    handle = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=root)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)
