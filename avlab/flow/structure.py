"""The structure of a pipeline: a row of nodes and tees, flattened, checked and named, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sized
from typing import Any, cast

from avlab.core.errors import PipelineError
from avlab.core.node import Shape, join, shape_of

Row = tuple[Any, ...]
"""Nodes and `Tee`s in order."""


class Tee:
    """A fork made by `tee`: every item goes into each branch."""

    def __init__(self, branches: tuple[Row, ...]) -> None:
        self.branches = branches

    def __rshift__(self, other: object) -> Any:
        return join.pipeline([self, other])

    def __rrshift__(self, other: object) -> Any:
        return join.pipeline([other, self])

    def __repr__(self) -> str:
        return f"tee({', '.join(shown(branch) for branch in self.branches)})"


class Iterated:
    """A source made of any iterable or async iterable. Raises PipelineError when one that is used up is read again."""

    def __init__(self, values: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.values = values
        self.used = False

    def items(self) -> Any:
        """The values, as a plain or an async iterator."""
        values = self.values
        once = isinstance(values, Iterator) or values is getattr(values, "__aiter__", lambda: None)()
        if once and self.used:
            raise PipelineError(f"{self!r} was read by an earlier run: give the pipeline a list, or a new {self!r}")
        self.used = True
        return _async_items(values) if isinstance(values, AsyncIterable) else iter(values)

    def total(self) -> int | None:
        """How many values there are, if that is known."""
        return len(self.values) if isinstance(self.values, Sized) else None

    def __repr__(self) -> str:
        return type(self.values).__name__


async def _async_items(values: AsyncIterable[Any]) -> Any:
    async for value in values:
        yield value


def flatten(nodes: Iterable[object]) -> Row:
    """One row of nodes and tees: nested pipelines and lists dissolve, proxies give their node, a leading iterable
    becomes a source. Raises PipelineError for what is no node, for one node in two places, and for a source that is
    not first."""
    row = tuple(_flat(nodes, first=True))
    seen: set[int] = set()
    for node in every(row):
        if id(node) in seen:
            raise PipelineError(f"the same {node!r} is twice in this pipeline: make two nodes, or merge after the tee")
        seen.add(id(node))
    for node in every(row):
        if shape_of(node) is Shape.SOURCE and node is not row[0]:
            raise PipelineError(f"{node!r} makes items itself: it can only be the first of a pipeline")
    return row


def _flat(nodes: Iterable[object], first: bool) -> Iterator[Any]:
    for element in nodes:
        if isinstance(element, Tee):
            yield element
        elif _is_pipeline(element):
            yield from cast(Any, element).row
        elif is_node(element):
            yield _real(element)
        elif isinstance(element, list | tuple) and element and all(map(is_part, element)):
            yield from _flat(element, first)
        elif first and _is_iterable(element):
            yield Iterated(element)  # type: ignore[arg-type]
        else:
            raise PipelineError(_refusal(element))
        first = False


def branch(part: object) -> Row:
    """One branch of a tee: a node, a pipeline, a tee, or a list of them (an empty one passes items on)."""
    parts = part if isinstance(part, list | tuple) else [part]
    return tuple(_flat(parts, first=False))


def is_part(element: object) -> bool:
    """Whether something can stand in a pipeline."""
    return isinstance(element, Tee) or _is_pipeline(element) or is_node(element)


def _is_pipeline(element: Any) -> bool:
    # A proxy is not asked for its attributes: it would look at its far side for them.
    return not hasattr(type(element), "__avlab_node__") and hasattr(element, "row")


def is_node(element: object) -> bool:
    """Whether an object is a node, or a proxy of one."""
    if isinstance(element, dict):
        return False
    return any(callable(getattr(element, name, None)) for name in ("__avlab_node__", "process", "stream", "items"))


def _real(element: Any) -> Any:
    proxied = None if isinstance(element, type) else getattr(element, "__avlab_node__", None)
    node = element if proxied is None else proxied()
    shape_of(node)  # refuses classes
    return node


def _is_iterable(element: object) -> bool:
    return isinstance(element, Iterable | AsyncIterable) and not isinstance(element, str | bytes | bytearray)


def _refusal(element: object) -> str:
    if isinstance(element, str):
        return f"{element!r} is text, not a node: did you mean FileSource({element!r})?"
    if callable(element):
        name = getattr(element, "__name__", "")
        remedy = f"put @avlab.node above it and use {name}()" if name.isidentifier() else "write avlab.node(…)() around it"
        return f"{element!r} is a function, not a node: {remedy}"
    return f"{element!r} is not a node: it has neither process(value) nor items()"


def every(row: Row) -> Iterator[Any]:
    """All nodes of a row, depth first."""
    for element in row:
        if isinstance(element, Tee):
            for each in element.branches:
                yield from every(each)
        else:
            yield element


def names(row: Row) -> dict[int, str]:
    """A name for each node by its id: its class, numbered from the second of its kind on."""
    counts: Counter[str] = Counter()
    found: dict[int, str] = {}
    for node in every(row):
        kind = label(node)
        counts[kind] += 1
        found[id(node)] = kind if counts[kind] == 1 else f"{kind} {counts[kind]}"
    return found


def label(node: object) -> str:
    """What a node is called in messages and tables."""
    return repr(node) if isinstance(node, Iterated) else getattr(node, "__name__", type(node).__name__)


def shown(row: Row, show: Callable[[Any], str] = repr) -> str:
    """A row as its source text."""
    return " >> ".join(show(element) for element in row) or "[]"
