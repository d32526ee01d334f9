"""Foreign, broken and hostile bytes: messages or a CodecError, in bounded memory; and what a sender refuses itself."""

import array
import random
import tracemalloc

import pytest

from avlab import _pb as pb
from avlab.core import status, wire
from avlab.core.errors import CodecError, ItemTooLarge
from avlab.core.message import MAX_ITEM, MAX_MEMBERS, Blob, Bundle, End, Failure, File, Log, Open, Signal, SignalKind

CASES = 12_000


@pytest.fixture
def stream(messages) -> bytes:
    """Every kind, one after the other, as bytes."""
    return b"".join(b"".join(wire.encode(m, inline=getattr(m, "slot", None) is None)) for m in messages.values())


def outcome(read, data: bytes):
    """What a reader makes of the bytes. Any other error than CodecError fails the test."""
    try:
        return list(read(data))
    except CodecError:
        return None


def delimited(data: bytes) -> bytes:
    return b"\x0a" + wire._varint(len(data)) + data


def test_garbage_is_messages_or_a_codec_error(messages) -> None:
    """Random bytes, behind a right frame or a right frame and kind."""
    dice, read = random.Random(1), 0
    for number in range(CASES):
        noise = dice.randbytes(dice.randrange(40))
        kind = dice.choice([*range(1, 13), 15])
        shapes = noise, delimited(noise), delimited(bytes([kind << 3 | 2]) + wire._varint(len(noise)) + noise)
        data = shapes[number % 3]
        got = outcome(wire.decode_batch, data)
        if got is not None:
            read += 1
            assert len(outcome(wire.Decoder().feed, data)) == len(got)
    assert read < CASES


def test_every_flipped_bit_is_messages_or_a_codec_error(stream) -> None:
    """A reader of whole batches and a reader of pieces agree on what stands there."""
    for position in range(len(stream) * 8):
        data = bytearray(stream)
        data[position >> 3] ^= 1 << (position & 7)
        got = outcome(wire.decode_batch, bytes(data))
        if got is not None:
            assert len(outcome(wire.Decoder().feed, bytes(data))) == len(got)


def test_every_truncation_keeps_what_was_complete(stream, messages, same) -> None:
    whole = same(list(wire.decode_batch(stream)))
    ends = set()
    for length in range(len(stream)):
        got = same(wire.Decoder().feed(stream[:length]))
        assert got == whole[: len(got)]
        if outcome(wire.decode_batch, stream[:length]) is not None:
            ends.add(length)
    assert len(ends) == len(messages)  # only between two messages


def test_any_two_pieces_give_the_same_messages(stream, same) -> None:
    whole = same(list(wire.decode_batch(stream)))
    for length in range(len(stream) + 1):
        decoder = wire.Decoder()
        assert same([*decoder.feed(stream[:length]), *decoder.feed(memoryview(stream)[length:])]) == whole


def test_payload_may_come_before_the_kind() -> None:
    item = pb.Item(input=1, codec="bytes", sizes=[2, 1]).SerializeToString()
    (message,) = wire.decode_batch(delimited(b"\x7a\x03abc" + b"\x1a" + wire._varint(len(item)) + item))
    assert [bytes(part) for part in message.buffers] == [b"ab", b"c"]
    assert list(wire.decode_batch(delimited(b"\x7a\x00\x3a\x00"))) == [End()]


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x00",  # field 0
        b"\x02\x00\x3a\x00",
        b"\x3a\x00\x02\x00",
        b"\x3a\x00\x22\x00",  # two kinds
        b"\x3a\x00\x3a\x00",
        b"\x6a\x00",  # kind 13
        b"\x82\x01\x00",  # kind 16
        b"\x3a\x80",  # a length that ends nowhere
        b"\x3a" + b"\x80" * 11 + b"\x00",
        b"\x38\x00",  # a number where a message belongs
        b"\x3a\x01",
    ],
    ids=bytes.hex,
)
def test_what_is_no_message_is_refused(data) -> None:
    for read in (wire.decode_batch, wire.Decoder().feed):
        with pytest.raises(CodecError):
            list(read(delimited(data)))


