"""Remote classes: made of an original, they look like it, and their instances live in sessions."""

from __future__ import annotations

import abc
import enum
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from avlab.core.node import Node, bind_parameters, parameters
from avlab.remote.construct import Construct

from .handle import Handle
from .home import Arguments, Home, SourceHome
from .operators import attribute, stub
from .proxy import STATE, Remote, handle_of
from .tracebacks import CannotBeRemote, WrongArguments

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
SHARED = "shared_"


@dataclass(slots=True)
class Kind:
    """What a remote class knows of itself. ``settings``: arguments are parameters, not those of an ``__init__``."""

    original: type
    home: Home
    settings: bool
    forwarded: frozenset[str] = frozenset()
    shared: Handle | None = None


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
                _signature(kind).bind(*args, **kwargs)
            except TypeError as error:
                raise WrongArguments(f"{cls.__name__}(): {error}") from None
        return _instance(cls, lambda: kind.home.instance(kind.original, arguments, kind.settings), args, kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.__avlab__.original)

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


def is_value_type(cls: type) -> bool:
    """Exceptions, enumerations, named tuples, typed dicts and protocols describe values; they stay what they are."""
    named = issubclass(cls, tuple) and hasattr(cls, "_fields")
    kinds = (BaseException, enum.Enum)
    return issubclass(cls, kinds) or named or typing.is_typeddict(cls) or getattr(cls, "_is_protocol", False)


def remote_class(original: type, home: Home) -> Any:
    """The remote class of ``original``, or ``original`` itself if it is a value type without methods of its own.

    Raises CannotBeRemote for classes that cannot be remote: those derived from built-in containers, or with a metaclass.
    """
    name = original.__qualname__
    if is_value_type(original):
        own = [
            n
            for n, v in vars(original).items()
            if isinstance(v, FunctionType) and v.__code__.co_filename in home.sources
        ]
        if own:
            raise CannotBeRemote(
                f"{name} is a value type with methods ({', '.join(own)}), which would run here: define it in a plain cell "
                "or a module, or drop the methods"
            )
        return original
    if type(original) not in (type, abc.ABCMeta):
        raise CannotBeRemote(
            f"{name} cannot be remote: its metaclass {type(original).__name__} would run here; remove it"
        )
    for base in original.__mro__[:-1]:
        if "__new__" in vars(base) and not isinstance(vars(base)["__new__"], staticmethod):
            raise CannotBeRemote(
                f"{name} cannot be remote: it derives from the built-in {base.__name__}, whose content would be empty here; "
                f"keep a {base.__name__} in an attribute instead"
            )
    constructor = inspect.getattr_static(original, "__init__")
    plain = constructor in (object.__init__, Node.__init__) and "__new__" not in _defined(original)
    kind = Kind(original, home, settings=plain)
    namespace = _namespace(kind)
    kind.forwarded = frozenset(namespace)
    slots = (STATE,) if original.__weakrefoffset__ else (STATE, "__weakref__")
    namespace |= {
        "__avlab__": kind,
        "__slots__": slots,
        "__signature__": _ClassSignature(),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": name,
    }
    meta, make = (RemoteABC, abc.ABCMeta.__new__) if isinstance(original, abc.ABCMeta) else (RemoteClass, type.__new__)
    return make(meta, original.__name__, (Remote, original), namespace)


def _defined(original: type) -> dict[str, Any]:
    """What the class and its bases, but not object, define."""
    found: dict[str, Any] = {}
    for base in reversed(original.__mro__[:-1]):
        found |= vars(base)
    return found


def _namespace(kind: Kind) -> dict[str, Any]:
    found = _defined(kind.original)
    namespace = {
        n: v for n, v in ((n, _forwarded(n, v, kind)) for n, v in found.items() if n not in HERE) if v is not None
    }
    if issubclass(kind.original, Node):
        for name in ("__rshift__", "__rrshift__", "on"):
            namespace.pop(name, None)
        namespace["on"] = _on
    for name in (
        "_repr_html_",
        "_repr_svg_",
        "_repr_javascript_",
        "_repr_latex_",
        "_repr_mimebundle_",
        "_ipython_display_",
    ):
        namespace.pop(name, None)
    hashing = inspect.getattr_static(kind.original, "__hash__")
    if hashing is not object.__hash__:
        namespace["__hash__"] = None if hashing is None else stub("__hash__", hashing, handle_of)
    if hasattr(kind.original, "__del__"):
        namespace["__del__"] = lambda self: None
    return namespace


def _forwarded(name: str, value: Any, kind: Kind) -> Any:
    """What stands for one attribute of the original; None to inherit it."""
    if isinstance(value, type):
        nested = value.__qualname__ == f"{kind.original.__qualname__}.{name}"
        return remote_class(value, kind.home) if nested else None
    if isinstance(value, classmethod | staticmethod):
        return _Shared(name, value)
    if hasattr(value, "__get__"):
        method = callable(value) or isinstance(value, functools.partialmethod)
        return stub(name, value, handle_of) if method else attribute(name, value, handle_of)
    return _Shared(name, value) if callable(value) else None


def _on(self: Any, config: Any) -> Any:
    raise CannotBeRemote(f"{type(self).__name__} is remote already: say where with %%remote --on URL")


class _Shared:
    """A class or static method: called on an instance it runs in its session, called on the class in the class's own."""

    def __init__(self, name: str, original: Any) -> None:
        self._function = getattr(original, "__func__", original)
        self._name = name
        self._instance = stub(name, self._function, handle_of)
        self._class = stub(SHARED + name, self._function, _shared_handle)
        self._class.__name__ = name
        self.__doc__ = getattr(original, "__doc__", None)

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
        return _instance(cls, lambda: Construct(maker, args, kwargs), args, kwargs)


def _shared_handle(cls: Any, name: str) -> Handle:
    kind: Kind = cls.__avlab__
    if isinstance(kind.home, SourceHome):
        raise CannotBeRemote(
            f"{cls.__qualname__}.{name.removeprefix(SHARED)}: its cell runs elsewhere; call it on an instance"
        )
    if kind.shared is None:
        original = kind.original
        names = [n for n in dir(cls) if isinstance(inspect.getattr_static(cls, n), _Shared)]
        target = SimpleNamespace(**{SHARED + n: getattr(original, n) for n in names})
        kind.shared = Handle(kind.home, original.__qualname__, f"{original.__qualname__} (class)", lambda: target)
        kind.home.desk.adopt(cls, kind.shared)
    return kind.shared


def _instance(cls: Any, make: Callable[[], object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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


class _ClassSignature:
    """The signature of the class, which its instances do not have."""

    def __get__(self, value: Any, owner: Any) -> inspect.Signature:
        if value is not None:
            raise AttributeError("__signature__")
        return _signature(owner.__avlab__)


def _signature(kind: Kind) -> inspect.Signature:
    if not kind.settings:
        return inspect.signature(kind.original)
    keyword = inspect.Parameter.KEYWORD_ONLY  # defaults may come before required ones
    found = parameters(kind.original).items()
    return inspect.Signature([inspect.Parameter(n, keyword, default=d, annotation=a) for n, (a, d) in found])


def replaced(cls: Any) -> None:
    """A new edition of the class takes its name: end the session of its class methods."""
    if isinstance(cls, RemoteClass) and cls.__avlab__.shared is not None:
        cls.__avlab__.shared.close(f"{cls.__qualname__} was defined again")
