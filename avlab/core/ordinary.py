"""Values of the standard library that travel by what they are made of: fractions, dates, paths, ranges and their like."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from avlab.core.errors import CodecError


def _text(value: Any) -> Sequence[Any]:
    return (str(value),)


def _iso(value: Any) -> Sequence[Any]:
    return (value.isoformat(),)


def _sides(value: Any) -> Sequence[Any]:
    return (value.start, value.stop, value.step)


_PARTS: dict[str, Callable[[Any], Sequence[Any]]] = {
    "fractions.Fraction": lambda value: value.as_integer_ratio(),
    "decimal.Decimal": _text,
    "datetime.datetime": _iso,
    "datetime.date": _iso,
    "datetime.time": _iso,
    "datetime.timedelta": lambda value: (value.days, value.seconds, value.microseconds),
    "uuid.UUID": _text,
    "pathlib.PosixPath": _text,
    "pathlib.WindowsPath": _text,
    "pathlib.PurePosixPath": _text,
    "pathlib.PureWindowsPath": _text,
    "builtins.range": _sides,
    "builtins.slice": _sides,
    "builtins.ellipsis": lambda value: (),
    "collections.deque": lambda value: (list(value), value.maxlen),
}
_NAMES = {"PosixPath": "Path", "WindowsPath": "Path", "ellipsis": "Ellipsis"}
"""What makes one here, where it is not the type itself."""
_HOLDERS = ("builtins.slice", "collections.deque")
_SCALARS = (type(None), int, str)


def taken_apart(value: Any) -> tuple[str, Sequence[Any]] | None:
    """The name of the value's type and the parts to make it of; None if it is not one of these types."""
    kind = type(value)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    parts = _PARTS.get(name)
    return None if parts is None else (name, parts(value))


def put_together(name: Any, parts: Sequence[Any]) -> Any:
    """The value again; times keep their offset, not the name of their zone. Raises CodecError for a name that is none, ValueError,
    TypeError for other parts."""
    if name not in _PARTS:
        raise CodecError(f"{str(name)[:40]!r} is no type that travels in parts")
    module, _, kind = name.partition(".")
    if name not in _HOLDERS and not all(type(part) in _SCALARS for part in parts):
        raise CodecError(f"a {name} is made of other parts")
    made = getattr(importlib.import_module(module), _NAMES.get(kind, kind))
    if made is Ellipsis:
        return made
    return made.fromisoformat(*parts) if hasattr(made, "fromisoformat") else made(*parts)
