"""Remote classes: made of an original, they look like it, and their instances live in sessions."""

from __future__ import annotations

import abc
import enum
import inspect
import threading
import typing
from typing import Any

from avlab.core.node import Node, bind_parameters
from avlab.remote.stand_ins import original_of

from .exceptions import exception_twin
from .home import Arguments, Home
from .kinds import Kind, defined, is_value_type, kind_of, own_methods, signature
from .operators import WRAPPED, attribute, forwarder
from .proxy import STATE, Remote, handle_of
from .shared import Shared, instance
from .tracebacks import CannotBeRemote, WrongArguments
from .values import EnumTwin, enum_twin, tuple_twin

# fmt: off
HERE = frozenset({
    "__new__", "__init__", "__post_init__", "__init_subclass__", "__class_getitem__", "__subclasshook__",
    "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__reduce__", "__reduce_ex__", "__getstate__",
    "__setstate__", "__copy__", "__deepcopy__", "__getnewargs__", "__getnewargs_ex__", "__dict__", "__weakref__",
    "__module__", "__qualname__", "__name__", "__doc__", "__class__", "__slots__", "__annotations__", "__dir__",
    "__sizeof__", "__set_name__", "__match_args__", "__del__", "__hash__", "__repr__", "__str__", "__format__",
    "__abstractmethods__", "__orig_bases__", "__parameters__", "__static_attributes__", "__firstlineno__",
    "__dataclass_fields__", "__dataclass_params__",
})
# fmt: on
"""Names that are never forwarded: they make the class, or are answered by `Remote`."""
SHOWN = ("_repr_png_", "_repr_jpeg_")
"""What a notebook may show of a remote object besides text: pictures, never markup."""


class RemoteClass(type):
    """The type of remote classes."""

    __avlab_stands_for__ = True
    __avlab__: Kind

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> Any:
        base = next(b for b in bases if isinstance(b, RemoteClass))
        raise CannotBeRemote(
            f"{name} cannot extend the remote class {base.__name__} in a plain cell: its methods would run here. "
            "Put %%remote on the first line of this cell"
        )

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        kind = cls.__avlab__
        if abstract := getattr(cls, "__abstractmethods__", None):
            raise CannotBeRemote(f"{cls.__name__} is abstract: {', '.join(sorted(abstract))} must be defined first")
        arguments: Arguments = (args, kwargs)
        if kind.settings:
            arguments = (), bind_parameters(kind.original, args, kwargs)
        else:
            try:
                signature(kind).bind(*args, **kwargs)
            except TypeError as error:
                raise WrongArguments(f"{cls.__name__}(): {error}") from None
        return instance(cls, lambda: kind.home.instance(kind.original, arguments, kind.settings), args, kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        original = cls.__avlab__.original
        return isinstance(value, original) or issubclass(original_of(type(value)) or object, original)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.__avlab__.original)

    def __setattr__(cls, name: str, value: Any) -> None:
        if not (name.startswith("__") or name == "_abc_impl"):
            raise CannotBeRemote(
                f"{cls.__name__}.{name} cannot be set from here, because sessions have their own copy of the class: set it in "
                "the %%remote cell, or on an instance"
            )
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        raise CannotBeRemote(f"{cls.__name__}.{name} cannot be deleted from here: edit the %%remote cell")

    def __repr__(cls) -> str:
        return f"<remote class {cls.__module__}.{cls.__qualname__}>"


class RemoteABC(RemoteClass, abc.ABCMeta):
    """The type of remote classes whose original's type is ABCMeta."""

    def __subclasscheck__(cls, other: type) -> bool:
        # ABCMeta asks the subclasses of the original too, and this is one of them.
        asked: set[type] = vars(_asking).setdefault("asked", set())
        if cls in asked:
            return False
        asked.add(cls)
        try:
            return issubclass(other, cls.__avlab__.original)
        finally:
            asked.discard(cls)


class RemoteProtocol(RemoteABC, type(typing.Protocol)):  # type: ignore[misc]
    """The type of remote classes that are protocols or derive from one."""


_asking = threading.local()


