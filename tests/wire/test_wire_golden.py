"""The bytes of version 1 of the wire, as committed; and that plain protobuf writes and reads the same."""

from fractions import Fraction

import pytest

from avlab import _pb as pb
from avlab.core import status, wire
from avlab.core.message import ItemMessage, Mode, Slot

GOLDEN = {
    "open": (
        "0abc010ab9010a890108021204626c75721a0c7b22726164697573223a337d220861616161616161612a180a"
        "08706b672f612e707912086262626262626262180a20012a1e0a0b646174612fc3bc2e62696e120863636363"
        "636363631880808080802032086e756d70793e3d323a04332e31314205332e312e32480152140a083c63656c"
        "6c20333e12086464646464646464121308808080800411000000000000e03f280040071a066c6f636b656420"
        "042a03732d31310000000000000440"
    ),
    "opened": ("0a2c122a0a03732d3112066c6f636b6564180822076e646172726179220a566964656f4672616d65280138014001"),
    "item call": "0a231a2108072801320573686966743a047472656542085b226c697374225d800105a00101",
    "item output": (
        "0a5a1a5108071002180120093a0d6e756d70792e6e64617272617942027b7d4a03030002500558d20f60e0d4"
        "036a07766964656f2f30700c7a18ffffffffffffffff000000000000000000000000000000108801287a0561"
        "62636465"
    ),
    "item flush": "0a061a0408092803",
    "item failure": (
        "0a4d1a4b080710011801200a9201400a07706b672e4f6464120a56616c75654572726f721a076e61c3af7665"
        "0a220c54726163656261636be280a62a036f6f6d320a576f726b65724469656438ac02"
    ),
    "item in a slot": "0a1a1a1808083a0562797465734a0280209a01080803108040188020",
    "credit": "0a10220e08ac021080808080808080808001",
    "signal": "0a072a05120301ac02",
    "signal set": "0a122a0208027a0c7b22726164697573223a347d",
    "log": "0a1e32160a07646973706c61791209696d6167652f706e6718037a0489504e47",
    "end": "0a023a00",
    "failure": (
        "0a4242400a07706b672e4f6464120a56616c75654572726f721a076e61c3af76650a220c5472616365626163"
        "6be280a62a036f6f6d320a576f726b65724469656438ac02"
    ),
    "resume": "0a0b4a090a03732d3110031809",
    "resumed": "0a06520408031007",
    "receipt": "0a05620308ac02",
    "blob": "0a215a160a0865656565656565651080808080201880808080407a07636f6e74656e74",
}
PROTOS = {
    "credit": pb.Credit,
    "receipt": pb.Receipt,
    "end": pb.End,
    "resume": pb.Resume,
    "resumed": pb.Resumed,
    "opened": pb.Opened,
}


def written(message) -> bytes:
    return b"".join(wire.encode(message, inline=getattr(message, "slot", None) is None))


def test_every_kind_has_a_vector(messages):
    assert set(GOLDEN) == set(messages)
    assert {type(message) for message in messages.values()} == set(wire.FIELDS)


@pytest.mark.parametrize("name", GOLDEN)
def test_writes_the_committed_bytes(name, messages):
    assert written(messages[name]).hex() == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_reads_the_committed_bytes(name, messages, same):
    expected = messages[name]
    (message,) = wire.decode_batch(bytes.fromhex(GOLDEN[name]))
    if name == "item in a slot":
        expected.buffers = ()  # they lie in shared memory
    assert same(message) == same(expected)


@pytest.mark.parametrize("name", GOLDEN)
def test_plain_protobuf_reads_and_writes_the_same_bytes(name):
    data = bytes.fromhex(GOLDEN[name])
    batch = pb.Batch.FromString(data)
    assert len(batch.messages) == 1
    assert batch.messages[0].WhichOneof("kind") == name.split()[0]
    assert batch.SerializeToString(deterministic=True) == data


def test_concatenated_batches_are_one_batch(messages, same):
    data = b"".join(bytes.fromhex(text) for text in GOLDEN.values())
    assert [m.WhichOneof("kind") for m in pb.Batch.FromString(data).messages] == [name.split()[0] for name in GOLDEN]
    assert same(list(wire.decode_batch(data))) == same(wire.Decoder().feed(data))
    messages.pop("item in a slot")
    assert wire.encode_batch(messages.values()) == b"".join(
        bytes.fromhex(text) for name, text in GOLDEN.items() if name != "item in a slot"
    )


def test_plain_protobuf_sees_every_field_of_an_item(messages):
    (message,) = pb.Batch.FromString(written(messages["item output"])).messages
    item = message.item
    assert message.payload == b"abcde"
    assert list(item.sizes) == [3, 0, 2]
    assert (item.input, item.k, item.last, item.ordinal, item.granted) == (7, 2, True, 9, 40)
    assert (item.codec, item.meta, item.track, item.seq) == ("numpy.ndarray", b"{}", "video/0", 12)
    assert (item.pts, item.time_base_numerator, item.time_base_denominator) == (-3, 1001, 30000)
    assert list(item.stamps) == [-1, 0, 1 << 60]


def test_reads_a_batch_that_plain_protobuf_built():
    batch = pb.Batch()
    item = batch.messages.add(payload=b"abcde").item
    item.input, item.mode, item.method, item.packed, item.codec = 3, 2, "frames", True, "tree"
    item.sizes.extend([2, 3])
    item.pts, item.time_base_numerator, item.time_base_denominator = 0, 2, 50
    batch.messages.add().item.slot.index = 2
    batch.messages.add(payload=b"part").blob.name = "ff"
    batch.messages.add(payload=b"text").log.stream = "stdout"
    batch.messages.add().open.limits.memory = 5
    batch.messages.add().end.SetInParent()
    first, second, blob, log, opening, _end = wire.decode_batch(batch.SerializeToString())
    assert isinstance(first, ItemMessage)
    assert (first.input, first.mode, first.method, first.packed) == (3, Mode.ITERATE, "frames", True)
    assert [bytes(part) for part in first.buffers] == [b"ab", b"cde"]
    assert (first.pts, first.time_base) == (0, Fraction(1, 25))
    assert second.slot == Slot(2, 0, 0) and second.pts is None
    assert (blob.name, bytes(blob.data)) == ("ff", b"part")
    assert (log.stream, log.data) == ("stdout", b"text")
    assert dict(opening.limits) == {"memory": 5}


@pytest.mark.parametrize("name", sorted(PROTOS))
def test_fields_have_the_names_of_the_proto(name, messages):
    message = messages[name]
    proto = getattr(pb.Batch.FromString(bytes.fromhex(GOLDEN[name])).messages[0], name)
    for field in PROTOS[name].DESCRIPTOR.fields:
        value = getattr(proto, field.name)
        assert (list(value) if field.name == "consumes" else value) == getattr(message, field.name)


def test_names_and_description():
    assert wire.encode_names(["aa", "b"]).hex() == "0a0261610a0162"
    assert wire.decode_names(bytes.fromhex("0a0261610a0162")) == ["aa", "b"]
    tiers = [("locked", True, ""), ("vm", False, "no /dev/kvm")]
    values = {"version": "1", "wire": 1, "nodes": ["blur"], "capacity": 4, "max_item": 1 << 26}
    read, read_tiers = status.decode_description(status.encode_description(values, tiers))
    assert read_tiers == tiers
    assert {name: read[name] for name in values} == values
    assert set(read) == {field.name for field in pb.Description.DESCRIPTOR.fields} - {"tiers"}
