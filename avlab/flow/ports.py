"""What flows along each edge: the types that nodes produce and consume, checked before anything runs."""

from __future__ import annotations

import inspect
from typing import Any

from avlab.core.errors import MediaError, PipelineError
from avlab.core.node import Shape, consumes, produces, shape_of
from avlab.flow.structure import Row, Tee, label

Types = frozenset[type] | None
"""Types that may flow along an edge; None when they are not known."""


def check(row: Row) -> None:
    """Follow the types from the source. Raises PipelineError naming the edge at which no item can enter a node, and the
    node without an annotation that would have to choose between several types."""
    if row and not isinstance(row[0], Tee) and shape_of(row[0]) is Shape.SOURCE:
        _follow(row[1:], _made(row[0]), label(row[0]))
    else:
        _follow(row, None, "input")


def _made(source: Any) -> Types:
    try:
        declared = produces(source)
    except (MediaError, OSError):  # a file that is not there yet: the run says so
        return None
    return None if declared is None else frozenset(declared)


def _follow(row: Row, types: Types, origin: str) -> tuple[Types, str]:
    for element in row:
        if isinstance(element, Tee):
            ends = [_follow(branch, types, origin) for branch in element.branches]
            known = [end for end, _ in ends if end is not None]
            types = frozenset().union(*known) if len(known) == len(ends) else None
            origin = ", ".join(dict.fromkeys(name for _, name in ends))
        else:
            types = _through(element, types, origin)
            origin = label(element)
    return types, origin


def _through(node: Any, types: Types, origin: str) -> Types:
    takes = consumes(node)
    edge = f"{origin} → {label(node)}"
    if takes is None and types is not None and len(types) > 1:
        raise PipelineError(
            f"{edge}: {label(node)}.process does not say what it consumes, and {_list(types)} arrive: annotate it, "
            f"for example process(self, value: {_list(types).split(' and ')[0]})"
        )
    if types is not None and takes and not any(_meet(each, takes) for each in types):
        arriving = f"only {_list(types)} arrives" if types else "nothing arrives"
        raise PipelineError(f"{edge}: {label(node)} consumes {_list(takes)}, but {arriving} there")
    made = produces(node)
    if made is None or (made == () and _may_flush(node)):
        return None
    if takes == ():
        return frozenset(made)
    if types is None:
        return None
    passing = {each for each in types if takes and not issubclass(each, takes)}
    return frozenset(passing | set(made))


def _may_flush(node: Any) -> bool:
    """Whether results may come at the end though ``process`` has none."""
    flush = getattr(node, "flush", None)
    return callable(flush) and inspect.signature(flush).return_annotation not in (None, "None")


def _meet(arriving: type, takes: tuple[type, ...]) -> bool:
    return issubclass(arriving, takes) or any(issubclass(each, arriving) for each in takes)


def _list(types: frozenset[type] | tuple[type, ...]) -> str:
    return " and ".join(sorted(each.__qualname__ for each in types))
