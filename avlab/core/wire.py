"""Messages ⇄ bytes of protos/avlab/v1/executor.proto. Sans-IO: nothing here reads or writes a socket.

The raw buffers of an item never pass through protobuf: the header is serialised, then tag, length and the buffers
themselves follow as the last field; on the way in the payload is sliced out and the rest parsed. Every message is written
as one element of `Batch.messages`, so a byte stream is one endless Batch and a packet is one Batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from google.protobuf.message import DecodeError

import avlab._pb as pb
from avlab.core.errors import CodecError, ItemTooLarge
from avlab.core.headers import (
    FIELDS,
    ITEM_FIELD,
    MAX_BUFFERS,
    MAX_ENTRIES,
    from_proto,
    item_from_proto,
    item_to_proto,
    to_proto,
)
from avlab.core.message import MAX_ITEM, Blob, Buffer, ItemMessage, Log, Message, Signal

MAX_HEADER = 1 << 20
MAX_MESSAGE = MAX_ITEM + MAX_HEADER
MAX_NAMES = 2 * MAX_ENTRIES + 1  # of all blobs that a bundle can need
_BATCH_TAG, _PAYLOAD_TAG = 0x0A, 0x7A
_LARGE = (ITEM_FIELD, 6, 11)  # items, logs (pictures), blobs
_CLASSES = {number: (cls, proto) for cls, (number, proto) in FIELDS.items()}


def encode(message: Message, *, inline: bool = True) -> list[Buffer]:
    """The bytes of one message as a list of buffers (a header, then the raw buffers as they are, uncopied).

    ``inline=False`` leaves the buffers out: the message's ``slot`` says where they lie. Raises ItemTooLarge, and CodecError
    for a field that does not fit the format.
    """
    buffers: Sequence[Buffer] = ()
    try:
        body = (item_to_proto(message) if type(message) is ItemMessage else to_proto(message)).SerializeToString()
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise CodecError(f"a field of this {type(message).__name__} cannot be written: {error}") from None
    if type(message) is ItemMessage:
        buffers = cast(Sequence[Buffer], message.buffers)  # what is sent is complete
        size = message.nbytes
        if len(buffers) > MAX_BUFFERS:
            raise ItemTooLarge(
                f"an item of {len(buffers)} buffers exceeds the limit of {MAX_BUFFERS}: use fewer, larger ones"
            )
        if size > MAX_ITEM:
            raise ItemTooLarge(
                f"an item of {size} bytes exceeds the limit of {MAX_ITEM} bytes (64 MiB): send smaller items"
            )
        if len(body) > MAX_HEADER:
            raise ItemTooLarge(f"an item with {len(body)} bytes of metadata exceeds the limit of {MAX_HEADER} bytes")
        if not inline:
            buffers, size = (), 0
    else:
        data = message.data if isinstance(message, Blob | Log | Signal) else b""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        buffers = (data,) if size else ()
        most = MAX_ITEM if FIELDS[type(message)][0] in _LARGE else MAX_HEADER
        if len(body) > MAX_HEADER or size > most:
            raise ItemTooLarge(
                f"{type(message).__name__} with {len(body)} bytes of header and {size} of data exceeds the limit of "
                f"{MAX_HEADER} and {most} bytes"
            )
    head = _ONE_BYTE[FIELDS[type(message)][0] << 3 | 2] + _varint(len(body))
    tail = _ONE_BYTE[_PAYLOAD_TAG] + _varint(size) if size else b""
    total = len(head) + len(body) + len(tail) + size
    return [_ONE_BYTE[_BATCH_TAG] + _varint(total) + head + body + tail, *buffers]


def encode_batch(messages: Iterable[Message]) -> bytes:
    """One Batch with these messages."""
    return b"".join(part for message in messages for part in encode(message))


def encode_names(names: Iterable[str]) -> bytes:
    """BlobNames: the request and reply of HasBlobs and PutBlobs."""
    data: bytes = pb.BlobNames(names=list(names)).SerializeToString()
    return data


def decode_names(data: bytes) -> list[str]:
    """Names from BlobNames. Raises CodecError."""
    if len(data) > MAX_NAMES * 256:
        raise CodecError(f"BlobNames of {len(data)} bytes exceed the limit of {MAX_NAMES * 256} bytes")
    try:
        names = pb.BlobNames.FromString(data).names
    except DecodeError as error:
        raise CodecError(f"malformed BlobNames: {error}") from None
    if len(names) > MAX_NAMES:
        raise CodecError(f"{len(names)} names of blobs exceed the limit of {MAX_NAMES}")
    return list(names)


class Decoder:
    """Bytes in any pieces → messages. Memory is bounded by one message; anything malformed raises CodecError."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._max = max_message
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: Buffer) -> list[Message]:
        """The messages that are complete now, in order. Their buffers are independent of ``data``."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data, self._rest = self._rest, bytearray()
        view = memoryview(bytes(data))
        messages: list[Message] = []
        position, end = 0, len(view)
        while position < end:
            if view[position] != _BATCH_TAG:
                raise CodecError(f"byte {view[position]:#x} where a message should begin")
            try:
                size, begin = _read_varint(view, position + 1)
            except IndexError:
                self._needed = 0
                break
            if size > self._max:
                raise ItemTooLarge(f"a message of {size} bytes exceeds the limit of {self._max} bytes")
            if begin + size > end:
                self._needed = begin - position + size
                break
            messages.append(_parse(view[begin : begin + size]))
            position = begin + size
        if position < end:
            self._rest += view[position:]
        return messages


def decode_batch(data: Buffer, max_message: int = MAX_MESSAGE) -> Iterator[Message]:
    """The messages of one complete Batch, one at a time; item buffers are views of ``data``. Raises CodecError."""
    view, position = memoryview(data), 0
    while position < len(view):
        if view[position] != _BATCH_TAG:
            raise CodecError(f"byte {view[position]:#x} where a message should begin")
        try:
            size, begin = _read_varint(view, position + 1)
        except IndexError:
            raise CodecError("a batch ends inside a length") from None
        position = begin + size
        if size > max_message:
            raise ItemTooLarge(f"a message of {size} bytes exceeds the limit of {max_message} bytes")
        if position > len(view):
            raise CodecError("a batch ends inside a message")
        yield _parse(view[begin:position])


def _parse(view: memoryview) -> Message:
    """One Message: its single kind field and the payload, in whatever order a foreign writer put them."""
    position, number, body, payload, total = 0, 0, view[:0], view[:0], len(view)
    try:
        while position < total:
            tag = view[position]
            position += 1
            size, position = _read_varint(view, position)
            end = position + size
            if end > total:
                raise CodecError("a field reaches past the end of its message")
            if tag == _PAYLOAD_TAG:
                payload = view[position:end]
            elif number:
                raise CodecError("a message of two kinds")
            elif tag & 0x87 != 2 or tag < 8:
                raise CodecError(f"byte {tag:#x} where a field of a message should begin")
            else:
                number, body = tag >> 3, view[position:end]
            position = end
    except IndexError:
        raise CodecError("a message ends inside a field") from None
    known = _CLASSES.get(number)
    if known is None:
        raise CodecError(f"unknown kind of message {number}")
    if len(body) > MAX_HEADER or (number not in _LARGE and len(payload) > MAX_HEADER):
        raise CodecError(f"a header of {len(body)} bytes exceeds the limit of {MAX_HEADER} bytes")
    cls, proto = known
    try:
        parsed = proto.FromString(body)
        return item_from_proto(parsed, payload) if number == ITEM_FIELD else from_proto(cls, parsed, payload)
    except (DecodeError, ValueError, TypeError, OverflowError) as error:
        raise CodecError(f"a malformed {cls.__name__}: {error}") from None


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(buffer: Any, position: int) -> tuple[int, int]:
    """Value and the position after it. Raises IndexError when it is cut off, CodecError when it is too long."""
    byte = buffer[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
        if shift > 63:
            raise CodecError("a length of more than ten bytes")
