"""cloudpickle that knows by which name it reached each value, sends local modules by name and refuses what must not travel.

Every object is reduced once, here: what is checked is exactly what is pickled, so a class whose ``__getstate__`` leaves its
lock out can be sent.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as internals

from avlab.core.errors import AvlabError, BundleError
from avlab.remote import reductions
from avlab.remote.captures import Label, check_live
from avlab.remote.capturing import Capturing
from avlab.remote.construct import by_name, same
from avlab.remote.finder import Finder, Origin

PROTOCOL = 5
Originals = Callable[[object], object | None]


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles one object.

    Afterwards ``modules`` holds the modules needed by name, with what needs them, and ``codes`` the code that travels by
    value. ``code=False`` refuses such code: the pickle then suits any Python minor. ``originals`` may put another object in
    the place of a class, function or instance.
    """

    def __init__(
        self, finder: Finder, capturing: Capturing, *, originals: Originals | None = None, code: bool = True
    ) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=PROTOCOL)
        self.modules: dict[str, str] = {}
        self.codes: list[CodeType] = []
        self._finder = finder
        self._capturing = capturing
        self._originals = originals
        self._code = code
        self._at = Label("", "", "")

    def pack(self, value: Any, label: Label) -> bytes:
        """The pickle of ``value``, which errors call ``label``. Raises BundleError, SecretRefused."""
        self._at = label
        try:
            self._capturing.enter(value, label)
            self.dump(value)
        except AvlabError:
            raise
        except Exception as error:
            if isinstance(error.__cause__, RecursionError) and self._capturing.deep:
                self._at = self._capturing.deep
            raise BundleError(f"{self._at} cannot be packed: {type(error).__name__}: {error}") from error
        return self._file.getvalue()

    def reducer_override(self, value: Any) -> Any:
        label = self._at = self._capturing.label(value, self._at)
        original = self._originals(value) if self._originals is not None else None
        if original is not None and original is not value:
            self._capturing.enter(original, label)
            return same, (original,)
        if value is sys.stdout or value is sys.stderr:
            return getattr, (sys, "stdout" if value is sys.stdout else "stderr")
        check_live(value, label)
        reduction = self._reduce(value, label)
        if not isinstance(reduction, tuple) or reduction[0] is by_name:
            return reduction
        # Items come as iterators, which can be read only once: here, and then by the pickler.
        parts = [list(part) if n in (3, 4) and part is not None else part for n, part in enumerate(reduction)]
        self._capturing.reduction(value, parts, label)
        return tuple(iter(part) if n in (3, 4) and part is not None else part for n, part in enumerate(parts))

    def _reduce(self, value: Any, label: Label) -> Any:
        if isinstance(value, FunctionType | type):
            return self._definition(value, label)
        if isinstance(value, ModuleType):
            if value.__name__ == "__main__" or self._origin(value.__name__) is Origin.MISSING:
                raise BundleError(f"{label} is the module {value.__name__!r}, which exists only in this process")
            self.modules.setdefault(value.__name__, str(label))
        if isinstance(value, functools.cached_property | functools.singledispatchmethod):
            return reductions.by_content(value)
        reducer = self.dispatch_table.get(type(value))
        try:
            reduction = reducer(value) if reducer is not None else value.__reduce_ex__(PROTOCOL)
        except AvlabError as error:  # an object of another session
            raise BundleError(f"{label}: {error}") from None
        return self._global(value, reduction, label) if isinstance(reduction, str) else reduction

    def _global(self, value: Any, name: str, label: Label) -> Any:
        """An object that pickles as nothing but its own name."""
        module = getattr(value, "__module__", None)
        origin = self._origin(module) if isinstance(module, str) and module != "__main__" else Origin.MISSING
        if origin is Origin.LOCAL:
            self.modules.setdefault(str(module), str(label))
            return by_name, (module, name)
        if origin is Origin.INSTALLED or module is None:
            return name
        if (reduction := reductions.by_content(value)) is not None:
            return reduction
        raise BundleError(
            f"{label} ({type(value).__name__}) pickles as a name of the notebook: define it in a module next to it"
        )

    def _definition(self, value: Any, label: Label) -> Any:
        """A function or class: of a local or installed module by name, anything else by value."""
        module = value.__module__
        origin = self._origin(module) if isinstance(module, str) and module != "__main__" else Origin.MISSING
        if origin is Origin.LOCAL and _named(value, sys.modules.get(module)):
            self.modules.setdefault(module, str(label))
            return by_name, (module, value.__qualname__)
        if origin is Origin.INSTALLED:
            reduction = super().reducer_override(value)
            if reduction is NotImplemented:
                self.modules.setdefault(module, str(label))
            if reduction is NotImplemented or reduction[0] in (type, internals._builtin_type):
                return reduction
        if not self._code:
            raise BundleError(
                f"{label} is {value.__qualname__}, which no module defines: code that travels as source can use only plain "
                "values, modules and what modules define. Define it in the same cell or in a module"
            )
        if isinstance(value, FunctionType):
            return self._function(value)
        return reductions.whole(value, internals._dynamic_class_reduce(value))

    def _function(self, value: FunctionType) -> Any:
        if (reduction := reductions.dispatching(value)) is not None:
            return reduction
        self.codes.append(value.__code__)
        return reductions.whole(value, self._dynamic_function_reduce(value))

    def _origin(self, module: str) -> Origin:
        origin = self._finder.origin(module)
        if origin is not Origin.LOCAL:
            return origin
        spot = self._finder.find(module)
        loaded = getattr(sys.modules.get(module), "__file__", None)
        if spot is None or (loaded and spot.file and os.path.realpath(loaded) != os.path.realpath(spot.file)):
            return Origin.MISSING
        return Origin.LOCAL


def _named(value: Any, module: ModuleType | None) -> bool:
    """Whether the qualified name leads to this definition in the text of its module."""
    if "<" in value.__qualname__:
        return False
    if module is None:  # edited and dropped: the text on disk is what counts
        return True
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    # Another object of the same name: an older edition, which the name stands for, or a function that a decorator wraps.
    return found is value or not (isinstance(value, FunctionType) and value.__globals__ is module.__dict__)
