"""Messages ⇄ bytes: golden vectors, plain protobuf on the other side, every split, every kind of garbage."""

import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avlab import _pb as pb
from avlab.core import status, wire
from avlab.core.errors import CodecError, ItemTooLarge
from avlab.core.headers import MAX_BUFFERS
from avlab.core.message import (
    MAX_ITEM,
    Blob,
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
    Resume,
    Resumed,
    Signal,
    SignalKind,
    Slot,
    Source,
)
from avlab.core.wire import MAX_HEADER, MAX_MESSAGE, Decoder, decode_batch, encode, encode_batch

BUNDLE = Bundle(
    BundleKind.SOURCE,
    "Edges",
    b'{"a":1}',
    "ab12",
    [File("m.py", "cd34", 5, True)],
    ["scipy"],
    "3.11",
    "3.1.2",
    1,
    [Source("<cell>", "ef56")],
)
# One of each kind, and what it is on the wire: a change of these bytes is a change of the protocol.
GOLDEN = {
    "open": (
        Open(BUNDLE, {"memory": 1024, "item_timeout": 1.5}, "landlock", 16, "s1"),
        "0a720a700a500802120545646765731a077b2261223a317d2204616231322a100a046d2e707912046364333418052001"
        "320573636970793a04332e31314205332e312e324801520e0a063c63656c6c3e120465663536120c0880081900000000"
        "0000f83f1a086c616e646c6f636b20102a027331",
    ),
    "opened": (
        Opened("s1", "namespaces", 16, ["numpy.ndarray"], True, True),
        "0a2712250a027331120a6e616d657370616365731810220d6e756d70792e6e64617272617928013801",
    ),
    "item in": (
        ItemMessage(1, codec="json", meta=b"1", pts=0, time_base=Fraction(1, 90), track="v", seq=7, acked=3),
        "0a1c1a1a08013a046a736f6e4201315000580260b4016a01767007800103",
    ),
    "item out": (
        ItemMessage(1, 2, True, 3, codec="bytes", buffers=(b"ab", b"", b"c"), granted=17, stamps=(1, -2, 3)),
        "0a381a3108011002180120033a0562797465734a030200017a180100000000000000feffffffffffffff030000000000"
        "00008801117a03616263",
    ),
    "call": (
        ItemMessage(4, mode=Mode.CALL, method="add", codec="json", meta=b"1", packed=True),
        "0a171a150804280132036164643a046a736f6e420131a00101",
    ),
    "slot": (
        ItemMessage(1, codec="bytes", slot=Slot(1, 4096, 3, (3,)), buffers=(b"abc",)),
        "0a181a1608013a0562797465734a01039a010708011080201803",
    ),
    "failed item": (
        ItemMessage(2, 1, True, 2, failure=Failure("m.E", "ValueError", "no", "tb", "", "", 2)),
        "0a281a26080210011801200292011b0a036d2e45120a56616c75654572726f721a026e6f220274623802",
    ),
    "credit": (Credit(5, 21), "0a06220408051015"),
    "cancel": (Signal(SignalKind.CANCEL, [3, 300]), "0a072a05120303ac02"),
    "set": (Signal(SignalKind.SET, (), b'{"gain":2}'), "0a102a0208027a0a7b226761696e223a327d"),
    "log": (
        Log("stdout", b"hello\n", "text/plain", 9),
        "0a2032160a067374646f7574120a746578742f706c61696e18097a0668656c6c6f0a",
    ),
    "end": (End(), "0a023a00"),
    "failure": (
        Failure(message="gone", reason="oom", kind="LimitExceeded"),
        "0a1c421a1a04676f6e652a036f6f6d320d4c696d69744578636565646564",
    ),
    "resume": (Resume("s1", 2, 9), "0a0a4a080a02733110021809"),
    "resumed": (Resumed(2, 8), "0a06520408021008"),
    "blob": (Blob("ab12", b"data", 4, 8), "0a125a0a0a0461623132100418087a0464617461"),
}


def the_same(one: object, other: object) -> bool:
    return plain(one) == plain(other)


def plain(message):
    """Comparable: buffers as bytes, sequences as lists."""
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    if isinstance(message, list | tuple):
        return [plain(part) for part in message]
    if isinstance(message, dict):
        return {key: plain(value) for key, value in message.items()}
    if hasattr(message, "__dataclass_fields__"):
        names = [name for name in message.__dataclass_fields__ if name != "release" and not name.startswith("_")]
        return type(message).__name__, {name: plain(getattr(message, name)) for name in names}
    return message


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name) -> None:
    message, expected = GOLDEN[name]
    data = b"".join(encode(message, inline=name != "slot"))
    assert data.hex() == expected
    if name != "slot":
        (back,) = decode_batch(bytes.fromhex(expected))
        assert the_same(back, message)


