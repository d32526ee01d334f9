"""Codecs of plain values: scalars, bytes, containers, dataclasses, and (for locked workers only) pickles.

A container travels as JSON whose leaves are plain JSON values or tagged lists ``["tag", …]``; leaves with codecs of their
own (arrays, frames) keep their buffers. Nesting is bounded (64).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, MappingView, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from typing import Any
from weakref import ReferenceType

from avlab.core.alike import check_keys
from avlab.core.arriving import whole
from avlab.core.codec import Codec, Registry
from avlab.core.codec import registry as process_registry
from avlab.core.errors import CodecError
from avlab.core.message import Buffer, Received
from avlab.core.ordinary import put_together, taken_apart

MAX_DEPTH = 64
MAX_META = 64 << 20
MAX_PARTS = 1 << 21
"""Values within one value: each costs its reader some 70 bytes, however short it is on the wire."""
MAX_WORK = 1 << 24
"""Comparisons of keys of one hash, within one value, where keys are made of others."""
_PIECE = 8  # comparisons that a piece of a path costs its reader: it is kept as text of its own
MAX_MEMBERS = 1 << 16
"""Combinations of the members of one Flag: the class keeps each that was ever made."""
SHORT = 2 << 10
PLAIN = (type(None), bool, int, float, str)
CONTAINERS = (list, tuple, dict, set, frozenset, complex)

_dumps = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Values:
    """Encodes and decodes any value for one session.

    ``classes``: dataclasses and enumerations that may be made when decoding, by `class_name`; others are refused with CodecError.
    ``pickle``: ``dumps(value) -> (bytes, buffers)`` for values without a codec on the
    way into a worker (dataclasses too: their class travels with them); ``unpickle``: the reverse, set only inside a locked worker or by explicit trust.
    ``itself``: the session's own object (or a weak reference to what stands for it), which travels as a reference (``return self``).
    """

    def __init__(
        self,
        *,
        classes: Mapping[str, type] | None = None,
        pickle: Callable[[Any], tuple[bytes, Sequence[Buffer]]] | None = None,
        unpickle: Callable[[bytes, Sequence[memoryview]], Any] | None = None,
        itself: Any = None,
        registry: Registry = process_registry,
    ) -> None:
        self.classes = dict(classes or {})
        self._itself = itself
        self._pickle, self._unpickle, self._registry = pickle, unpickle, registry

    @property
    def itself(self) -> Any:
        return self._itself() if isinstance(self._itself, ReferenceType) else self._itself

    @itself.setter
    def itself(self, value: Any) -> None:
        self._itself = value

    def encode(self, value: Any) -> tuple[str, bytes, Sequence[Buffer]]:
        """Codec name, metadata, buffers. Raises CodecError naming the type that cannot travel."""
        kind = type(value)
        if kind in PLAIN:
            return _as_json("json", value, [])
        if kind is bytes:
            return "bytes", b"", (value,)
        if (
            kind in CONTAINERS
            or (self._pickle is None and is_dataclass(kind))
            or (value is self.itself and value is not None)
            or value is NotImplemented
        ):
            buffers: list[Buffer] = []
            return _as_json("tree", self._shrink(value, buffers, 0), buffers)
        if self._registry.find(kind) is None:
            if isinstance(value, bytearray | memoryview):
                scattered = isinstance(value, memoryview) and not value.c_contiguous
                return "bytes", b"", (bytes(value) if scattered else value,)
            if self._pickle is None and (_base(value) is not kind or isinstance(value, Enum) or taken_apart(value)):
                buffers = []
                return _as_json("tree", self._shrink(value, buffers, 0), buffers)
            if self._pickle is not None:
                data, out_of_band = self._pickle(value)
                return "pickle", b"", (data, *out_of_band)
        return self._registry.encode(value)

    def decode(self, codec: str, meta: bytes, buffers: Sequence[Received]) -> Any:
        """The value. Raises CodecError; never runs code of the value unless unpickling was allowed."""
        if codec == "json":
            text = meta if meta else bytes(whole(buffers[-1])) if buffers else b""
            if _CONTAINER.match(text):
                raise CodecError("codec 'json' is for one plain value, not for a container")
            return _parse(text)
        if codec == "bytes":
            if len(buffers) != 1:
                raise CodecError("codec 'bytes' needs one buffer")
            return bytes(whole(buffers[0]))
        if codec == "pickle":
            views = [whole(b) for b in buffers]
            if self._unpickle is None:
                raise CodecError(
                    "the worker answered with a pickled object, which is not loaded outside of a sandbox: return plain "
                    "data, arrays, frames or a dataclass"
                )
            if not views:
                raise CodecError("codec 'pickle' needs a buffer")
            return self._unpickle(bytes(views[0]), views[1:])
        if codec == "tree":
            try:
                text = meta if meta else bytes(whole(buffers[-1]))
                _check_parts(text)
                return self._grow(_parse(text), _Leaves(buffers if meta else buffers[:-1]), 0)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
                raise CodecError(f"codec 'tree': {error}") from error
        return self._registry.decode(codec, meta, buffers)

    def _shrink(self, value: Any, buffers: list[Buffer], depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CodecError(f"a value is nested deeper than {MAX_DEPTH} levels (or contains itself)")
        kind: Any = type(value)
        if isinstance(value, Enum) and self._pickle is None:
            plain: Any = int if isinstance(value, Flag) else _base(value)
            return ["enum", class_name(kind), value.name, plain(value.value) if plain in PLAIN else None]
        if kind not in PLAIN and kind not in CONTAINERS and self._pickle is None and self._registry.find(kind) is None:
            kind = _base(value)
        down = depth + 1
        if kind in PLAIN:
            return value if type(value) is kind else _EXACT[kind](value)
        if value is self.itself:
            return ["self"]
        if value is NotImplemented:
            return ["NotImplemented"]
        if kind is list:
            return ["list", *[self._shrink(v, buffers, down) for v in value]]
        if kind is dict:
            if all(type(k) is str for k in value):
                return {k: self._shrink(v, buffers, down) for k, v in value.items()}
            pairs = [x for k, v in value.items() for x in (k, v)]
            return ["dict", *[self._shrink(v, buffers, down) for v in pairs]]
        if kind in (tuple, set, frozenset):
            return [kind.__name__, *[self._shrink(v, buffers, down) for v in value]]
        if kind is complex:
            return ["complex", value.real, value.imag]
        if is_dataclass(kind) and self._pickle is None:
            name = class_name(kind)
            try:
                state = {f.name: getattr(value, f.name) for f in fields(value)}
            except AttributeError as error:
                raise CodecError(f"dataclass {name} lacks the value of a field: {error}") from None
            return ["dataclass", name, {k: self._shrink(v, buffers, down) for k, v in state.items()}]
        if self._pickle is None and (apart := taken_apart(value)):
            return ["made", apart[0], *[self._shrink(v, buffers, down) for v in apart[1]]]
        codec, meta, own = self.encode(value)
        start = len(buffers)
        buffers.extend(own)
        return ["leaf", codec, meta.decode("latin-1"), start, len(own)]

    def _grow(self, node: Any, leaves: _Leaves, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CodecError(f"nested deeper than {MAX_DEPTH} levels")
        down = depth + 1
        if isinstance(node, dict):
            return {k: self._grow(v, leaves, down) for k, v in node.items()}
        if not isinstance(node, list):
            return node
        tag, *rest = node
        if tag == "leaf":
            codec, meta, start, count = rest
            if codec == "tree":
                raise CodecError("a tree as the leaf of a tree")
            return self.decode(codec, meta.encode("latin-1"), leaves.take(start, count))
        if tag == "complex":
            real, imaginary = rest
            return complex(real, imaginary)
        if tag == "self":
            return self.itself
        if tag == "NotImplemented":
            return NotImplemented
        if tag == "enum":
            return self._member(*rest)
        if tag == "dataclass":
            name, state = rest
            cls = self.classes.get(name)
            if cls is None or issubclass(cls, Enum):
                raise CodecError(f"dataclass {name[:80]!r} is not known to this session")
            return _make(cls, {k: self._grow(v, leaves, down) for k, v in state.items()})
        if tag == "made":
            name, *rest = rest
            parts = [self._grow(v, leaves, down) for v in rest]
            leaves.spend(sum(_PIECE * (part.count("/") + part.count("\\")) for part in parts if type(part) is str))
            return put_together(name, parts)
        children = [self._grow(v, leaves, down) for v in rest]
        if tag == "dict":
            keys = children[::2]
            check_keys(keys, leaves.spend)
            return dict(zip(keys, children[1::2], strict=True))
        if tag in ("set", "frozenset"):
            check_keys(children, leaves.spend)
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[tag](children)

    def _member(self, name: Any, member: Any, plain: Any) -> Any:
        """A member of an enumeration that this session knows; of another one that is also a number or text, that."""
        if type(plain) not in PLAIN:
            raise CodecError(f"enumeration {str(name)[:80]!r}: its plain value is a {type(plain).__name__}")
        cls: Any = self.classes.get(name)
        if cls is None or not issubclass(cls, Enum):
            if plain is None:
                raise CodecError(f"enumeration {str(name)[:80]!r} is not known to this session: name it in an annotation")
            return plain
        if not issubclass(cls, Flag):
            return cls[member]
        known = cls._value2member_map_
        if plain not in known and len(known) >= MAX_MEMBERS:
            raise CodecError(f"enumeration {name!r}: more than {MAX_MEMBERS} combinations of its members")
        return cls(plain)


class _Leaves:
    """The buffers of a tree, and what making it may still cost. Each buffer is taken once, in order: a few bytes that name one many
    times must not fill memory."""

    def __init__(self, views: Sequence[Received]) -> None:
        self._views, self._taken = views, 0
        self._left = MAX_WORK

    def take(self, start: int, count: int) -> Sequence[Received]:
        if start != self._taken or not 0 <= count <= len(self._views) - start:
            raise CodecError("buffer numbers out of order")
        self._taken += count
        return self._views[start : start + count]

    def spend(self, work: int) -> None:
        """Raises CodecError when more was spent than a value may cost."""
        self._left -= work
        if self._left < 0:
            raise CodecError("it takes too long to make: too many keys of one hash, or pieces of paths")


_EXACT: dict[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, str: str.__str__}
"""Plain values out of derived ones, whatever conversions their classes define."""


def _make(cls: type, state: dict[str, Any]) -> Any:
    """A dataclass instance without running its __init__ (it was validated where it was made)."""
    if state.keys() != {f.name for f in fields(cls)}:
        raise CodecError(f"fields of dataclass {cls.__qualname__} differ between the two sides")
    instance: Any = object.__new__(cls)
    for name, value in state.items():
        object.__setattr__(instance, name, value)
    return instance


def _as_json(codec: str, value: Any, buffers: list[Buffer]) -> tuple[str, bytes, Sequence[Buffer]]:
    """JSON in the metadata while it is short, otherwise as the last buffer: headers stay small on every link."""
    try:
        text = _dumps(value).encode()
    except ValueError as error:  # integers of thousands of digits
        raise CodecError(f"a value cannot be written as JSON: {error}") from None
    if codec == "tree":
        _check_parts(text)
    return (codec, text, buffers) if len(text) <= SHORT else (codec, b"", [*buffers, text])


# Also a text that never ends, and without a way back: what matches from each of its quotes anew takes hours.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONTAINER = re.compile(rb"[ \t\r\n]*[\[{]")


def _check_parts(text: bytes) -> None:
    """Raise CodecError for JSON of more than MAX_PARTS values."""
    if len(text) > MAX_PARTS and _parts(text) > MAX_PARTS and _parts(_TEXT.sub(b"", text)) > MAX_PARTS:
        raise CodecError(f"a value of more than {MAX_PARTS} parts cannot travel: send it as an array or as bytes")


def _parts(text: bytes) -> int:
    return sum(map(text.count, (b",", b"[", b"{")))


def _parse(meta: bytes) -> Any:
    if len(meta) > MAX_META:
        raise CodecError(f"{len(meta)} bytes of metadata; the limit is {MAX_META}")
    try:
        return json.loads(meta.decode())  # of bytes it would take UTF-16 too, in which parts cannot be counted
    except (ValueError, RecursionError) as error:
        raise CodecError(f"metadata is not JSON: {error}") from error


def _base(value: Any) -> type:
    """The plain or container type that a value is or derives from (a named tuple is a tuple, the keys of a dict a list), else its
    own type."""
    kind = type(value)
    if kind in PLAIN or kind in CONTAINERS:
        return kind
    plain = next((base for base in (bool, int, float, str, *CONTAINERS) if issubclass(kind, base)), kind)
    return list if plain is kind and issubclass(kind, MappingView) else plain


def class_name(cls: Any) -> str:
    """The name under which a dataclass travels."""
    return f"{cls.__module__}:{cls.__qualname__}"


__all__ = ["MAX_DEPTH", "Codec", "Values", "class_name"]
