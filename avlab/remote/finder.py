"""Where a module would be imported from: this user's own files, or something installed. Nothing is imported."""

from __future__ import annotations

import enum
import functools
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

from avlab.core.errors import BundleError

OWN = frozenset({"avlab", "avlab_kernel", "avlab_executor"})
"""avlab's own packages: every executor has them."""


class Origin(enum.Enum):
    LOCAL = "local"
    INSTALLED = "installed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Spot:
    """A module's file (None for a namespace package) and the folders of its submodules (none for a plain module)."""

    name: str
    file: Path | None
    folders: tuple[str, ...]

    @property
    def package(self) -> bool:
        return bool(self.folders)

    @property
    def binary(self) -> bool:
        """Compiled: it cannot travel as source."""
        return self.file is not None and self.file.suffix != ".py"

    @property
    def path(self) -> str:
        """Where the file belongs under a folder of modules."""
        path = self.name.replace(".", "/")
        return f"{path}/__init__.py" if self.package else f"{path}.py"


class Finder:
    """Looks names up in ``base`` and then in ``sys.path`` as both are now. One finder serves one look at the disk."""

    def __init__(self, base: Path) -> None:
        self.base = base
        entries = dict.fromkeys([os.path.realpath(base), *(os.path.realpath(p or os.getcwd()) for p in sys.path)])
        self.local_folders = tuple(p for p in entries if os.path.isdir(p) and not is_installed(p))
        self._installed = [p for p in sys.path if p and (is_installed(p) or not os.path.isdir(p))]
        self._spots: dict[str, Spot | None] = {}
        self._origins: dict[str, Origin] = {}

    def origin(self, name: str) -> Origin:
        """Where the top-level package of ``name`` comes from.

        Raises BundleError if a local module hides a standard or installed one: on the executor the other would win.
        """
        top = name.partition(".")[0]
        if top not in self._origins:
            self._origins[top] = self._look_up(top)
        return self._origins[top]

    def find(self, name: str) -> Spot | None:
        """The local module ``name``, or None if there is no such local module."""
        if self.origin(name) is not Origin.LOCAL:
            return None
        if name not in self._spots:
            parent = self.find(name.rpartition(".")[0])
            self._spots[name] = _find(name, parent.folders) if parent else None
        return self._spots[name]

    def _look_up(self, top: str) -> Origin:
        if top in OWN or top == "__main__" or top in sys.builtin_module_names:
            return Origin.INSTALLED
        spot = _find(top, self.local_folders)
        installed = top in sys.stdlib_module_names or _has_code(PathFinder.find_spec(top, self._installed))
        if installed:
            if spot is None or spot.file is None or (top in sys.modules and not _loaded_from(top, spot)):
                return Origin.INSTALLED
            raise BundleError(
                f"the local module {top!r} ({spot.file}) has the name of an installed one, which would be imported instead "
                "of it on the executor: rename the file"
            )
        if spot is None:
            spot, found = _elsewhere(top)
            if spot is None:
                return found
        self._spots[top] = spot
        return Origin.LOCAL


@functools.cache
def is_installed(folder: str) -> bool:
    """Whether this folder belongs to the interpreter or to what was installed into it."""
    path = Path(os.path.realpath(folder))
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    roots = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(os.path.realpath(root)) for root in roots)


def _find(name: str, folders: Sequence[str]) -> Spot | None:
    # Plain looks at the disk: importlib's finders cache listings, and a file written a moment ago must be seen.
    last = name.rpartition(".")[2]
    portions = []
    for folder in folders:
        inside = os.path.join(folder, last)
        init = os.path.join(inside, "__init__.py")
        if os.path.isfile(init):
            return Spot(name, Path(init), (inside,))
        for suffix in (*EXTENSION_SUFFIXES, ".py"):
            if os.path.isfile(inside + suffix):
                return Spot(name, Path(inside + suffix), ())
        if os.path.isdir(inside):
            portions.append(inside)
    return Spot(name, None, tuple(portions)) if portions else None


def _elsewhere(top: str) -> tuple[Spot | None, Origin]:
    """What an import hook finds (editable installs use them)."""
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # in sys.modules without a spec: made by hand
        spec = None
    if spec is None:
        return None, Origin.MISSING
    folders = tuple(spec.submodule_search_locations or ())
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    where = str(file.parent) if file else folders[0] if folders else ""
    if not where or is_installed(where) or not os.path.isdir(where):
        return None, Origin.INSTALLED
    if file and not file.is_file():  # imported once, deleted since
        return None, Origin.MISSING
    return Spot(top, file, folders), Origin.LOCAL


def _has_code(spec: importlib.machinery.ModuleSpec | None) -> bool:
    return spec is not None and spec.loader is not None and spec.has_location


def _loaded_from(top: str, spot: Spot) -> bool:
    file = getattr(sys.modules[top], "__file__", None)
    return bool(file and spot.file) and os.path.realpath(str(file)) == os.path.realpath(str(spot.file))
