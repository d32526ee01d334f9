"""Remote: what an instance of a remote class does here. Everything else happens in its session."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

from avlab.core.errors import AvlabError
from avlab.core.node import Node, join
from avlab.remote.construct import Construct, restored

from . import nodes
from .handle import Handle
from .tracebacks import CannotBeRemote

STATE = "__avlab_handle__"


def handle_of(value: Any, name: str) -> Handle:
    """The handle of a remote instance. Raises CannotBeRemote for a method called on something else."""
    if not issubclass(type(value), Remote):
        raise CannotBeRemote(f"{name} needs a remote instance, not {type(value).__name__}")
    handle: Handle = object.__getattribute__(value, STATE)
    return handle


def is_dunder(name: str) -> bool:
    """Whether Python itself looks this name up."""
    return name[:2] == "__" == name[-2:]


def is_frozen(value: Remote) -> bool:
    """Whether the class is a dataclass whose instances do not change: a copy of one is as good."""
    return bool(getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False))


class Remote:
    """Base of all remote classes, before the original in the order of bases."""

    __slots__ = ()
    if TYPE_CHECKING:  # an annotation would be one of the user's class
        __avlab__: Any  # the Kind of the class

    def __init__(self, *_: Any, **__: Any) -> None:
        raise CannotBeRemote(f"{type(self).__name__}: a remote object is made by calling its class")

    def __init_subclass__(cls, **_: Any) -> None:
        """Does not reach the original's hook: the remote class is no new subclass of the user's."""

    def __getattribute__(self, name: str) -> Any:
        __tracebackhide__ = True
        kind = type(self).__avlab__
        if name in kind.forwarded or (is_dunder(name) and name != "__dict__"):
            return object.__getattribute__(self, name)
        if name.startswith(("_repr_", "_ipython_")):
            raise AttributeError(name)  # a worker's markup would be script in the user's page
        handle = handle_of(self, name)
        try:
            return handle.call(self, "__getattribute__", (name,), {})
        except AttributeError:
            if not hasattr(kind.original, "__getattr__"):
                raise
        return handle.call(self, "__getattr__", (name,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        __tracebackhide__ = True
        if is_dunder(name):
            raise AttributeError(f"{name} of a remote object cannot be set")
        handle_of(self, name).call(self, "__setattr__", (name, value), {})

    def __delattr__(self, name: str) -> None:
        __tracebackhide__ = True
        handle_of(self, name).call(self, "__delattr__", (name,), {})

    def __dir__(self) -> list[str]:
        return sorted(set(dir(type(self))) - {"__avlab__", STATE})

    def __repr__(self) -> str:
        return _text(self, "__repr__")

    def __str__(self) -> str:
        return _text(self, "__str__")

    def __format__(self, spec: str) -> str:
        __tracebackhide__ = True
        if type(self).__avlab__.original.__format__ is object.__format__:
            return format(str(self), spec)
        return str(handle_of(self, "__format__").call(self, "__format__", (spec,), {}))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        name = type(self).__name__
        if is_frozen(self):
            made = handle_of(self, "__reduce_ex__").unused
            if isinstance(made, Construct):
                return partial(made.cls, *made.args, **made.kwargs), ()
            original = type(self).__avlab__.original
            return restored, (original, {f.name: getattr(self, f.name) for f in fields(original)})
        raise CannotBeRemote(
            f"this {name} lives in a session of its own and cannot be copied, pickled or sent to another one: make another "
            f"{name}(...) there, or pass what it was made from"
            + ("; a dataclass with frozen=True travels" if is_dataclass(type(self)) else "")
        )

    def __copy__(self) -> Any:
        return self if is_frozen(self) else self.__reduce_ex__(4)

    def __deepcopy__(self, memo: object) -> Any:
        return self.__copy__()

    def __avlab_node__(self) -> Any:
        """The node that stands in a pipeline for this object."""
        return nodes.node_of(self, handle_of(self, "process"), nodes.likeness(type(self).__avlab__.original))

    def __rshift__(self, other: object) -> Any:
        return join.pipeline([self, other])

    def __rrshift__(self, other: object) -> Any:
        return join.pipeline([other, self])


def _text(self: Remote, method: str) -> str:
    """The object's own text where its class defines one, otherwise what it was made with."""
    handle = handle_of(self, method)
    wanted = {method, "__repr__"}
    own = any(wanted & vars(c).keys() for c in type(self).__avlab__.original.__mro__ if c not in (object, Node))
    if own and not handle.is_over:
        try:
            return str(handle.call(self, method, (), {}))
        except AvlabError as error:  # a repr that raises hides what it is about
            return f"<{handle.made}: {error}>"
    return f"<remote {handle.made}{', ended' if handle.is_over else ''}>"
