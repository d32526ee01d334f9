"""How the attributes of a class are forwarded: one forwarder per method, of the same shape and signature as the original."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from avlab.core.errors import RemoteError

from .handle import Handle, stops_iteration

Find = Callable[[Any, str], Handle]
"""The handle of the instance (or class) that a forwarder was called on; raises TypeError for anything else."""

_REFLECTED = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow")
_BITWISE = ("lshift", "rshift", "and", "xor", "or")
BINARY = {f"__{side}{name}__" for name in (*_REFLECTED, *_BITWISE) for side in ("", "r", "i")} | {
    f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")
}


def forwarder(name: str, original: Any, find: Find) -> Any:
    """A function that calls ``name`` over there. Coroutine and generator functions stay what they are."""
    function = original.func if isinstance(original, functools.partialmethod) else inspect.unwrap(original)
    if name in BINARY:
        made = _operator(name, find)
    elif name in _SPECIAL:
        made = _SPECIAL[name](find)
    elif inspect.isasyncgenfunction(function):
        made = _async_generator(name, find)
    elif inspect.iscoroutinefunction(function):
        made = _coroutine(name, find)
    elif inspect.isgeneratorfunction(function):
        made = _generator(name, find)
    else:
        made = _function(name, find)
    functools.update_wrapper(made, original)
    made.__name__ = name
    return made


def attribute(name: str, original: Any, find: Find) -> property:
    """A property for a descriptor of the class: read, written and deleted over there."""

    def fget(self: Any) -> Any:
        __tracebackhide__ = True
        return find(self, name).call(self, "__getattribute__", (name,), {})

    def fset(self: Any, value: Any) -> None:
        __tracebackhide__ = True
        find(self, name).call(self, "__setattr__", (name, value), {})

    def fdel(self: Any) -> None:
        __tracebackhide__ = True
        find(self, name).call(self, "__delattr__", (name,), {})

    return property(fget, fset, fdel, getattr(original, "__doc__", None))


def _function(name: str, find: Find) -> Any:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return find(self, name).call(self, name, args, kwargs)

    return call


def _generator(name: str, find: Find) -> Any:
    def iterate(self: Any, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        __tracebackhide__ = True
        yield from find(self, name).iterate(self, name, args, kwargs)

    return iterate


def _coroutine(name: str, find: Find) -> Any:
    async def acall(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return await find(self, name).acall(self, name, args, kwargs)

    return acall


def _async_generator(name: str, find: Find) -> Any:
    async def aiterate(self: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        __tracebackhide__ = True
        async for value in find(self, name).aiterate(self, name, args, kwargs):
            yield value

    return aiterate


def _operator(name: str, find: Find) -> Any:
    def operate(self: Any, /, *args: Any) -> Any:
        __tracebackhide__ = True
        return find(self, name).call(self, name, args, {})

    return operate


def _next(find: Find) -> Any:
    def following(self: Any) -> Any:
        __tracebackhide__ = True
        try:
            return find(self, "__next__").call(self, "__next__", (), {})
        except RemoteError as error:
            if stops_iteration(error, "StopIteration"):
                raise StopIteration from None
            raise

    return following


def _anext(find: Find) -> Any:
    async def following(self: Any) -> Any:
        __tracebackhide__ = True
        try:
            return await find(self, "__anext__").acall(self, "__anext__", (), {})
        except RemoteError as error:
            if stops_iteration(error, "StopAsyncIteration"):
                raise StopAsyncIteration from None
            raise

    return following


def _iter(find: Find) -> Any:
    def iterate(self: Any) -> Any:
        __tracebackhide__ = True
        if hasattr(type(self), "__next__"):
            return find(self, "__iter__").call(self, "__iter__", (), {})
        return find(self, "__iter__").iterate(self, "__iter__", (), {})

    return iterate


_SPECIAL: dict[str, Callable[[Find], Any]] = {"__next__": _next, "__anext__": _anext, "__iter__": _iter}
