"""Codecs ``numpy.ndarray`` and ``numpy.scalar``: any dtype without Python objects, bytes as they lie in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from avlab.core.arriving import Arriving, copy
from avlab.core.codec import Codec, Registry
from avlab.core.errors import CodecError
from avlab.core.message import Buffer
from avlab.media.codecs.meta import integers, pack, parse

# What dtype.str gives for dtypes without objects, among them datetime64 units such as <M8[25us].
_PLAIN = re.compile(r"[<>|][biufcmMSUV]\d{1,10}(\[\d{0,9}[A-Za-zμ]{1,3}\])?")
_NESTING = 16
_MOST_EMPTY = 1 << 16
_MAX_DIMENSION = (1 << 62) - 1


def register(registry: Registry) -> None:
    """Add the codecs of numpy (entry point ``numpy`` of ``avlab.codecs``)."""
    registry.register(Codec("numpy.ndarray", (np.ndarray,), encode_array, decode_array, follows=True))
    registry.register(Codec("numpy.scalar", (np.generic,), encode_scalar, decode_scalar))


def encode_array(array: Any) -> tuple[bytes, Sequence[Buffer]]:
    """Metadata and one view of the array's memory: no copy for C or Fortran order, one copy otherwise.

    Raises CodecError for dtypes that hold objects or are not numpy's own, and for subclasses (masked arrays, matrices).
    """
    if type(array) is not np.ndarray:
        kind = type(array)
        raise CodecError(f"a {kind.__module__}.{kind.__qualname__} cannot travel as it is: send numpy.asarray(…) of it")
    flags = array.flags
    if flags.f_contiguous and not flags.c_contiguous:
        return _layout(array.dtype, array.shape, "F"), [_bytes_of(array.T)]
    return _layout(array.dtype, array.shape, "C"), [_bytes_of(array)]


@lru_cache(maxsize=256)
def _layout(dtype: Any, shape: tuple[int, ...], order: str) -> bytes:
    """Metadata, made once for all arrays of a stream."""
    return pack({"dtype": _describe(dtype), "shape": shape, "order": order})


def decode_array(meta: bytes, buffers: Sequence[memoryview | Arriving]) -> Any:
    """A new, writable array that owns its memory. Raises CodecError when metadata and buffer disagree."""
    dtype, shape, order, size = _read_layout(meta)
    (source,) = buffers
    if size != source.nbytes:
        raise CodecError(f"{source.nbytes} bytes do not fill shape {shape} of {dtype.itemsize} bytes each")
    array = np.empty(shape, dtype, order=order)
    if size:
        copy(_bytes_of(array.T if order == "F" else array), source)
    return array


@lru_cache(maxsize=256)
def _read_layout(meta: bytes) -> tuple[Any, tuple[int, ...], Any, int]:
    """dtype, shape, order and bytes: checked once for all arrays of a stream."""
    fields = parse(meta)
    dtype = _dtype(fields["dtype"])
    shape = tuple(integers(fields["shape"], 0, _MAX_DIMENSION, "shape"))
    # Elements without bytes cost the sender nothing, and numpy gives empty text a byte each.
    if not dtype.itemsize and math.prod(shape) > _MOST_EMPTY:
        raise CodecError(f"shape {shape} of elements without bytes: the limit is {_MOST_EMPTY}")
    if fields["order"] not in ("C", "F"):
        raise CodecError("order is neither C nor F")
    return dtype, shape, fields["order"], math.prod(shape) * dtype.itemsize


def encode_scalar(value: Any) -> tuple[bytes, Sequence[Buffer]]:
    """Metadata and the scalar's bytes; text and bytes keep trailing NULs, which numpy's arrays would lose."""
    if isinstance(value, np.str_):
        return pack({"dtype": "str"}), [str.encode(value, "utf-8", "surrogatepass")]
    if isinstance(value, np.bytes_):
        return pack({"dtype": "bytes"}), [bytes(value)]
    array = np.asarray(value)
    return pack({"dtype": _describe(array.dtype)}), [_bytes_of(array)]


def decode_scalar(meta: bytes, buffers: Sequence[memoryview]) -> Any:
    """The scalar, of exactly the type that it had. Raises CodecError when metadata and buffer disagree."""
    name = parse(meta)["dtype"]
    (source,) = buffers
    if name == "str":
        return np.str_(bytes(source).decode("utf-8", "surrogatepass"))
    if name == "bytes":
        return np.bytes_(bytes(source))
    dtype = _dtype(name)
    if dtype.itemsize != source.nbytes:
        raise CodecError(f"{source.nbytes} bytes are not one {dtype}")
    array = np.empty((), dtype)
    if source.nbytes:
        np.frombuffer(_bytes_of(array), np.uint8)[:] = _octets(source)
    return array[()]


def _octets(source: memoryview) -> Any:
    if not source.c_contiguous:
        raise CodecError("a buffer is not contiguous")
    return np.frombuffer(source, np.uint8)


def _bytes_of(array: Any) -> memoryview:
    """The memory of an array, in C order, as bytes; a copy only when it is scattered."""
    if not array.nbytes:
        return memoryview(b"")
    if array.dtype == np.uint8 and array.flags.c_contiguous:  # pictures, by the short way
        return memoryview(array).cast("B")
    flat = array
    if not array.flags.c_contiguous:
        # Between the fields of a structured array, numpy's own copy would leave what this process had there before.
        flat = np.zeros(array.shape, array.dtype) if array.dtype.names else np.empty(array.shape, array.dtype)
        flat[...] = array
    view: memoryview = flat.reshape(-1).view(np.uint8).data
    return view


@lru_cache(maxsize=256)
def _describe(dtype: Any) -> Any:
    """A dtype as JSON: numpy's own descr (a string, or a list of fields). Raises CodecError for what it cannot say."""
    if dtype.hasobject:
        raise CodecError(
            f"an array of dtype {dtype} holds Python objects and cannot travel: convert it to a plain dtype"
        )
    try:
        descr = _listed(dtype.descr if dtype.names is not None else dtype.str)
        if _dtype(descr) == dtype:
            return descr
    except (ValueError, TypeError, CodecError) as error:
        raise CodecError(f"dtype {dtype} cannot travel: {error}") from error
    raise CodecError(f"dtype {dtype} cannot travel: use one of numpy's own, fields in order and without overlap")


def _listed(descr: Any) -> Any:
    return [_listed(part) for part in descr] if isinstance(descr, list | tuple) else descr


def _dtype(descr: Any) -> Any:
    """The dtype of a description. Nothing but numpy's own dtypes of plain bytes can come out."""
    return np.lib.format.descr_to_dtype(_checked(descr, 0))


def _checked(descr: Any, depth: int) -> Any:
    """The description with the tuples that numpy wants, after a look at every part of it."""
    if isinstance(descr, str):
        if not _PLAIN.fullmatch(descr):
            raise CodecError(f"{descr[:40]!r} is not a dtype that travels")
        return descr
    if not isinstance(descr, list) or depth > _NESTING:
        raise CodecError("the dtype is neither a string nor a list of fields")
    return [_field(field, depth) for field in descr]


def _field(field: Any, depth: int) -> tuple[Any, ...]:
    name, kind, *shape = field
    if isinstance(name, list):
        title, own = name
        name = (_text(title), _text(own))
    else:
        name = _text(name)
    if not shape:
        return name, _checked(kind, depth + 1)
    (dimensions,) = shape
    return name, _checked(kind, depth + 1), tuple(integers(dimensions, 0, (1 << 31) - 1, "shape of a field"))


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise CodecError("the name of a field is not text")
    return name
