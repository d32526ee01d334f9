"""Messages ⇄ bytes of protos/avlab/v1/executor.proto. Sans-IO: nothing here reads or writes a socket.

The raw buffers of an item never pass through protobuf: the header is serialised, then tag, length and the buffers
themselves follow as the last field; on the way in the payload is sliced out and the rest parsed. Every message is written
as one element of `Batch.messages`, so a byte stream is one endless Batch and a packet is one Batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

from google.protobuf.message import DecodeError

import avlab._pb as pb
from avlab.core.errors import CodecError, ItemTooLarge
from avlab.core.message import (
    MAX_ITEM,
    MAX_MEMBERS,
    Blob,
    Buffer,
    Bundle,
    BundleKind,
    Credit,
    End,
    Failure,
    File,
    ItemMessage,
    Log,
    Message,
    Mode,
    Open,
    Opened,
    Receipt,
    Resume,
    Resumed,
    Signal,
    SignalKind,
    Slot,
    Source,
)

MAX_HEADER = 1 << 20
MAX_MESSAGE = MAX_ITEM + MAX_HEADER
MAX_BUFFERS = 1 << 16
"""Of one item: a reader makes an object for each, which is larger than the few bytes that announce it."""
MAX_ENTRIES = 1 << 14  # of each list in a bundle
MAX_NAMES = 2 * MAX_ENTRIES + 1  # of all blobs that a bundle can need
_BATCH_TAG, _PAYLOAD_TAG, _ITEM_FIELD = 0x0A, 0x7A, 3
_LARGE = (_ITEM_FIELD, 6, 11)  # items, logs (pictures), blobs
_FIELDS: dict[type, tuple[int, Any]] = {
    Open: (1, pb.Open),
    Opened: (2, pb.Opened),
    ItemMessage: (_ITEM_FIELD, pb.Item),
    Credit: (4, pb.Credit),
    Signal: (5, pb.Signal),
    Log: (6, pb.Log),
    End: (7, pb.End),
    Failure: (8, pb.Failure),
    Resume: (9, pb.Resume),
    Resumed: (10, pb.Resumed),
    Blob: (11, pb.Blob),
    Receipt: (12, pb.Receipt),
}
_CLASSES = {number: (cls, proto) for cls, (number, proto) in _FIELDS.items()}
_MODES = tuple(Mode)


def encode(message: Message, *, inline: bool = True) -> list[Buffer]:
    """The bytes of one message as a list of buffers (a header, then the raw buffers as they are, uncopied).

    ``inline=False`` leaves the buffers out: the message's ``slot`` says where they lie. Raises ItemTooLarge, and CodecError
    for a field that does not fit the format.
    """
    buffers: Sequence[Buffer] = ()
    try:
        body = (_item_to_proto(message) if type(message) is ItemMessage else _to_proto(message)).SerializeToString()
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
        most = MAX_ITEM if _FIELDS[type(message)][0] in _LARGE else MAX_HEADER
        if len(body) > MAX_HEADER or size > most:
            raise ItemTooLarge(
                f"{type(message).__name__} with {len(body)} bytes of header and {size} of data exceeds the limit of "
                f"{MAX_HEADER} and {most} bytes"
            )
    head = _ONE_BYTE[_FIELDS[type(message)][0] << 3 | 2] + _varint(len(body))
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
        return _item_from_proto(parsed, payload) if number == _ITEM_FIELD else _from_proto(cls, parsed, payload)
    except (DecodeError, ValueError, TypeError, OverflowError) as error:
        raise CodecError(f"a malformed {cls.__name__}: {error}") from None


def _item_to_proto(item: ItemMessage) -> Any:
    """The header of an item. Fields at their default are not touched: this runs once per item and direction."""
    proto = pb.Item()
    proto.input = item.input
    if item.k:
        proto.k, proto.ordinal, proto.last, proto.granted = item.k, item.ordinal, item.last, item.granted
    else:
        proto.acked = item.acked
        if item.mode:
            proto.mode, proto.method, proto.packed = item.mode, item.method, item.packed
    if item.codec:
        proto.codec, proto.meta = item.codec, item.meta
        if item.buffers:
            proto.sizes.extend(item.sizes)
    if item.pts is not None:
        proto.pts = item.pts
        numerator, denominator = item.time_base.as_integer_ratio()
        if numerator <= 0:
            raise ValueError(f"a time base of {item.time_base} seconds per tick")
        proto.time_base_numerator, proto.time_base_denominator = numerator, denominator
    if item.track:
        proto.track = item.track
    if item.seq:
        proto.seq = item.seq
    if item.stamps:
        proto.stamps.extend(item.stamps)
    if item.slot is not None:
        proto.slot.index, proto.slot.offset, proto.slot.length = item.slot.index, item.slot.offset, item.slot.length
    if item.failure is not None:
        proto.failure.CopyFrom(_to_proto(item.failure))
    return proto


def _item_from_proto(proto: Any, payload: memoryview) -> ItemMessage:
    mode = proto.mode
    if mode >= len(_MODES) or mode < 0:
        _bad("mode")
    item = ItemMessage(proto.input, proto.k, codec=proto.codec, meta=proto.meta, track=proto.track, seq=proto.seq)
    if item.k:
        item.last, item.ordinal, item.granted = proto.last, proto.ordinal, proto.granted
    else:
        item.mode, item.method, item.packed, item.acked = _MODES[mode], proto.method, proto.packed, proto.acked
    item.stamps = tuple(proto.stamps[:])
    if proto.HasField("pts"):
        item.pts = proto.pts
        if proto.time_base_denominator <= 0 or proto.time_base_numerator <= 0:
            _bad("time base")
        item.time_base = _fraction(proto.time_base_numerator, proto.time_base_denominator)
    sizes = proto.sizes
    if len(sizes) > MAX_BUFFERS:
        _bad(f"{len(sizes)} buffers")
    if proto.HasField("slot"):
        item.slot = Slot(proto.slot.index, proto.slot.offset, proto.slot.length, tuple(sizes))
        if item.slot.length > MAX_ITEM or sum(sizes) != item.slot.length or len(payload):
            _bad("slot")
    elif len(sizes) == 1 and sizes[0] == len(payload):
        item.buffers = (payload,)
    elif sizes or len(payload):
        item.buffers = split(payload, sizes)
    if proto.HasField("failure"):
        item.failure = _from_proto(Failure, proto.failure, payload[:0])
    return item


def split(payload: memoryview, sizes: Iterable[int]) -> list[Buffer]:
    """The buffers of a payload. Raises CodecError when the sizes do not add up to it."""
    buffers: list[Buffer] = []
    position = 0
    for size in sizes:
        buffers.append(payload[position : position + size])
        position += size
    if position != len(payload):
        raise CodecError(f"buffer sizes add up to {position} bytes, the payload has {len(payload)}")
    return buffers


_fraction = lru_cache(maxsize=256)(Fraction)


def _bad(what: str) -> Any:
    raise CodecError(f"a malformed Item: {what}")


def _to_proto(message: Any) -> Any:
    """Any message but Item: the proto has the same field names."""
    if isinstance(message, Bundle):
        proto = pb.Bundle(**_plain(message, ("files", "sources")))
        proto.files.extend(pb.File(**_plain(file)) for file in message.files)
        proto.sources.extend(pb.Source(**_plain(source)) for source in message.sources)
        return proto
    if isinstance(message, Open):
        rest = _plain(message, ("bundle", "limits"))
        return pb.Open(bundle=_to_proto(message.bundle), limits=pb.Limits(**message.limits), **rest)
    if isinstance(message, Failure):
        return pb.Failure(members=map(_to_proto, message.members), **_plain(message, ("members",)))
    return _FIELDS[type(message)][1](**_plain(message, ("data",)))


def _plain(message: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    return {f.name: getattr(message, f.name) for f in fields(message) if f.name not in without}


def _from_proto(cls: type, proto: Any, payload: memoryview) -> Any:
    if cls is Open:
        limits = {field.name: value for field, value in proto.limits.ListFields()}
        return Open(_bundle(proto.bundle), limits, proto.tier, proto.window, proto.session, proto.grace)
    values = {f.name: getattr(proto, f.name) for f in fields(cls) if f.name != "data"}
    if cls is Failure:
        values["members"] = _members(proto, payload)
    if cls is Opened:
        values["consumes"] = list(proto.consumes)
    if cls is Signal:
        values["kind"], values["inputs"] = SignalKind(proto.kind), list(proto.inputs)
    if cls in (Blob, Log, Signal):
        values["data"] = payload if cls is Blob else bytes(payload)
    return cls(**values)


def _members(proto: Any, payload: memoryview) -> list[Failure]:
    count, waiting = 0, [proto]
    while waiting:
        members = waiting.pop().members
        count += len(members)
        if count > MAX_MEMBERS:
            raise CodecError(f"a Failure of more than {MAX_MEMBERS} members")
        waiting.extend(members)
    return [_from_proto(Failure, each, payload) for each in proto.members]


def _bundle(proto: Any) -> Bundle:
    if max(len(proto.files), len(proto.sources), len(proto.requirements)) > MAX_ENTRIES:
        raise CodecError(f"a bundle with more than {MAX_ENTRIES} files, sources or requirements")
    values = {f.name: getattr(proto, f.name) for f in fields(Bundle)}
    values["kind"] = BundleKind(proto.kind)
    values["files"] = [File(f.path, f.blob, f.size, f.module) for f in proto.files]
    values["sources"] = [Source(s.filename, s.blob) for s in proto.sources]
    values["requirements"] = list(proto.requirements)
    return Bundle(**values)


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
