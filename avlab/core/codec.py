"""The codec registry: value ⇄ (codec name, small metadata, raw buffers). One registry for every link.

A codec's name starts with the library that it needs (``numpy.ndarray``, ``av.VideoFrame``); the registry loads the entry
point of that name from the group ``avlab.codecs`` when a type or a name of it first appears, so that importing avlab
imports no heavy library. Containers, dataclasses and pickles are in avlab.core.tree.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from avlab.core.arriving import Arriving, whole
from avlab.core.errors import CodecError
from avlab.core.message import Buffer, Received
from avlab.core.points import points

Encoded = tuple[str, bytes, Sequence[Buffer]]
Encode = Callable[[Any], tuple[bytes, Sequence[Buffer]]]
Decode = Callable[[bytes, Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of ``types`` travel.

    ``encode(value)`` gives metadata (JSON bytes by custom, at most 64 kB) and buffers, which may be views of the value's own
    memory. ``decode(meta, buffers)`` gives a value that owns its memory: it copies, because the buffers are used again, and
    it validates sizes, shapes and types before it allocates. It raises CodecError (ValueError, KeyError and TypeError
    count as such) for anything that ``encode`` could not have made. Its buffers are memoryviews; of a codec that
    ``follows`` they may also be `Arriving`, to be copied by `avlab.core.arriving.copy`.
    """

    name: str
    types: tuple[type, ...]
    encode: Encode
    decode: Decode
    follows: bool = False


class Registry:
    """Codecs by type (exact first, then by base class) and by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Codec] = {}
        self._by_type: dict[type, Codec | None] = {}
        self._unloaded: list[EntryPoint] | None = None
        self._loading = threading.RLock()

    def register(self, codec: Codec) -> None:
        """Add a codec; the newest wins for a type. Raises CodecError for a name that is taken by another codec."""
        if self._by_name.setdefault(codec.name, codec) is not codec:
            raise CodecError(f"a codec named {codec.name!r} is registered already")
        self._by_type = {t: c for t, c in self._by_type.items() if c is not None and t in c.types}
        for cls in codec.types:
            self._by_type[cls] = codec

    def find(self, cls: type) -> Codec | None:
        """The codec for values of this class, or None."""
        try:
            return self._by_type[cls]
        except KeyError:
            pass
        for base in cls.__mro__[:-1]:
            self._load(base.__module__.partition(".")[0])
        found = next((self._by_type[base] for base in cls.__mro__ if self._by_type.get(base)), None)
        self._by_type[cls] = found
        return found

    def encode(self, value: Any) -> Encoded:
        """Codec name, metadata and buffers of a value. Raises CodecError when it has no codec."""
        codec = self.find(type(value))
        if codec is None:
            raise CodecError(
                f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot travel: use arrays, frames, "
                "bytes, text, numbers, lists, dicts or dataclasses, or register a codec"
            )
        meta, buffers = codec.encode(value)
        return codec.name, meta, buffers

    def decode(self, name: str, meta: bytes, buffers: Sequence[Received]) -> Any:
        """The value; it owns its memory. Raises CodecError naming the codec."""
        codec = self._by_name.get(name)
        if codec is None:
            self._load(name.partition(".")[0])
            codec = self._by_name.get(name)
            if codec is None:
                raise CodecError(f"unknown codec {name[:80]!r}: is the package that registers it installed here?")
        try:
            return codec.decode(meta, [b if codec.follows and isinstance(b, Arriving) else whole(b) for b in buffers])
        except CodecError:
            raise
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise CodecError(f"codec {name!r}: {error}") from error

    def load_all(self) -> None:
        """Load every codec that is installed, for processes that are forked from this one."""
        for point in points("avlab.codecs"):
            self._load(point.name)

    def _load(self, library: str) -> None:
        with self._loading:  # who comes second waits until the codecs are there
            if self._unloaded is None:
                self._unloaded = list(points("avlab.codecs"))
            for point in [point for point in self._unloaded if point.name == library]:
                importlib.import_module(point.value).register(self)
                self._unloaded.remove(point)  # not before: an import that was interrupted is made again


registry = Registry()
"""The process-wide registry."""
