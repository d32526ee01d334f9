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


_Kinds = tuple[type | tuple[type, ...], ...]
_TEXT: _Kinds = (str,)
_NUMBERS: _Kinds = (int, int, int)
_PARTS: dict[str, tuple[Callable[[Any], Sequence[Any]], _Kinds]] = {
    "fractions.Fraction": (lambda value: value.as_integer_ratio(), (int, int)),
    "decimal.Decimal": (_text, _TEXT),
    "datetime.datetime": (_iso, _TEXT),
    "datetime.date": (_iso, _TEXT),
    "datetime.time": (_iso, _TEXT),
    "datetime.timedelta": (lambda value: (value.days, value.seconds, value.microseconds), _NUMBERS),
    "uuid.UUID": (_text, _TEXT),
    "pathlib.PosixPath": (_text, _TEXT),
    "pathlib.WindowsPath": (_text, _TEXT),
    "pathlib.PurePosixPath": (_text, _TEXT),
    "pathlib.PureWindowsPath": (_text, _TEXT),
    "builtins.range": (_sides, _NUMBERS),
    "builtins.slice": (_sides, (object, object, object)),
    "builtins.ellipsis": (lambda value: (), ()),
    "collections.deque": (lambda value: (list(value), value.maxlen), (list, (int, type(None)))),
}
"""How each is taken apart, and what the parts must be: a fraction of the text "1e999999999", or a deque of a range, would fill
memory out of a few bytes."""
_NAMES = {"PosixPath": "Path", "WindowsPath": "Path", "ellipsis": "Ellipsis"}
"""What makes one here, where it is not the type itself."""


def taken_apart(value: Any) -> tuple[str, Sequence[Any]] | None:
    """The name of the value's type and the parts to make it of; None if it is not one of these types."""
    kind = type(value)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    known = _PARTS.get(name)
    return None if known is None else (name, known[0](value))


def put_together(name: Any, parts: Sequence[Any]) -> Any:
    """The value again; times keep their offset, not the name of their zone. Raises CodecError for a name that is none and for other
    parts, ValueError for parts that make none."""
    known = _PARTS.get(name) if isinstance(name, str) else None
    if known is None:
        raise CodecError(f"{str(name)[:40]!r} is no type that travels in parts")
    kinds = known[1]
    if len(parts) != len(kinds) or not all(map(isinstance, parts, kinds)):
        raise CodecError(f"a {name} is made of other parts")
    module, _, kind = name.partition(".")
    made = getattr(importlib.import_module(module), _NAMES.get(kind, kind))
    if made is Ellipsis:
        return made
    return made.fromisoformat(*parts) if hasattr(made, "fromisoformat") else made(*parts)
