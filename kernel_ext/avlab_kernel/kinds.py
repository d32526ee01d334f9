"""What is known of a class that becomes remote, and whether it can."""

from __future__ import annotations

import abc
import enum
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from avlab.core.node import Node, parameters

from .tracebacks import CannotBeRemote

if TYPE_CHECKING:
    from .handle import Handle
    from .home import Home


@dataclass(slots=True)
class Kind:
    """What a remote class knows of itself. ``settings``: arguments are parameters, not those of an ``__init__``."""

    original: type
    home: Home
    settings: bool
    forwarded: frozenset[str] = frozenset()
    shared: Handle | None = None
    values: Any = None
    """Of a dataclass: the class of its values that come back from sessions."""


def kind_of(original: type, home: Home) -> Kind:
    """The kind of a class. Raises CannotBeRemote if it derives from a built-in container or has a metaclass."""
    name = original.__qualname__
    if issubclass(original, type):
        raise CannotBeRemote(
            f"{name} cannot be remote: it is a metaclass, and classes are made here; use __init_subclass__ or a class decorator instead"
        )
    if type(original) not in (type, abc.ABCMeta, type(typing.Protocol)):
        raise CannotBeRemote(
            f"{name} cannot be remote: its metaclass {type(original).__name__} would run here; remove it"
        )
    for base in original.__mro__[:-1]:
        if "__new__" in vars(base) and not isinstance(vars(base)["__new__"], staticmethod):
            raise CannotBeRemote(
                f"{name} cannot be remote: it derives from the built-in {base.__name__}, whose content would be empty here; "
                f"keep a {base.__name__} in an attribute instead"
            )
    constructor = inspect.getattr_static(original, "__init__")
    plain = constructor in (object.__init__, Node.__init__) and "__new__" not in defined(original)
    return Kind(original, home, settings=plain)


def is_value_type(cls: type, sources: Mapping[str, str]) -> bool:
    """Exceptions, enumerations, named tuples, typed dicts, and dataclasses without methods of the cell's own describe values."""
    if is_dataclass(cls) and not own_methods(cls, sources):
        return True
    named = issubclass(cls, tuple) and hasattr(cls, "_fields")
    kinds = (BaseException, enum.Enum)
    return issubclass(cls, kinds) or named or typing.is_typeddict(cls)


def own_methods(cls: type, sources: Mapping[str, str]) -> list[str]:
    """Methods, properties and the like that the cells themselves define, by name."""
    own = []
    for base in cls.__mro__[:-1]:
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", getattr(value, "func", value)))
            if isinstance(function, FunctionType) and function.__code__.co_filename in sources:
                own.append(name)
    return own


def defined(original: type) -> dict[str, Any]:
    """What the class and its bases, but not object, define."""
    found: dict[str, Any] = {}
    for base in reversed(original.__mro__[:-1]):
        found |= vars(base)
    return found


def signature(kind: Kind) -> inspect.Signature:
    if not kind.settings:
        return inspect.signature(kind.original)
    keyword = inspect.Parameter.KEYWORD_ONLY  # defaults may come before required ones
    found = parameters(kind.original).items()
    return inspect.Signature([inspect.Parameter(n, keyword, default=d, annotation=a) for n, (a, d) in found])