def test_a_claimed_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        decoder = wire.Decoder()
        assert decoder.feed(b"\x0a" + wire._varint(MAX_ITEM)) == []
        with pytest.raises(ItemTooLarge):
            wire.Decoder().feed(b"\x0a" + wire._varint(wire.MAX_MESSAGE + 1))
        inside = b"\x1a" + wire._varint(MAX_ITEM) + b"x"
        with pytest.raises(CodecError, match="past the end"):
            list(wire.decode_batch(delimited(inside)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_a_decoder_may_be_limited() -> None:
    (end,) = wire.Decoder(max_message=2).feed(b"\x0a\x02\x3a\x00")
    assert end == End()
    with pytest.raises(ItemTooLarge, match="limit of 1 bytes"):
        wire.Decoder(max_message=1).feed(b"\x0a\x02\x3a\x00")


@pytest.mark.parametrize(
    "message",
    [
        Failure(message="x" * wire.MAX_HEADER),
        Signal(SignalKind.SET, [], bytes(wire.MAX_HEADER + 1)),
        Signal(SignalKind.CANCEL, range(1 << 20)),
        Open(Bundle(files=[File("p" * 1000, "")] * 1100)),
        Log("display", bytes(MAX_ITEM + 1)),
        Blob("name", bytes(MAX_ITEM + 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_sender_refuses_what_the_reader_would(message) -> None:
    """Otherwise the reader would take the whole link for broken."""
    with pytest.raises(ItemTooLarge, match=type(message).__name__):
        wire.encode(message)


@pytest.mark.parametrize("deep", [False, True])
def test_a_failure_of_countless_members_is_refused(deep) -> None:
    failure = pb.Failure(message="all")
    for _ in range(10):
        part = failure.members.add() if deep else failure
        for _ in range(MAX_MEMBERS // 8):
            part.members.add()
    with pytest.raises(CodecError, match="members"):
        list(wire.decode_batch(pb.Batch(messages=[pb.Message(failure=failure)]).SerializeToString()))


def test_a_bundle_of_countless_files_is_refused() -> None:
    message = pb.Open()
    for _ in range(wire.MAX_ENTRIES + 1):
        message.bundle.files.add()
    body = message.SerializeToString()
    with pytest.raises(CodecError, match="more than 16384 files"):
        list(wire.decode_batch(delimited(b"\x0a" + wire._varint(len(body)) + body)))


@pytest.mark.parametrize(
    "message", [Log("display", bytes(MAX_ITEM)), Blob("name", bytes(MAX_ITEM))], ids=["log", "blob"]
)
def test_the_largest_data_is_read(message, same) -> None:
    (read,) = wire.decode_batch(wire.encode_batch([message]))
    assert same(read) == same(message)


def test_data_is_counted_in_bytes_whatever_the_view() -> None:
    words = array.array("I", [1, 2, 3])
    blob, end = wire.decode_batch(wire.encode_batch([Blob("name", memoryview(words)), End()]))
    assert bytes(blob.data) == words.tobytes()
    assert end == End()


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (wire.decode_names, b"\x0a\x00" * (wire.MAX_NAMES + 1)),
        (wire.decode_names, b"\x0a\x00" * (8 << 20)),
        (status.decode_description, b"\x32\x00" * (status.MAX_TIERS + 1)),
        (status.decode_description, b"\x3a\x00" * (wire.MAX_ENTRIES + 1)),
        (status.decode_description, b"\x32\x00" * (8 << 20)),
    ],
    ids=["names", "bytes of names", "tiers", "nodes", "bytes of a description"],
)
def test_lists_of_nothing_are_not_made(read, data) -> None:
    """Two bytes each on the wire, a hundred in memory: refused before there is an object for each."""
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
