"""Value classes with methods of the cell's own: their values are used here like others, their methods run in remote code only."""

from __future__ import annotations

import collections
import enum
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from avlab.remote.construct import restored
from avlab.remote.stand_ins import original_of

from .kinds import Kind, defined, own_methods
from .proxy import is_dunder
from .tracebacks import CannotBeRemote

if TYPE_CHECKING:
    from .home import Home

_MADE_HERE = {"__init__", "__new__", "__new_member__", "_new_member_", "_generate_next_value_"}
"""Methods of an enumeration that had their say when the cell ran."""
_COMPARISONS = {"__eq__", "__lt__", "__le__", "__gt__", "__ge__"}
# fmt: off
_INSTEAD = {
    "__repr__", "__del__", "__dir__", "__sizeof__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
    "__getnewargs_ex__", "__getattribute__", "__copy__", "__deepcopy__", "__init_subclass__",
}
"""Methods in whose place Python's own are good enough: values are shown, copied and sent by what they hold."""
_OF_DATACLASSES = {
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__init__", "__repr__", "__hash__", "__setattr__", "__delattr__",
    *_COMPARISONS,
}
# fmt: on


class ValueTwin(type):
    """The type of what stands here for a value class."""

    __avlab_stands_for__ = True
    __avlab__: Kind

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        raise CannotBeRemote(
            f"{name} cannot extend {bases[0].__name__} in a plain cell: its methods would run here. Put %%remote on the first line of "
            "this cell"
        )


class EnumTwin(enum.EnumMeta):
    """The type of what stands here for an enumeration."""

    __avlab_stands_for__ = True
    __avlab__: Kind


class _OverThere:
    """In the place of a method that would run here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, value: Any, owner: Any) -> Any:
        raise CannotBeRemote(
            f"{self._name} exists in remote code only, because it would run here: use it inside of the %%remote cell, or define the class "
            "in a plain cell or a module"
        )


def enum_twin(original: Any, home: Home) -> Any:
    """An enumeration of the same members. Raises CannotBeRemote if its members are more than their values."""
    base = next(b for b in original.__mro__ if b.__module__ == "enum")
    data: type = original._member_type_
    bases = (base,) if issubclass(base, data) else (data, base)
    if data.__module__ != "builtins" or (data is not object and any(data(m.value) != m for m in original)):
        raise CannotBeRemote(
            f"{original.__qualname__} cannot be remote: its members are made by code of its own; define it in a plain cell or a module"
        )
    namespace = EnumTwin.__prepare__(original.__name__, bases)
    for name, value in _about(original, home).items():
        namespace[name] = value
    for name, member in original.__members__.items():
        namespace[name] = member.value
    options = {"boundary": original._boundary_} if issubclass(original, enum.Flag) else {}
    made: Any = EnumTwin.__new__(EnumTwin, original.__name__, bases, namespace, **options)
    for name, method in _methods(original, home).items():
        if name not in _MADE_HERE:
            setattr(made, name, method)
    for member in original:
        more = vars(member).keys() - vars(made[member.name]).keys()
        vars(made[member.name]).update({name: vars(member)[name] for name in more if not callable(vars(member)[name])})
    home.desk.stand(original, made)
    return made


def tuple_twin(original: Any, home: Home) -> Any:
    """A named tuple of the same fields and defaults."""
    given = [original._field_defaults[n] for n in original._fields if n in original._field_defaults]
    plain = collections.namedtuple(original.__name__, original._fields, defaults=given)  # type: ignore[misc]
    made = _made(original, home, (plain,), {"__slots__": ()})
    home.desk.stand(original, made)
    return made


def value_of(cls: Any, home: Home) -> Any:
    """The class that values of ``cls`` have here which come back from a session."""
    original = original_of(cls)
    if original is None:
        if (known := home.desk.standing(cls)) is not None:
            return value_of(known, home)
        if not own_methods(cls, home.sources):
            return cls
        return enum_twin(cls, home) if issubclass(cls, enum.Enum) else _dataclass_twin(cls, home)
    if issubclass(original, enum.Enum) or not is_dataclass(original):
        return cls
    kind: Kind = cls.__avlab__
    kind.values = kind.values or _dataclass_twin(original, home)
    return kind.values


def _dataclass_twin(original: Any, home: Home) -> Any:
    own = own_methods(original, home.sources)
    kept = {name: value for name, value in defined(original).items() if name in _OF_DATACLASSES and name not in own}
    return _made(original, home, (), {"__repr__": _shown} | kept | {"__reduce_ex__": _reduced})


def _shown(self: Any) -> str:
    held = ", ".join(f"{f.name}={object.__getattribute__(self, f.name)!r}" for f in fields(self))
    return f"{type(self).__qualname__}({held})"


def _reduced(self: Any, protocol: object) -> Any:
    return restored, (type(self), {f.name: object.__getattribute__(self, f.name) for f in fields(self)})


def _made(original: Any, home: Home, bases: tuple[type, ...], kept: dict[str, Any]) -> Any:
    namespace = kept | _methods(original, home) | _about(original, home)
    return type.__new__(ValueTwin, original.__name__, bases, namespace)


def _about(original: Any, home: Home) -> dict[str, Any]:
    return {
        "__avlab__": Kind(original, home, settings=False),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }


def _methods(original: Any, home: Home) -> dict[str, Any]:
    own = [name for name in own_methods(original, home.sources) if name not in _INSTEAD]
    return {name: _over_there(f"{original.__qualname__}.{name}") for name in own}


def _over_there(name: str) -> Any:
    missing = _OverThere(name)
    if not is_dunder(name.rpartition(".")[2]):
        return missing

    def refuse(*given: Any, **_: Any) -> Any:  # of a comparison that cannot be got Python takes another
        if name.endswith(".__getattr__") and is_dunder(given[1]):
            raise AttributeError(given[1])
        missing.__get__(None, None)

    return refuse
