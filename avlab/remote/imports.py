"""Follows imports from a text through the local modules that it needs."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import decode_source

from avlab.core.errors import BundleError
from avlab.remote.finder import OWN, Finder, Origin, Spot
from avlab.remote.loaded import LoadedModules, reload_changed
from avlab.remote.source import Import, imports, listed

__all__ = ["LoadedModules", "Module", "Walk", "decode", "reload_changed"]


@dataclass(frozen=True, slots=True)
class Module:
    """A local module that is needed: its name, its file and the content of the file."""

    spot: Spot
    content: bytes


class Walk:
    """The local modules that texts and names need, by name in ``modules``; third-party packages in ``installed``.

    ``missing_ok``: imports that resolve nowhere are noted in ``missing`` instead of raised, for code whose imports exist
    only where it will run. Errors are BundleError and name the import, the file and the line.
    """

    def __init__(self, finder: Finder, *, missing_ok: bool = False) -> None:
        self.modules: dict[str, Module] = {}
        self.installed: set[str] = set()
        self.missing: set[str] = set()
        self._finder = finder
        self._missing_ok = missing_ok
        self._required: deque[Spot] = deque()
        self._optional: deque[Spot] = deque()

    def text(self, text: str, filename: str, within: Callable[[int], bool] = lambda line: True) -> None:
        """Follow the imports of a text that is no module; ``within`` chooses lines."""
        found = _scan(text, filename, main=True)
        self._follow([i for i in found if within(i.line)], "", filename, tolerant=False)
        self._drain()

    def module(self, name: str, why: str) -> None:
        """Follow the module ``name``, which ``why`` needs. Nothing happens if it is not local."""
        self._need(Import(name, (), 0, 0), name, why, tolerant=False)
        self._drain()

    def declared(self, path: str) -> None:
        """Follow a file below the base folder that may be imported, by its path; what it misses is no error."""
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        spot = self._finder.find(name) if all(part.isidentifier() for part in name.split(".")) else None
        here = os.path.realpath(self._finder.base / path)
        if spot is not None and spot.path == path and os.path.realpath(str(spot.file)) == here:
            self._enter(spot, tolerant=True, where=path)
            self._drain()

    def _drain(self) -> None:
        # Modules that only guarded imports reach may miss what they like, so they come last.
        while self._required or self._optional:
            tolerant = not self._required
            spot = (self._optional if tolerant else self._required).popleft()
            if spot.name in self.modules or spot.file is None:
                continue
            content = _read(spot)
            self.modules[spot.name] = Module(spot, content)
            package = spot.name if spot.package else spot.name.rpartition(".")[0]
            found = _scan(decode(content, str(spot.file)), str(spot.file), main=False)
            self._follow(found, package, str(spot.file), tolerant)

    def _follow(self, found: Iterable[Import], package: str, filename: str, tolerant: bool) -> None:
        for each in found:
            spare = each.guarded or (bool(each.instead) and all(self._resolves(i, package) for i in each.instead))
            where = f"{filename}, line {each.line}"
            name = _absolute(each, package)
            if name is None:
                if not (tolerant or spare):
                    raise BundleError(
                        f"`{each}` at {where} is relative, but nothing there belongs to a package it could be relative to"
                    )
                continue
            self._need(each, name, where, tolerant or spare)

    def _need(self, each: Import, name: str, where: str, tolerant: bool) -> None:
        origin = self._finder.origin(name)
        if origin is Origin.INSTALLED:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in (*OWN, "__main__", "cloudpickle"):
                self.installed.add(top)
            return
        spots = self._chain(name)
        if not spots or spots[-1].name != name:
            elsewhere = self._missing_ok and origin is Origin.MISSING
            if not (tolerant or elsewhere):
                raise BundleError(
                    f"`{each}` at {where} resolves nowhere: {name!r} is neither installed nor a module next to the notebook "
                    f"({self._finder.base}). Install it, name its folder in sys.path, or guard it with try/except ImportError"
                    + ("" if origin is Origin.LOCAL else "; if only the executor has it, use --remote-imports")
                )
            self.missing.add(name)
        for spot in spots:
            self._enter(spot, tolerant, f"`{each}` at {where}")
        if spots and spots[-1].name == name:
            self._need_names(each, spots[-1], where, tolerant)

    def _need_names(self, each: Import, spot: Spot, where: str, tolerant: bool) -> None:
        """``from package import x``: x is a submodule, or something that the package defines."""
        if not spot.package:
            return
        names = each.names
        if names == ("*",):
            names = listed(decode(_read(spot), str(spot.file))) if spot.file and not spot.binary else ()
        for name in names:
            inner = self._finder.find(f"{spot.name}.{name}")
            if inner is not None:
                self._enter(inner, tolerant, f"`{each}` at {where}")
            elif spot.file is None and not tolerant:
                raise BundleError(
                    f"`{each}` at {where} resolves nowhere: the folder {spot.folders[0]} has no module {name!r}"
                )

    def _enter(self, spot: Spot, tolerant: bool, where: str) -> None:
        if spot.binary:
            if tolerant:
                return
            raise BundleError(
                f"{where} needs {spot.file}, a compiled extension: only Python source can travel. "
                "Install it on the executor, or guard the import with try/except ImportError"
            )
        (self._optional if tolerant else self._required).append(spot)

    def _chain(self, name: str) -> list[Spot]:
        """The packages that lead to ``name`` and the module itself, as far as they exist."""
        parts = name.split(".")
        chain = []
        for n in range(1, len(parts) + 1):
            spot = self._finder.find(".".join(parts[:n]))
            if spot is None:
                break
            chain.append(spot)
        return chain

    def _resolves(self, each: Import, package: str) -> bool:
        name = _absolute(each, package)
        if name is None:
            return False
        origin = self._finder.origin(name)
        return origin is Origin.INSTALLED or self._finder.find(name) is not None


def decode(content: bytes, filename: str) -> str:
    """Python source as text, in the encoding that it declares (UTF-8 by default). Raises BundleError if it is in another one."""
    try:
        return decode_source(content)
    except UnicodeDecodeError as error:
        raise BundleError(f"{filename} is not {error.encoding} (byte {error.start}): save it as UTF-8") from error
    except (SyntaxError, LookupError) as error:  # of the declaration itself
        raise BundleError(f"{filename}: {error}: save it as UTF-8") from error


def _absolute(each: Import, package: str) -> str | None:
    """The absolute name, or None if there are more dots than packages."""
    if not each.level:
        return each.module
    parts = package.split(".") if package else []
    if each.level > len(parts):
        return None
    base = parts[: len(parts) - each.level + 1]
    return ".".join([*base, each.module] if each.module else base)


def _scan(text: str, filename: str, main: bool) -> tuple[Import, ...]:
    try:
        return imports(text, main)
    except SyntaxError as error:
        raise BundleError(f"{filename}, line {error.lineno}: {error.msg}: correct it, it cannot be packed") from error


def _read(spot: Spot) -> bytes:
    assert spot.file is not None
    try:
        return spot.file.read_bytes()
    except OSError as error:
        raise BundleError(f"module {spot.name}: {spot.file} cannot be read: {error.strerror}") from error
