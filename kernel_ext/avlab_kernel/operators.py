"""How the attributes of a class are forwarded: one forwarder per method, of the same shape and signature as the original."""

from __future__ import annotations

import builtins
import contextlib
import copy
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

from avlab.core.errors import RemoteError, nearest_builtin
from avlab.remote.arguments import pickle_argument
from avlab.remote.stand_ins import ORIGINAL

from .handle import Handle, stops_iteration
from .proxy import Remote, is_frozen
from .tracebacks import CannotBeRemote

Find = Callable[[Any, str], Handle]
"""The handle of the instance (or class) that a forwarder was called on; raises TypeError for anything else."""

_REFLECTED = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow")
_BITWISE = ("lshift", "rshift", "and", "xor", "or")
BINARY = {f"__{side}{name}__" for name in (*_REFLECTED, *_BITWISE) for side in ("", "r", "i")} | {
    f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")
}

WRAPPED = (functools.partialmethod, functools.singledispatchmethod)
"""Methods that are no functions themselves."""
_ONE_WAY = "it only gives: a class with methods can be told things between two results"


def _code_of(function: Any) -> Any:
    return getattr(function, "__code__", None)


@contextlib.contextmanager
def _managed() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def _amanaged() -> AsyncIterator[None]:
    yield


_MANAGERS = {_code_of(_managed), _code_of(_amanaged)}
"""The code of every function that contextlib's decorators make."""


def forwarder(name: str, original: Any, find: Find) -> Any:
    """A function that calls ``name`` over there. Coroutine and generator functions stay what they are."""
    function = original.func if isinstance(original, WRAPPED) else inspect.unwrap(original)
    if name in BINARY:
        made = _operator(name, find)
    elif name in _SPECIAL:
        made = _SPECIAL[name](find)
    elif _code_of(original) in _MANAGERS:
        made = _manager(name)
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
    setattr(made, ORIGINAL, original)
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

    vars(fget)["__isabstractmethod__"] = getattr(original, "__isabstractmethod__", False)
    return property(fget, fset, fdel, getattr(original, "__doc__", None))


def _function(name: str, find: Find) -> Any:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return find(self, name).call(self, name, args, kwargs)

    return call


def _generator(name: str, find: Find) -> Any:
    def iterate(self: Any, /, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        with contextlib.closing(find(self, name).iterate(self, name, args, kwargs)) as values:
            while True:
                try:
                    value = next(values)
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield value
                except Exception as error:
                    raise CannotBeRemote(f"{name}: nothing can be thrown into a remote generator; {_ONE_WAY}") from error
                if sent is not None:
                    raise CannotBeRemote(f"{name}: nothing can be sent into a remote generator; {_ONE_WAY}")

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
            if (yield value) is not None:
                raise CannotBeRemote(f"{name}: nothing can be sent into a remote generator; {_ONE_WAY}")

    return aiterate


def _manager(name: str) -> Any:
    def enter(self: Any, /, *_: Any, **__: Any) -> Any:
        raise CannotBeRemote(
            f"{name} makes a context manager, which would be entered here: use it inside of the %%remote cell, or give a class "
            "__enter__ and __exit__"
        )

    return enter


def _operator(name: str, find: Find) -> Any:
    def operate(self: Any, /, *args: Any) -> Any:
        __tracebackhide__ = True
        other = next((each for each in args if issubclass(type(each), Remote) and each is not self and not is_frozen(each)), None)
        if other is not None:
            raise CannotBeRemote(
                f"{name} of two remote objects, {type(self).__name__} and {type(other).__name__}: each lives in a session of its own, "
                "where the other is not. Use what they hold (a.x == b.x), or keep both in one remote object"
            )
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


def _reversed(find: Find) -> Any:
    def iterate(self: Any) -> Any:
        __tracebackhide__ = True
        return find(self, "__reversed__").iterate(self, "__reversed__", (), {})

    return iterate


def _await(find: Find) -> Any:
    def wait(self: Any) -> Any:
        __tracebackhide__ = True
        return find(self, "__await__").acall(self, "__await__", (), {}).__await__()

    return wait


def _leaving(kind: Any, error: Any, tb: object) -> tuple[Any, Any, None]:
    """What an exit is told: the error without its traceback, which cannot travel; for one that cannot either, the builtin that it is."""
    if isinstance(error, BaseException):
        try:
            copy.copy(error)  # as it will be made over there
            pickle_argument(error)
        except Exception:  # noqa: BLE001  of whatever kind: it has a say in how it is copied
            kind = getattr(builtins, nearest_builtin(type(error)))
            try:
                error = kind(str(error))
            except Exception:  # noqa: BLE001  it wants more than a message
                kind, error = Exception, Exception(f"{type(error).__name__}, which cannot travel")
    return kind, error, None


def _exit(find: Find) -> Any:
    def leave(self: Any, *error: Any) -> Any:
        __tracebackhide__ = True
        return find(self, "__exit__").call(self, "__exit__", _leaving(*error), {})

    return leave


def _aexit(find: Find) -> Any:
    async def leave(self: Any, *error: Any) -> Any:
        __tracebackhide__ = True
        return await find(self, "__aexit__").acall(self, "__aexit__", _leaving(*error), {})

    return leave


_SPECIAL: dict[str, Callable[[Find], Any]] = {
    "__next__": _next,
    "__anext__": _anext,
    "__iter__": _iter,
    "__reversed__": _reversed,
    "__await__": _await,
    "__exit__": _exit,
    "__aexit__": _aexit,
}
