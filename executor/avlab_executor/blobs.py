"""The server's store of blobs: content-addressed, in memory, bounded."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from avlab.core.errors import AvlabError, BundleError, Denied
from avlab.core.message import Blob
from avlab.core.wire import MAX_NAMES

DEFAULT_BYTES = 1 << 30
MAX_BLOB = 256 << 20
_OWN = 512  # bytes that a blob costs besides its content: many tiny ones must not fill memory either


class BlobStore:
    """sha256 → bytes; the least recently used go when ``capacity`` bytes are exceeded. Thread-safe.

    What arrives at one time may not exceed the capacity either: ``refuse`` makes the error.
    """

    def __init__(self, capacity: int = DEFAULT_BYTES, refuse: Callable[[], AvlabError] | None = None) -> None:
        self._capacity, self._size, self._arriving = capacity, 0, 0
        self._refuse = refuse or (lambda: Denied(f"more than {capacity} bytes of bundles arrive at once"))
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._size

    def held(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are here; they count as used now."""
        with self._lock:
            here = [name for name in names if name in self._blobs]
            for name in here:
                self._blobs.move_to_end(name)
            return here

    def put(self, parts: Iterable[Blob]) -> list[str]:
        """Take blobs in parts, each blob's in order. Raises BundleError when content and name do not agree, and Denied for more
        than fits."""
        complete: list[str] = []
        name, size, data = "", 0, bytearray()
        reserved = 0
        try:
            for part in parts:
                if part.offset == 0:
                    name, size, data = part.name, part.size, bytearray()
                if (
                    part.name != name
                    or part.offset != len(data)
                    or size > MAX_BLOB
                    or len(data) + len(part.data) > size
                ):
                    raise BundleError(f"blob {part.name[:12]!r} arrives in disorder or exceeds {MAX_BLOB} bytes")
                reserved += self._reserve(len(part.data))
                data += part.data
                if len(data) == size:
                    self._add(name, bytes(data))
                    complete.append(name)
                    if len(complete) > MAX_NAMES:
                        raise BundleError(f"more than {MAX_NAMES} blobs at once: no bundle needs as many")
        finally:
            self._reserve(-reserved)
        return complete

    def _reserve(self, size: int) -> int:
        with self._lock:
            if size > 0 and self._arriving + size > self._capacity:
                raise self._refuse()
            self._arriving += size
        return size

    def _add(self, name: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != name:
            raise BundleError(f"blob {name[:12]!r} does not have the content that its name says")
        with self._lock:
            if name not in self._blobs:
                self._blobs[name] = data
                self._size += len(data)
            while self._size + len(self._blobs) * _OWN > self._capacity and len(self._blobs) > 1:
                self._size -= len(self._blobs.popitem(last=False)[1])

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content of each name. Raises BundleError for one that is not here."""
        with self._lock:
            found = {name: self._blobs[name] for name in names if name in self._blobs}
        missing = [name for name in names if name not in found]
        if missing:
            raise BundleError(f"blob {missing[0][:12]!r} is not here: send it first")
        return found
