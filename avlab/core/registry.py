"""Nodes by name: the entry-point group ``avlab.nodes``, loaded one at a time when a name is first asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from avlab.core.errors import UnknownNode
from avlab.core.points import points

_own: dict[str, type] = {}


def register_node(cls: type, name: str | None = None) -> type:
    """Add a node class of this process under its own name or ``name``; the newest wins. Usable as a decorator."""
    _own[name or cls.__name__] = cls
    return cls


def registered_nodes() -> list[str]:
    """Names of all registered nodes, sorted; nothing is imported for it."""
    return sorted({*_own, *_points()})


def registered(name: str) -> type:
    """The node class of this name. Raises UnknownNode with the closest names, or with the reason why it does not load."""
    if name in _own:
        return _own[name]
    point = _points().get(name)
    if point is None:
        raise UnknownNode(f"no node is registered as {name!r}{_alike(name)}")
    try:
        cls: type = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownNode(f"node {name!r} is registered as {point.value}, which does not load: {error}") from error
    return cls


def name_of(cls: type) -> str:
    """The name that a node class is registered under. Raises UnknownNode."""
    for name, own in _own.items():
        if own is cls:
            return name
    for name, point in _points().items():
        if point.attr == cls.__qualname__ and registered(name) is cls:
            return name
    raise UnknownNode(
        f"{cls.__qualname__} is not registered: declare it in the entry-point group avlab.nodes, "
        "or call register_node"
    )


def close_matches(name: str, known: Iterable[Any]) -> list[str]:
    """The known names that look most like ``name``."""
    return difflib.get_close_matches(name, [str(each) for each in known], 3, 0.5)


def _alike(name: str) -> str:
    close = close_matches(name, registered_nodes())
    return f"; did you mean {' or '.join(close)}?" if close else "; `avlab nodes` lists those that are"


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in points("avlab.nodes")}
