"""Keeps this process's imported local modules as new as their files."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType

from avlab.remote.finder import OWN, Finder, is_installed
from avlab.remote.source import imports

_HEADER = 16  # bytes of a .pyc before its code
_GRAIN = 50_000_000  # ns by which a file's time may lag behind the clock


class LoadedModules:
    """Remembers, for every imported local module it has seen, the text that the module was executed from.

    ``wall``: nanoseconds since the epoch, the clock of the files' modification times.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._looked = wall()
        self._shas: weakref.WeakKeyDictionary[ModuleType, str] = weakref.WeakKeyDictionary()

    def note(self, base: Path) -> None:
        """Take down what is imported now. Call it right after user code ran: later edits are then told from earlier ones."""
        self._look(base, fresh=True)

    def reload_changed(self, base: Path) -> list[str]:
        """Forget imported local modules whose files changed, and local modules that import them.

        The next ``import`` of each executes the new text. Returns the names, sorted.
        """
        here = self._look(base)
        drop = {module.__name__ for module, (_, changed) in here.items() if changed}
        if not drop:
            return []
        needs = {module.__name__: _needs(module, file) for module, (file, _) in here.items()}
        growing = True
        while growing:
            # A package executed again would not bind submodules that are still in sys.modules.
            more = {
                n for n, wanted in needs.items() if wanted & drop or any(n.startswith(d + ".") for d in drop)
            } - drop
            drop |= more
            growing = bool(more)
        for module in here:
            if module.__name__ in drop:
                _forget(module)
        importlib.invalidate_caches()
        return sorted(drop)

    def _look(self, base: Path, fresh: bool = False) -> dict[ModuleType, tuple[Path, bool]]:
        """Every imported local module with its file and whether that changed."""
        now = self._wall()
        here = {module: (file, self._changed(module, file, fresh)) for module, file in _local_modules(base)}
        self._looked = now
        return here

    def _changed(self, module: ModuleType, file: Path, fresh: bool) -> bool:
        try:
            content, modified = file.read_bytes(), file.stat().st_mtime_ns
        except OSError:  # deleted: what is loaded is all there is
            return False
        sha = hashlib.sha256(content).hexdigest()
        if module not in self._shas:
            # Imported since the last look, so a file that is older than that look is what was imported.
            unknown = fresh or modified < self._looked - _GRAIN
            self._shas[module] = sha if _is_compiled_from(module, content, file, unknown) else ""
        return self._shas[module] != sha


_loaded = LoadedModules()  # one per process, as sys.modules is


def reload_changed(base: Path, loaded: LoadedModules = _loaded) -> list[str]:
    """Forget imported local modules whose files changed, and local modules that import them; returns their names.

    Local: found from ``base`` or ``sys.path``, neither installed nor avlab's own. Names that a notebook already bound keep
    their old objects until it imports them again.
    """
    return loaded.reload_changed(base)


def _local_modules(base: Path) -> Iterator[tuple[ModuleType, Path]]:
    folders = Finder(base).local_folders
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or not file.endswith(".py") or name.partition(".")[0] in OWN:
            continue
        if isinstance(module, ModuleType) and module.__name__ == name and not is_installed(os.path.dirname(file)):
            real = os.path.realpath(file)
            if any(real.startswith(folder + os.sep) for folder in folders):
                yield module, Path(file)


def _is_compiled_from(module: ModuleType, content: bytes, file: Path, unknown: bool) -> bool:
    """Whether the module's cached bytecode, written when it was imported, agrees with the text; ``unknown`` without one."""
    try:
        with open(str(getattr(module, "__cached__", None)), "rb") as stream:
            code = marshal.loads(stream.read()[_HEADER:])
        return not isinstance(code, CodeType) or code == compile(content, str(file), "exec", dont_inherit=True)
    except OSError:
        return unknown
    except (SyntaxError, ValueError, EOFError, TypeError):
        return False


def _needs(module: ModuleType, file: Path) -> set[str]:
    """Every module name that this one's imports touch."""
    try:
        found = imports(importlib.util.decode_source(file.read_bytes()))
    except (OSError, SyntaxError, UnicodeDecodeError, LookupError):
        return set()
    package = (module.__package__ or "").split(".")
    names: set[str] = set()
    for each in found:
        start = package[: len(package) - each.level + 1] if each.level else []
        parts = [*start, *(each.module.split(".") if each.module else [])]
        names.update(".".join(parts[:n]) for n in range(1, len(parts) + 1))
        names.update(".".join([*parts, name]) for name in each.names)
    return names


def _forget(module: ModuleType) -> None:
    name = module.__name__
    if sys.modules.get(name) is module:
        del sys.modules[name]
    parent, _, last = name.rpartition(".")
    if getattr(sys.modules.get(parent), last, None) is module:
        delattr(sys.modules[parent], last)
    # A .pyc knows its source by whole seconds and size only: an edit within one second would bring the old code back.
    cached = getattr(module, "__cached__", None)
    if isinstance(cached, str):
        Path(cached).unlink(missing_ok=True)