def remote_class(original: type, home: Home) -> Any:
    """The remote class of ``original``, what stands for a value type, or ``original`` itself if that has no methods of its own.

    Raises CannotBeRemote for what would run here.
    """
    if is_value_type(original, home.sources):
        if not own_methods(original, home.sources):
            return original
        twin = exception_twin if issubclass(original, BaseException) else enum_twin if issubclass(original, enum.Enum) else tuple_twin
        return twin(original, home)
    kind = kind_of(original, home)
    namespace = _namespace(kind)
    kind.forwarded = frozenset(namespace)
    namespace |= {
        "__avlab__": kind,
        "__slots__": (STATE,) if original.__weakrefoffset__ else (STATE, "__weakref__"),
        "__signature__": _ClassSignature(),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    if "__annotations__" in vars(original):
        namespace["__annotations__"] = vars(original)["__annotations__"]
    meta: type[RemoteClass] = RemoteClass
    if isinstance(original, abc.ABCMeta):
        meta = RemoteABC if type(original) is abc.ABCMeta else RemoteProtocol
    make = abc.ABCMeta.__new__ if issubclass(meta, abc.ABCMeta) else type.__new__
    made = make(meta, original.__name__, (Remote, original), namespace)
    home.desk.stand(original, made)
    return made


def _namespace(kind: Kind) -> dict[str, Any]:
    found = defined(kind.original)
    namespace = {
        n: v for n, v in ((n, _forwarded(n, v, kind)) for n, v in found.items() if n not in HERE) if v is not None
    }
    if issubclass(kind.original, Node):
        for name in ("__rshift__", "__rrshift__", "on"):
            namespace.pop(name, None)
        namespace["on"] = _on
    for name in [n for n in namespace if n.startswith(("_repr_", "_ipython_")) and n not in SHOWN]:
        del namespace[name]
    hashing = inspect.getattr_static(kind.original, "__hash__")
    if hashing is not object.__hash__:
        namespace["__hash__"] = None if hashing is None else forwarder("__hash__", hashing, handle_of)
    if hasattr(kind.original, "__del__"):
        namespace["__del__"] = lambda self: None
    return namespace


def _forwarded(name: str, value: Any, kind: Kind) -> Any:
    """What stands for one attribute of the original; None to inherit it."""
    known = kind.home.desk.originals
    if isinstance(value, type):
        nested = value.__qualname__ == f"{kind.original.__qualname__}.{name}"
        if nested:
            return remote_class(value, kind.home)
        twin = kind.home.desk.standing(value)
        return _Elsewhere(name, twin if isinstance(twin, EnumTwin) else None) if value in known else None
    if type(value) in known:
        twin = kind.home.desk.standing(type(value))
        return _Elsewhere(name, twin(value.value) if isinstance(twin, EnumTwin) else None)
    if isinstance(value, classmethod | staticmethod):
        return Shared(name, value)
    if hasattr(value, "__get__"):
        method = callable(value) or isinstance(value, WRAPPED)
        return forwarder(name, value, handle_of) if method else attribute(name, value, handle_of)
    return Shared(name, value) if callable(value) else None


def _on(self: Any, config: Any) -> Any:
    raise CannotBeRemote(f"{type(self).__name__} is remote already: say where with %%remote --on URL")


class _Elsewhere:
    """A class attribute that holds a remote class, or an object that the class body made of one: it is no use here, except for a value
    that stands for it."""

    def __init__(self, name: str, value: Any) -> None:
        self._name, self._value = name, value

    def __get__(self, value: Any, owner: Any) -> Any:
        __tracebackhide__ = True
        if value is None:
            if self._value is not None:
                return self._value
            raise CannotBeRemote(
                f"{owner.__qualname__}.{self._name} would run here: use it inside of the %%remote cell"
            )
        return handle_of(value, self._name).call(value, "__getattribute__", (self._name,), {})


class _ClassSignature:
    """The signature of the class, which its instances do not have."""

    def __get__(self, value: Any, owner: Any) -> inspect.Signature:
        if value is not None:
            raise AttributeError("__signature__")
        return signature(owner.__avlab__)


def replaced(cls: Any) -> None:
    """A new edition of the class takes its name: end the session of its class methods."""
    if isinstance(cls, RemoteClass) and cls.__avlab__.shared is not None:
        cls.__avlab__.shared.close(f"{cls.__qualname__} was defined again")
