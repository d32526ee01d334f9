"""Blobs of next to no bytes: their number is bounded, not only their bytes."""

import hashlib
import itertools
import tracemalloc

import pytest
from avlab_executor.blobs import BlobStore

from avlab.core.errors import BundleError
from avlab.core.message import Blob
from avlab.core.wire import MAX_NAMES


def tiny(numbers):
    for number in numbers:
        data = number.to_bytes(4, "big")
        yield Blob(hashlib.sha256(data).hexdigest(), data, 0, len(data))


def test_a_store_is_full_of_tiny_blobs_long_before_their_bytes_fill_it() -> None:
    store = BlobStore(capacity=1 << 20)
    tracemalloc.start()
    try:
        for begin in range(0, 10_000, 1000):
            store.put(tiny(range(begin, begin + 1000)))
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
    finally:
        tracemalloc.stop()
    assert 1000 < store.size // 4 < 2100


def test_a_stream_of_empty_blobs_ends() -> None:
    empty = Blob(hashlib.sha256(b"").hexdigest(), b"", 0, 0)
    taken = itertools.count()
    with pytest.raises(BundleError, match=f"more than {MAX_NAMES} blobs"):
        BlobStore().put(empty for _ in iter(lambda: next(taken), -1))
    assert next(taken) == MAX_NAMES + 1
