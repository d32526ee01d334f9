"""drive: the only loop that pulls items, calls a node and pushes results. The notebook and the sandbox run the same code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Protocol

from avlab.core.errors import blame
from avlab.core.item import Item, as_item, inherit
from avlab.core.node import Shape, consumes, shape_of, takes_item

Await = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end on a loop elsewhere and returns its result (avlab.core.portal, or the worker's loop)."""

One = Callable[[Item], Item | None]
Many = Callable[[Item], Iterator[Item]]


class Emit(Protocol):
    """Takes each result; ``last`` says that the current item has no further one. None with ``last`` only says that."""

    def __call__(self, result: Item | None, last: bool) -> None: ...


def drive(node: object, items: Iterable[Item], emit: Emit, run: Await) -> None:
    """Pull every item, push its results in order, then what ``node.flush()`` holds back.

    The node is open already and is closed by whoever opened it. A flush's results are emitted with ``last=False`` and
    followed by ``(None, True)``. Raises NodeError (which also is the builtin type of the original) naming node and item.
    """
    previous: Item | None = None
    if shape_of(node) in (Shape.FUNCTION, Shape.COROUTINE):
        one = one_result(node, run)
        for item in items:
            emit(one(item), True)
            previous = item
    else:
        many = many_results(node, run)
        for item in items:
            for result in many(item):
                emit(result, False)
            emit(None, True)
            previous = item
    for result in flushed(node, previous, run):
        emit(result, False)
    emit(None, True)


def one_result(node: Any, run: Await) -> One:
    """The step of a node that makes at most one result of an item: a function or coroutine."""
    process, whole = node.process, takes_item(node)
    if shape_of(node) is Shape.COROUTINE:
        coroutine = process

        def process(value: Any) -> Any:
            return run(coroutine(value))

    def step(item: Item) -> Item | None:
        try:
            return inherit(process(item if whole else item.value), item)
        except Exception as error:  # noqa: BLE001  blame raises it
            blame(node, item, error)

    return step


def many_results(node: Any, run: Await) -> Many:
    """The step of a generator or async generator: results are made one at a time, as they are asked for."""
    process, whole = node.process, takes_item(node)
    if shape_of(node) is Shape.ASYNC_GENERATOR:
        asyncgen = process

        def process(value: Any) -> Any:
            return iterate_async(asyncgen(value), run)

    def step(item: Item) -> Iterator[Item]:
        try:
            for value in process(item if whole else item.value):
                result = inherit(value, item)
                if result is not None:
                    yield result
        except Exception as error:  # noqa: BLE001  blame raises it
            blame(node, item, error)

    return step


def iterate_async(iterator: Any, run: Await) -> Iterator[Any]:
    """An async iterator as a plain one; each step runs where ``run`` runs coroutines, and so does its closing."""
    try:
        while True:
            try:
                value = run(_next(iterator))
            except StopAsyncIteration:
                return
            yield value
    finally:
        if hasattr(iterator, "aclose"):
            run(_close(iterator))


async def _next(iterator: Any) -> Any:
    return await anext(iterator)


async def _close(iterator: Any) -> None:
    await iterator.aclose()


def flushed(node: Any, previous: Item | None, run: Await) -> Iterator[Item]:
    """What a node still holds when its input ends.

    ``flush()`` may return None, one result, a list or iterator of results, or be a coroutine or async generator. Results
    without a time of their own take that of the last item.
    """
    flush = getattr(node, "flush", None)
    if flush is None:
        return
    parent = previous or Item(None)
    try:
        held = flush()
        if inspect.iscoroutine(held):
            held = run(held)
        if inspect.isasyncgen(held):
            held = iterate_async(held, run)
        for value in held if isinstance(held, list | Iterator) else (held,):
            result = inherit(value, parent)
            if result is not None:
                yield result
    except Exception as error:  # noqa: BLE001  blame raises it
        blame(node, parent, error, "flush")


def open_node(node: Any, run: Await) -> None:
    """Call ``node.open()`` if there is one. Raises NodeError naming the node."""
    _call(node, "open", run)


def close_node(node: Any, run: Await) -> None:
    """Call ``node.close()`` if there is one. Raises NodeError naming the node."""
    _call(node, "close", run)


def _call(node: Any, method: str, run: Await) -> None:
    function = getattr(node, method, None)
    if not callable(function):
        return
    try:
        result = function()
        if inspect.iscoroutine(result):
            run(result)
    except Exception as error:  # noqa: BLE001  blame raises it
        blame(node, None, error, method)


def produced(node: Any, run: Await) -> Generator[Item, None, None]:
    """The items of a source, in order, numbered per track where the source left ``seq`` at 0. Raises NodeError."""
    numbers: dict[str, int] = {}
    try:
        values = node.items()
        for value in iterate_async(values, run) if inspect.isasyncgen(values) else values:
            item = as_item(value)
            number = numbers.get(item.track, 0)
            numbers[item.track] = number + 1
            if item.seq == 0 and number:
                item.seq = number
            yield item
    except Exception as error:  # noqa: BLE001  blame raises it
        blame(node, None, error, "items")


def accepts(node: object) -> Callable[[Any], bool]:
    """Whether a value enters a node (True) or flows past it, by the annotation of its process."""
    types = consumes(node)
    if not types:
        return lambda value: True
    return lambda value: isinstance(value, types)
