"""Instances of remote classes, and the methods that need none."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import MethodType, SimpleNamespace
from typing import Any

from avlab.remote.construct import Construct

from .handle import Handle
from .home import SourceHome
from .kinds import Kind
from .operators import forwarder
from .proxy import STATE, handle_of
from .tracebacks import CannotBeRemote

PREFIX = "shared_"


class Shared:
    """A class or static method: called on an instance it runs in its session, called on the class in the class's own."""

    def __init__(self, name: str, original: Any) -> None:
        self._function = getattr(original, "__func__", original)
        self._name = name
        self._instance = forwarder(name, self._function, handle_of)
        self._class = forwarder(PREFIX + name, self._function, _shared_handle)
        self._class.__name__ = name
        self.__doc__ = getattr(original, "__doc__", None)
        self.__isabstractmethod__ = getattr(original, "__isabstractmethod__", False)

    def __get__(self, value: Any, owner: Any) -> Any:
        if value is not None:
            return MethodType(self._instance, value)
        if self._makes(owner.__avlab__.original) and not isinstance(owner.__avlab__.home, SourceHome):
            return MethodType(self._alternative, owner)
        return MethodType(self._class, owner)

    def _makes(self, original: type) -> bool:
        hint = getattr(self._function, "__annotations__", {}).get("return")
        return hint in (original, original.__name__, typing.Self, "Self", "typing.Self")

    def _alternative(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        """A constructor by another name, known by ``-> Self``: makes an instance in a session of its own."""
        maker = getattr(cls.__avlab__.original, self._name)
        return instance(cls, lambda: Construct(maker, args, kwargs), args, kwargs)


def _shared_handle(cls: Any, name: str) -> Handle:
    kind: Kind = cls.__avlab__
    if isinstance(kind.home, SourceHome):
        raise CannotBeRemote(
            f"{cls.__qualname__}.{name.removeprefix(PREFIX)}: its cell runs elsewhere; call it on an instance"
        )
    if kind.shared is None:
        original = kind.original
        names = [n for n in dir(cls) if isinstance(inspect.getattr_static(cls, n), Shared)]
        target = SimpleNamespace(**{PREFIX + n: getattr(original, n) for n in names})
        kind.shared = Handle(kind.home, original.__qualname__, f"{original.__qualname__} (class)", lambda: target)
        kind.home.desk.adopt(cls, kind.shared)
        kind.shared.owner = None  # the class travels as what it was made of
    return kind.shared


def instance(cls: Any, make: Callable[[], object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An instance of a remote class whose session will hold what ``make`` packs."""
    kind: Kind = cls.__avlab__
    shown = ", ".join([_short(v) for v in args] + [f"{n}={_short(v)}" for n, v in kwargs.items()])
    handle = Handle(kind.home, cls.__qualname__, f"{cls.__qualname__}({shown})", make)
    value = object.__new__(cls)
    object.__setattr__(value, STATE, handle)
    kind.home.desk.adopt(value, handle)
    return value


def _short(value: object) -> str:
    text = (
        repr(value)
        if isinstance(value, str | bytes | int | float | bool | tuple | list | dict | None)
        else type(value).__name__
    )
    return text if len(text) <= 40 else text[:37] + "…"
