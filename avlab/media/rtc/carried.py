"""Items as messages of a DataChannel: the wire and the codecs of every other link."""

from __future__ import annotations

from typing import Any

from avlab.core.errors import CodecError
from avlab.core.item import Item, as_item
from avlab.core.message import ItemMessage
from avlab.core.tree import Values
from avlab.core.wire import decode_batch, encode_batch


def encode_item(value: Any, values: Values) -> bytes:
    """An item, or a value that becomes one, as a message. Raises CodecError, ItemTooLarge."""
    item = as_item(value)
    codec, meta, buffers = values.encode(item.value)
    message = ItemMessage(
        input=1, codec=codec, meta=meta, buffers=buffers, pts=item.pts, track=item.track, seq=item.seq
    )
    message.time_base = item.time_base
    return encode_batch([message])


def decode_item(data: bytes, values: Values) -> Item:
    """The item of a message; it owns its memory. Raises CodecError for anything else."""
    match list(decode_batch(data)):
        case [ItemMessage(slot=None, failure=None) as message]:
            value = values.decode(message.codec, message.meta, message.buffers)
            return Item(value, message.pts, message.time_base, message.track, message.seq)
    raise CodecError("the other side's message is no item")