@pytest.mark.parametrize("name", GOLDEN)
def test_plain_protobuf_reads_and_writes_the_same(name) -> None:
    message, expected = GOLDEN[name]
    batch = pb.Batch.FromString(bytes.fromhex(expected))
    assert len(batch.messages) == 1
    assert batch.messages[0].WhichOneof("kind") is not None
    if name != "slot":
        (back,) = decode_batch(batch.SerializeToString())
        assert the_same(back, message)


def test_protobuf_sees_the_fields_and_the_payload() -> None:
    batch = pb.Batch.FromString(encode_batch([GOLDEN["item out"][0], GOLDEN["log"][0], GOLDEN["open"][0]]))
    item, log, opened = batch.messages
    assert (item.item.k, item.item.last, list(item.item.sizes), item.payload) == (2, True, [2, 0, 1], b"abc")
    assert list(item.item.stamps) == [1, -2, 3]
    assert (log.log.dropped, log.payload) == (9, b"hello\n")
    assert (opened.open.limits.memory, opened.open.limits.item_timeout) == (1024, 1.5)
    assert not opened.open.limits.HasField("output")


# Round trips.

NUMBERS = st.integers(0, (1 << 64) - 1)
SMALL = st.integers(0, (1 << 32) - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
DATA = st.binary(max_size=40)
BUNDLES = st.builds(
    Bundle,
    st.sampled_from(BundleKind),
    TEXT,
    DATA,
    TEXT,
    st.lists(st.builds(File, TEXT, TEXT, NUMBERS, st.booleans()), max_size=3),
    st.lists(TEXT, max_size=3),
    TEXT,
    TEXT,
    SMALL,
    st.lists(st.builds(Source, TEXT, TEXT), max_size=3),
)
LIMITS = st.dictionaries(st.sampled_from(["memory", "scratch", "output"]), st.integers(1, 1 << 60)) | st.dictionaries(
    st.sampled_from(["cpu_seconds", "item_timeout"]), st.floats(0.1, 1e6)
)
FAILURES = st.recursive(
    st.builds(Failure, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, NUMBERS),
    lambda members: st.builds(Failure, TEXT, TEXT, TEXT, members=st.lists(members, max_size=3)),
    max_leaves=6,
)
TICKS = st.integers(-(1 << 63), (1 << 63) - 1)
BASES = st.builds(Fraction, st.integers(1, 1 << 62), st.integers(1, 1 << 62))
INPUTS = st.builds(
    ItemMessage,
    NUMBERS,
    mode=st.sampled_from(Mode),
    codec=TEXT.filter(bool),
    meta=DATA,
    buffers=st.lists(DATA, max_size=4),
    track=TEXT,
    seq=NUMBERS,
    stamps=st.lists(TICKS, max_size=4).map(tuple),
    acked=NUMBERS,
)
OUTPUTS = st.builds(
    ItemMessage,
    NUMBERS,
    st.integers(1, (1 << 32) - 1),
    st.booleans(),
    NUMBERS,
    codec=TEXT.filter(bool),
    meta=DATA,
    buffers=st.lists(DATA, max_size=4),
    pts=TICKS,
    time_base=BASES,
    granted=NUMBERS,
    failure=st.none() | FAILURES,
)
MESSAGES = st.one_of(
    st.builds(Open, BUNDLES, LIMITS, TEXT, SMALL, TEXT),
    st.builds(Opened, TEXT, TEXT, SMALL, st.lists(TEXT, max_size=3), st.booleans(), st.booleans(), st.booleans()),
    INPUTS,
    OUTPUTS,
    st.builds(Credit, NUMBERS, NUMBERS),
    st.builds(Signal, st.sampled_from(SignalKind), st.lists(NUMBERS, max_size=20), DATA),
    st.builds(Log, TEXT, DATA, TEXT, NUMBERS),
    st.just(End()),
    FAILURES,
    st.builds(Resume, TEXT, NUMBERS, NUMBERS),
    st.builds(Resumed, NUMBERS, NUMBERS),
    st.builds(Blob, TEXT, DATA, NUMBERS, NUMBERS),
)


@given(st.lists(MESSAGES, max_size=5))
def test_what_is_written_is_read(messages) -> None:
    data = encode_batch(messages)
    assert the_same(list(decode_batch(data)), messages)
    assert len(pb.Batch.FromString(data).messages) == len(messages)


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.data())
def test_a_stream_may_be_cut_anywhere(messages, data) -> None:
    stream = encode_batch(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, got = Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        piece = bytearray(stream[begin:end])
        got.extend(decoder.feed(piece))
        piece[:] = bytes(len(piece))  # what was fed is the reader's own by now
    assert the_same(got, messages)


def test_a_stream_may_come_byte_by_byte() -> None:
    messages = [message for name, (message, _) in GOLDEN.items() if name != "slot"]
    decoder = Decoder()
    got = [message for byte in encode_batch(messages) for message in decoder.feed(bytes([byte]))]
    assert the_same(got, messages)


@given(MESSAGES, st.randoms())
def test_foreign_writers_may_order_fields_as_they_like(message, random) -> None:
    """Protobuf leaves the order of fields to the writer: payload first, kind last, and the header's fields in any order."""
    (proto,) = pb.Batch.FromString(encode_batch([message])).messages
    kind = proto.WhichOneof("kind")
    fields = [piece(field, value) for field, value in getattr(proto, kind).ListFields()]
    random.shuffle(fields)
    body = b"".join(fields)
    head = varint(proto.DESCRIPTOR.fields_by_name[kind].number << 3 | 2) + varint(len(body)) + body
    payload = b"\x7a" + varint(len(proto.payload)) + proto.payload
    data = payload + head
    (back,) = decode_batch(b"\x0a" + varint(len(data)) + data)
    assert the_same(back, message)


def piece(field, value) -> bytes:
    holder = pb.Message()
    owner = next(name for name in ("open", "opened", "item", "credit", "signal", "log", "failure", "resume", "resumed", "blob")
                 if getattr(pb.Message, name.upper() + "_FIELD_NUMBER", None) and getattr(holder, name).DESCRIPTOR is field.containing_type)  # fmt: skip
    made = type(getattr(holder, owner))()
    if field.is_repeated:
        getattr(made, field.name).extend(value)
    elif field.message_type:
        getattr(made, field.name).CopyFrom(value)
        getattr(made, field.name).SetInParent()
    else:
        setattr(made, field.name, value)
    return made.SerializeToString()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# Garbage.


def read(data: bytes) -> None:
    """By both readers; anything but messages or a CodecError is a bug."""
    for reader in (lambda: list(decode_batch(data)), lambda: list(Decoder().feed(data))):
        try:
            reader()
        except CodecError:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_a_codec_error(data) -> None:
    read(data)
    read(b"\x0a" + varint(len(data)) + data)
    for kind in range(1, 13):
        body = varint(kind << 3 | 2) + varint(len(data)) + data
        read(b"\x0a" + varint(len(body)) + body)


@settings(max_examples=300)
@given(MESSAGES, st.data())
def test_any_mutation_is_messages_or_a_codec_error(message, data) -> None:
    raw = bytearray(encode_batch([message]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    read(bytes(raw))
    read(bytes(raw[:cut]))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a" + b"\xff" * 9 + b"\x01" + b"x" * 100,
        b"\x0a" + varint(1 << 40),
        b"\x0a" + varint(MAX_MESSAGE + 1),
        b"\x0a\x80",
        b"\x0a" + b"\x80" * 20,
    ],
)
def test_announced_lengths_cost_no_memory(data) -> None:
    tracemalloc.start()
    try:
        read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_a_decoder_keeps_is_bounded_by_one_message() -> None:
    message = encode_batch([Blob("name", bytes(100_000), 0, 100_000)])
    tracemalloc.start()
    try:
        decoder = Decoder()
        for _ in range(200):
            for start in range(0, len(message), 7000):
                for _ in decoder.feed(message[start : start + 7000]):
                    pass
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_broken_decoder_stays_broken() -> None:
    decoder = Decoder()
    for _ in range(2):
        with pytest.raises(CodecError):
            list(decoder.feed(b"\x00"))


def item(body: bytes, payload: bytes = b"") -> bytes:
    data = b"\x1a" + varint(len(body)) + body + (b"\x7a" + varint(len(payload)) + payload if payload else b"")
    return b"\x0a" + varint(len(data)) + data


def raw(payload: bytes = b"", **fields: object) -> bytes:
    return item(pb.Item(**fields).SerializeToString(), payload)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (raw(b"abc", sizes=[2]), "add up"),
        (raw(b"abc", sizes=[2, 2]), "add up"),
        (raw(b"", sizes=[1]), "add up"),
        (raw(b"abc"), "add up"),
        (raw(b"abc", sizes=[(1 << 64) - 1, 3]), "add up"),
        (raw(sizes=[0] * (MAX_BUFFERS + 1)), "buffers"),
        (raw(pts=1), "time base"),
        (raw(pts=1, time_base_numerator=1, time_base_denominator=0), "time base"),
        (raw(pts=1, time_base_numerator=-1, time_base_denominator=1), "time base"),
        (raw(sizes=[3], slot=pb.Slot(index=1, offset=4096, length=4)), "slot"),
        (raw(b"abc", sizes=[3], slot=pb.Slot(index=1, offset=4096, length=3)), "slot"),
        (raw(sizes=[MAX_ITEM + 1], slot=pb.Slot(length=MAX_ITEM + 1)), "slot"),
        (item(b"\x28\x09"), "mode"),
        (item(b"\x28" + varint((1 << 64) - 1)), "mode"),
        (item(b"\x32\x01\xff"), "Item"),
        (b"\x0a\x04\x2a\x02\x08\x09", "Signal"),
        (b"\x0a\x00", "kind of message 0"),
        (b"\x0a\x02\x7a\x00", "kind of message 0"),
        (b"\x0a\x02\x6a\x00", "kind of message 13"),
        (b"\x0a\x04\x3a\x00\x3a\x00", "two kinds"),
        (b"\x0a\x02\x38\x00", "where a field of a message should begin"),
        (b"\x12\x00", "where a message should begin"),
        (item(b"\x42" + varint(MAX_HEADER + 1) + bytes(MAX_HEADER + 1)), "header"),
        (b"\x0a" + varint(MAX_HEADER + 7) + b"\x22\x00\x7a" + varint(MAX_HEADER + 1) + bytes(MAX_HEADER + 1), "header"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:6].hex(),
)
def test_contradictions_are_refused(data, text) -> None:
    with pytest.raises(CodecError, match=text):
        list(decode_batch(data))
    with pytest.raises(CodecError, match=text):
        list(Decoder().feed(data))


