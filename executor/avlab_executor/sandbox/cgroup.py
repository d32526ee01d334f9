"""Memory control groups, version 2 or 1, where the system lets us make them: they tell an out-of-memory kill from other kills."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
from dataclasses import dataclass

_DYING_SECONDS = 5.0
_VERSION_1 = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be made. version: 1 or 2."""

    version: int
    folder: str


def find() -> Hierarchy:
    """The place for our groups. Raises OSError if there is none; its text says why."""
    with open("/proc/self/cgroup") as file:
        own = [line.rstrip("\n").split(":", 2) for line in file]
    with open("/proc/self/mounts") as file:
        mounts = [line.split()[1:4] for line in file if line.split()[2] in ("cgroup", "cgroup2")]
    for _, controllers, path in own:
        for mountpoint, kind, options in mounts:
            here = mountpoint + path if os.path.isdir(mountpoint + path) else mountpoint
            if kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                return Hierarchy(1, here)
            if kind == "cgroup2" and not controllers:
                # A group with processes cannot have limited children, so the place is often the parent (systemd's user slices).
                for folder in (here, os.path.dirname(here)):
                    if "memory" in _read(f"{folder}/cgroup.subtree_control").split():
                        return Hierarchy(2, folder)
    raise FileNotFoundError("no control group that hands the memory controller down")


def unavailable() -> str:
    """Why no memory group can be made; empty if one can, which is tried."""
    try:
        groups = Groups()
        groups.close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


class Groups:
    """The folder of one pool's groups. Raises OSError where none can be made."""

    def __init__(self) -> None:
        hierarchy = find()
        self.version = hierarchy.version
        self.folder = f"{hierarchy.folder}/avlab-{secrets.token_hex(6)}"
        os.mkdir(self.folder)
        if self.version == 2:
            try:
                _write(f"{self.folder}/cgroup.subtree_control", "+memory")
            except OSError:
                os.rmdir(self.folder)
                raise

    def make(self, name: str) -> Group:
        """A group without a limit yet. Raises OSError."""
        group = Group(f"{self.folder}/{name}", self.version)
        os.mkdir(group.folder)
        return group

    def close(self) -> None:
        """Remove the folder and the groups in it, whose processes must have been killed."""
        remove_all(self.folder)


@dataclass(frozen=True, slots=True)
class Group:
    """One worker's group."""

    folder: str
    version: int

    def add(self, pid: int) -> None:
        """Count a process from now on; takes the kernel some milliseconds. Raises OSError."""
        _write(f"{self.folder}/cgroup.procs", str(pid))

    def members(self) -> set[int]:
        """The processes in it."""
        return {int(pid) for pid in _read(f"{self.folder}/cgroup.procs").split()}

    def limit(self, size: int) -> None:
        """At most ``size`` bytes from now on, without swap. Raises OSError."""
        memory, swap = ("memory.max", "memory.swap.max") if self.version == 2 else _VERSION_1
        _write(f"{self.folder}/{memory}", str(size))
        with contextlib.suppress(OSError):  # kernels without swap accounting have no such file
            _write(f"{self.folder}/{swap}", "0" if self.version == 2 else str(size))

    def out_of_memory_kills(self) -> int:
        """How often the kernel has killed in this group."""
        for line in _read(
            f"{self.folder}/{'memory.events' if self.version == 2 else 'memory.oom_control'}"
        ).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def close(self) -> None:
        """Remove the group; its processes must be gone."""
        remove(self.folder)


def remove_all(folder: str) -> None:
    """Remove a folder of groups, if it is there."""
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            groups = [entry.path for entry in entries if entry.is_dir()]
        for group in groups:
            remove(group)
        remove(folder)


def remove(folder: str) -> None:
    """Remove a group's folder if it is there, as soon as its last processes, which must have been killed, are gone."""
    for pid in _read(f"{folder}/cgroup.procs").split():
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(int(pid))
            select.select([handle], [], [], _DYING_SECONDS)
            os.close(handle)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
