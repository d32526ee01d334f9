"""Which files of the host a worker sees: the system's libraries, the interpreter, installed packages; never a user's own folders."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
# What the dynamic loader, fonts, time zones, MIME types and the number of processors need.
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
    "/sys/devices/system/cpu",
)
PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/loadavg", "/proc/filesystems")
# Of a worker's own folder there; the others tell about the host's network and mounts.
PROC_SELF_FILES = ("cmdline", "comm", "fd", "io", "limits", "maps", "smaps", "smaps_rollup", "stat", "statm", "status")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_OWN_PACKAGES = ("avlab", "avlab_executor")


@dataclass(frozen=True, slots=True)
class Visible:
    """import_path: the zygote's sys.path. folders: what workers may read, besides SYSTEM. executable: the interpreter of both. late: a
    worker's sys.path once it is locked, where it holds packages that sessions have asked for: only there they are imported. bare:
    those concern what the worker's own code imports."""

    import_path: tuple[str, ...]
    folders: tuple[str, ...]
    executable: str = sys.executable
    late: tuple[str, ...] = ()
    bare: bool = False


def visible(extra: Iterable[str] = ()) -> Visible:
    """What workers of this interpreter see; ``extra`` are more folders to import from.

    Installed packages are visible as a whole. Of a source checkout (an editable install) only avlab's own package folders are:
    what lies beside them is the user's, and a bundle carries what it needs.
    """
    interpreter = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    installed = [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages") and os.path.isabs(p)]
    whole = list(dict.fromkeys([*interpreter, *installed]))
    import_path = [p for p in sys.path if os.path.isabs(p) and _is_below(p, [*whole, *SYSTEM])]
    for folder in map(os.path.abspath, extra):
        import_path.append(folder)
        whole.append(folder)
    for name in _OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            import_path.append(os.path.dirname(folder))
            if not _is_below(folder, [*whole, *SYSTEM]):
                whole.append(folder)
    return Visible(tuple(dict.fromkeys(import_path)), tuple(p for p in whole if not _is_below(p, SYSTEM)))


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
