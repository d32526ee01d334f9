"""What crosses a session besides the object itself: arguments without a codec, dataclasses and enumerations that may come back."""

from __future__ import annotations

import functools
import io
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from avlab.core.errors import CodecError
from avlab.core.message import Buffer
from avlab.core.tree import class_name
from avlab.remote.construct import Construct, same
from avlab.remote.stand_ins import original_of


def pickle_argument(value: Any) -> tuple[bytes, Sequence[Buffer]]:
    """An argument for the worker, pickled with its large buffers beside it. Raises CodecError naming the type."""
    import pickle  # only those who send such arguments pay for it

    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    try:
        _pickler()(file, protocol=5, buffer_callback=buffers.append).dump(value)
    except Exception as error:  # noqa: BLE001  of whatever kind: objects have a say in how they are pickled
        raise CodecError(f"an argument of type {type(value).__qualname__} cannot travel: {error}") from None
    return file.getvalue(), [buffer.raw() for buffer in buffers]


@functools.cache
def _pickler() -> Any:
    import cloudpickle

    from avlab.remote import reductions

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            original = original_of(value)
            if original is not None:
                return same, (original,)
            reduction = reductions.unnamed(value)
            return reductions.whole(value, super().reducer_override(value)) if reduction is None else reduction

    return Pickler


def dataclasses_of(target: object) -> dict[str, type]:
    """The dataclasses and enumerations that an object's methods mention, by the name under which they travel: results may be of these."""
    found: dict[str, type] = {}
    if isinstance(target, Construct):
        for part in (target.cls, *target.args):
            if isinstance(part, type | types.FunctionType):
                found |= dataclasses_of(part)
        return found
    cls = target if isinstance(target, type | types.FunctionType) else type(target)
    functions = (
        [cls] if isinstance(cls, types.FunctionType) else [m for base in cls.__mro__ for m in vars(base).values()]
    )
    for function in functions:
        _add(function, found)  # a class within the class
        plain = getattr(function, "__func__", getattr(function, "fget", function))
        if isinstance(plain, types.FunctionType):
            for value in _mentioned(plain):
                _add(value, found)
    if isinstance(cls, type):
        _add(cls, found)
    return found


def _mentioned(function: types.FunctionType) -> Iterator[Any]:
    names = set(function.__code__.co_names)
    yield from (function.__globals__[name] for name in names if name in function.__globals__)
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # a name that nothing was bound to
            continue
        yield value
    for annotation in function.__annotations__.values():
        yield function.__globals__.get(annotation) if isinstance(annotation, str) else annotation


def _add(value: Any, found: dict[str, type]) -> None:
    for part in (value, *typing.get_args(value)):
        if not isinstance(part, type) or class_name(part) in found:
            continue
        if issubclass(part, Enum):
            found[class_name(part)] = part
        elif is_dataclass(part):
            found[class_name(part)] = part
            for field in fields(part):
                _add(field.type, found)
