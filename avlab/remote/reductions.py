"""Reductions of what cloudpickle cannot pickle by value, or forgets a part of: for bundles and for arguments."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import FunctionType
from typing import Annotated, Any, ForwardRef, Literal, NewType, get_args, get_origin

from cloudpickle import cloudpickle as internals

from avlab.remote.construct import cached, dispatcher, register_all, with_members
from avlab.remote.source import parsed

_DISPATCHES = dispatcher().__code__
"""The code of every function under ``functools.singledispatch``."""


def by_content(value: Any) -> Any:
    """The reduction of an object that otherwise holds a lock, or pickles as nothing but its name; None for others."""
    if isinstance(value, functools.cached_property):  # holds a lock before Python 3.12
        return functools.cached_property, (value.func,), {"attrname": value.attrname}
    if isinstance(value, functools.singledispatchmethod):  # of Python 3.13 holds weak references
        return functools.singledispatchmethod, (value.func,), {"dispatcher": value.dispatcher}
    if isinstance(value, functools._lru_cache_wrapper):
        options = value.cache_parameters()
        return cached, (value.__wrapped__, options["maxsize"], options["typed"])
    return (NewType, (value.__name__, value.__supertype__)) if isinstance(value, NewType) else None


def unnamed(value: Any) -> Any:
    """The reduction of such an object, or of a dispatching function, that no importable module has under its name; None for others."""
    if isinstance(value, functools._lru_cache_wrapper | NewType | FunctionType):
        if internals._lookup_module_and_qualname(value) is not None:
            return None
        return dispatching(value) if isinstance(value, FunctionType) else by_content(value)
    return by_content(value)


def dispatching(function: FunctionType) -> Any:
    """The reduction of a function under ``functools.singledispatch``; None for others."""
    if function.__code__ is not _DISPATCHES:
        return None
    return dispatcher, (), dict(vars(function)["registry"]), None, None, register_all


def whole(value: Any, reduction: Any) -> Any:
    """cloudpickle's reduction of a function, with the globals that its annotations name, or of an enumeration, with what ``__init__``
    gave to its members; other reductions as they are."""
    if not isinstance(reduction, tuple):
        return reduction
    if reduction[0] is internals._make_function:
        # Annotations that are text name globals which the code itself does not use; whoever resolves them needs them.
        for name in _annotated_names(value):
            if name in value.__globals__:
                reduction[2][1]["__globals__"].setdefault(name, value.__globals__[name])
    elif reduction[0] is internals._make_skeleton_enum:
        members = {m.name: {n: v for n, v in vars(m).items() if not (n[0] == "_" == n[-1])} for m in value}
        make, arguments, state, *_ = reduction
        return make, arguments, (internals._class_setstate, state, members), None, None, with_members
    return reduction


def _annotated_names(function: FunctionType) -> set[str]:
    names: set[str] = set()
    for text in (t for annotation in function.__annotations__.values() for t in _texts(annotation)):
        try:
            names |= {n.id for n in ast.walk(parsed(f"({text}\n)")) if isinstance(n, ast.Name)}
        except SyntaxError:  # whoever resolves it will say so
            continue
    return names


def _texts(annotation: Any) -> Iterator[str]:
    """The annotation if it is text, or what is text in it: ``Optional["Shape"]``."""
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, ForwardRef):
        yield annotation.__forward_arg__
    elif get_origin(annotation) is Annotated:
        yield from _texts(annotation.__origin__)
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from (t for each in part for t in _texts(each)) if isinstance(part, list) else _texts(part)
