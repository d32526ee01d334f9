"""Messages ⇄ the protobuf objects of their headers. How these lie in a stream of bytes is the business of `wire`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from fractions import Fraction
from functools import lru_cache
from typing import Any

import avlab._pb as pb
from avlab.core.errors import CodecError
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

MAX_BUFFERS = 1 << 16
"""Of one item: a reader makes an object for each, which is larger than the few bytes that announce it."""
MAX_ENTRIES = 1 << 14  # of each list in a bundle, or numbers of inputs in a signal
MAX_STAMPS = 64  # of one item: there are three
MAX_TYPES = 1 << 10  # that a node consumes
ITEM_FIELD = 3
FIELDS: dict[type, tuple[int, Any]] = {
    Open: (1, pb.Open),
    Opened: (2, pb.Opened),
    ItemMessage: (ITEM_FIELD, pb.Item),
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
"""Kinds of messages: the number of the field, and the protobuf class."""
_MODES = tuple(Mode)
_fraction = lru_cache(maxsize=256)(Fraction)


def item_to_proto(item: ItemMessage) -> Any:
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
        proto.failure.CopyFrom(to_proto(item.failure))
    return proto


def item_from_proto(proto: Any, payload: memoryview) -> ItemMessage:
    """The item of a header and a payload, which it refers to. Raises CodecError, ValueError."""
    mode = proto.mode
    if mode >= len(_MODES) or mode < 0:
        _bad("mode")
    item = ItemMessage(proto.input, proto.k, codec=proto.codec, meta=proto.meta, track=proto.track, seq=proto.seq)
    if item.k:
        item.last, item.ordinal, item.granted = proto.last, proto.ordinal, proto.granted
    else:
        item.mode, item.method, item.packed, item.acked = _MODES[mode], proto.method, proto.packed, proto.acked
    if len(proto.stamps) > MAX_STAMPS:
        _bad(f"{len(proto.stamps)} stamps")
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
        item.failure = from_proto(Failure, proto.failure, payload[:0])
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


def _bad(what: str) -> Any:
    raise CodecError(f"a malformed Item: {what}")


def to_proto(message: Any) -> Any:
    """The header of any message but an item: it has the same field names."""
    if isinstance(message, Bundle):
        proto = pb.Bundle(**_plain(message, ("files", "sources")))
        proto.files.extend(pb.File(**_plain(file)) for file in message.files)
        proto.sources.extend(pb.Source(**_plain(source)) for source in message.sources)
        return proto
    if isinstance(message, Open):
        rest = _plain(message, ("bundle", "limits"))
        return pb.Open(bundle=to_proto(message.bundle), limits=pb.Limits(**message.limits), **rest)
    if isinstance(message, Failure):
        return pb.Failure(members=map(to_proto, message.members), **_plain(message, ("members",)))
    return FIELDS[type(message)][1](**_plain(message, ("data",)))


def _plain(message: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    return {f.name: getattr(message, f.name) for f in fields(message) if f.name not in without}


def from_proto(cls: type, proto: Any, payload: memoryview) -> Any:
    """The message, of any class but ItemMessage, of a header and a payload. Raises CodecError, ValueError."""
    if cls is Open:
        limits = {field.name: value for field, value in proto.limits.ListFields()}
        return Open(_bundle(proto.bundle), limits, proto.tier, proto.window, proto.session, proto.grace)
    values = {f.name: getattr(proto, f.name) for f in fields(cls) if f.name != "data"}
    if cls is Failure:
        values["members"] = _members(proto, payload)
    if cls is Opened:
        if len(proto.consumes) > MAX_TYPES:
            raise CodecError(f"a node that consumes {len(proto.consumes)} types")
        values["consumes"] = list(proto.consumes)
    if cls is Signal:
        if len(proto.inputs) > MAX_ENTRIES:
            raise CodecError(f"a signal for {len(proto.inputs)} inputs")
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
    return [from_proto(Failure, each, payload) for each in proto.members]


def _bundle(proto: Any) -> Bundle:
    if max(len(proto.files), len(proto.sources), len(proto.requirements)) > MAX_ENTRIES:
        raise CodecError(f"a bundle with more than {MAX_ENTRIES} files, sources or requirements")
    values = {f.name: getattr(proto, f.name) for f in fields(Bundle)}
    values["kind"] = BundleKind(proto.kind)
    values["files"] = [File(f.path, f.blob, f.size, f.module) for f in proto.files]
    values["sources"] = [Source(s.filename, s.blob) for s in proto.sources]
    values["requirements"] = list(proto.requirements)
    return Bundle(**values)