# What cannot be written.


def test_sizes_have_limits() -> None:
    largest = ItemMessage(1, codec="bytes", buffers=[bytes(MAX_ITEM)])
    (back,) = decode_batch(encode_batch([largest]))
    assert back.nbytes == MAX_ITEM
    with pytest.raises(ItemTooLarge, match=f"{MAX_ITEM + 1} bytes exceeds the limit of {MAX_ITEM}"):
        encode(ItemMessage(1, codec="bytes", buffers=[bytes(MAX_ITEM), b"x"]))
    with pytest.raises(ItemTooLarge, match="metadata"):
        encode(ItemMessage(1, codec="x", meta=bytes(MAX_HEADER)))
    with pytest.raises(ItemTooLarge, match="buffers"):
        encode(ItemMessage(1, codec="x", buffers=[b""] * (MAX_BUFFERS + 1)))


@pytest.mark.parametrize(
    "message",
    [
        ItemMessage(1, pts=1 << 63),
        ItemMessage(1, pts=1.5),
        ItemMessage(1, pts=0, time_base=Fraction(0)),
        ItemMessage(1, pts=0, time_base=Fraction(-1, 2)),
        ItemMessage(1, pts=0, time_base=Fraction(1, 1 << 64)),
        ItemMessage(1, pts=0, time_base=None),
        ItemMessage(1, seq=-1),
        ItemMessage(1, seq=1 << 64),
        ItemMessage(1, track="\ud800"),
        ItemMessage(1, track=5),
        Open(Bundle(), {"memory": 1 << 70}),
        Open(Bundle(), {"nothing": 1}),
    ],
    ids=repr,
)
def test_fields_that_do_not_fit_are_a_codec_error(message) -> None:
    with pytest.raises(CodecError, match="cannot be written"):
        encode(message)


def test_names_and_descriptions() -> None:
    assert wire.decode_names(wire.encode_names(["a", "b"])) == ["a", "b"]
    values = {"version": "1", "wire": 1, "nodes": ["Resize"], "sessions": 2, "max_item": MAX_ITEM}
    tiers = [("landlock", True, ""), ("gvisor", False, "no runsc")]
    back, reports = status.decode_description(status.encode_description(values, tiers))
    assert {name: back[name] for name in values} == values
    assert reports == tiers
    for reader in (wire.decode_names, status.decode_description):
        with pytest.raises(CodecError, match="malformed"):
            reader(b"\x0a\xff")
