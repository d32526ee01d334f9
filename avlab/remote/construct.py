"""What the pickle of a bundle refers to by name: these run in the worker, while it loads."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Construct:
    """Packed in place of an instance: the worker calls ``cls(*args, **kwargs)``, so ``__init__`` runs there."""

    cls: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        return self.cls(*self.args, **self.kwargs)


def same(value: Any) -> Any:
    """Stands where one object was pickled in place of another."""
    return value


def restored(cls: Any, state: Mapping[str, Any]) -> Any:
    """A dataclass instance of these fields, without its ``__init__``."""
    made = object.__new__(cls)
    for name, value in state.items():
        object.__setattr__(made, name, value)
    return made


def with_members(cls: Any, state: Any) -> None:
    """Finish an enumeration whose members have attributes besides their values."""
    finish, attributes, members = state
    finish(cls, attributes)
    for name, values in members.items():
        vars(cls[name]).update(values)


def cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    """A function under ``functools.lru_cache``, its cache empty."""
    return functools.lru_cache(maxsize, typed)(function)


def dispatcher() -> Any:
    """A function under ``functools.singledispatch`` that knows no types yet."""
    return functools.singledispatch(lambda value: value)


def register_all(function: Any, registry: Mapping[type, Any]) -> None:
    """Make a `dispatcher` what it was; its functions may refer to it."""
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    functools.update_wrapper(function, registry[object])


def by_name(module: str, qualname: str) -> Any:
    """A class or function of a module that travelled as source. Raises ImportError, AttributeError."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
