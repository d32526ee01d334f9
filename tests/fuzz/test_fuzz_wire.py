"""Damaged messages and values on the wire: what they say, or a CodecError; in bounded memory."""

import json
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntFlag
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import av
import numpy as np
import pytest
from mutation import CASES, damaged, dice, grown, strange, twisted

from avlab.core import status, wire
from avlab.core.codec import registry
from avlab.core.errors import CodecError
from avlab.core.message import ItemMessage
from avlab.core.ordinary import taken_apart
from avlab.core.tree import Values

MIB = 1 << 20


@pytest.fixture
def corpus(messages) -> list[bytes]:
    return [b"".join(wire.encode(m, inline=getattr(m, "slot", None) is None)) for m in messages.values()]


def outcome(read, data):
    try:
        return list(read(data))
    except CodecError:
        return None


def test_damaged_messages(corpus) -> None:
    """Whole batches and pieces of any size are read alike; no reader holds more than some times what it was given."""
    of, understood = dice("messages"), 0
    tracemalloc.start()
    try:
        for _ in range(CASES):
            data = damaged(of.choice(corpus), of, corpus)
            tracemalloc.reset_peak()
            start = tracemalloc.get_traced_memory()[0]
            whole = outcome(wire.decode_batch, data)
            assert tracemalloc.get_traced_memory()[1] - start < 64 * len(data) + (64 << 10)
            decoder, pieces = wire.Decoder(), []
            try:
                for part in split(data, of):
                    pieces += decoder.feed(part)
            except CodecError:
                assert whole is None
                continue
            understood += whole is not None
            assert whole is None or len(pieces) == len(whole)
    finally:
        tracemalloc.stop()
    assert CASES // 50 < understood < CASES


def split(data: bytes, of) -> list[bytes]:
    cuts = sorted(of.randrange(len(data) + 1) for _ in range(of.randrange(4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("read", [wire.decode_names, status.decode_description, status.decode_status])
def test_damaged_replies(read) -> None:
    of = dice(read.__name__)
    names = wire.encode_names(["a" * 64, "b" * 64])
    about = status.encode_description({"version": "1", "wire": 1, "nodes": ["a", "b"]}, [("gvisor", True, "why")])
    report = status.encode_status(status.Status("t", True, 1.0, "landlock", (status.SessionStatus(),)))
    for _ in range(CASES):
        try:
            read(damaged(of.choice((names, about, report)), of, [names, about, report]))
        except CodecError:
            continue


def samples() -> list[tuple[str, dict, list[bytes]]]:
    """A right value for each codec of arrays and frames: name, metadata, buffers."""
    sound = av.AudioFrame("s16p", "stereo", 64)
    sound.sample_rate = 48000
    packet = av.Packet(b"packet")
    values = [
        np.arange(24, dtype="<i2").reshape(2, 3, 4),
        np.zeros(3, [("a", "<f8", (2,)), ("b", "|S3")]),
        np.float32(1.5),
        av.VideoFrame(16, 8, "yuv420p"),
        av.VideoFrame(10, 6, "rgb24"),
        sound,
        packet,
    ]
    encoded = [registry.encode(value) for value in values]
    return [(name, json.loads(bytes(meta)), [bytes(b) for b in buffers]) for name, meta, buffers in encoded]


def test_damaged_values() -> None:
    """Metadata that asks for what is not there: nothing is allocated for it, and nothing but CodecError is raised."""
    of, good = dice("values"), samples()
    kinds = sorted({name for name, _, _ in good})
    read = 0

    def work() -> None:
        nonlocal read
        for _ in range(CASES):
            name, meta, buffers = of.choice(good)
            text = json.dumps(twisted(meta, of)).encode()
            if of.randrange(4) == 0:
                text = damaged(text, of)
            if of.randrange(4) == 0:
                buffers = [damaged(b, of) for b in buffers] * of.choice((0, 1, 1, 2))
            if of.randrange(20) == 0:
                name = of.choice(kinds)
            try:
                registry.decode(name, text, [memoryview(b) for b in buffers])
                read += 1
            except CodecError:
                continue

    assert grown(work) < 200 * MIB
    assert 0 < read < CASES


class E(Enum):
    A = "one"


class F(IntFlag):
    B = 2


def made() -> list[list[object]]:
    """Values of the standard library, by their parts."""
    given = [Fraction(2, 3), Decimal("1e-7"), UUID(int=9), datetime.now(UTC), date.today(), timedelta(1), Path("/a"), range(1, 9), slice(1)]
    return [["made", *taken_apart(value)[:1], *taken_apart(value)[1]] for value in given] + [["made", "collections.deque", ["list", 1, 2], 3]]


def test_damaged_trees() -> None:
    of, values = dice("trees"), Values(classes={"m:E": E, "m:F": F})
    good = [
        ["list", 1, ["tuple", "x", None], ["leaf", "bytes", "", 0, 1], ["complex", 1.0, 2.0]],
        {
            "a": ["set", 1, 2],
            "b": ["dict", 1, ["list"], "x", ["frozenset", 3]],
            "c": ["leaf", "numpy.ndarray", "{}", 0, 1],
        },
        ["dataclass", "m:C", {"x": 1}],
        ["list", *made()],
        ["set", ["frozenset", 1, ["tuple", 2, 1 << 61]], ["frozenset", (1 << 61) - 1], *made()[:3]],
        ["dict", ["enum", "m:E", "A", 1], ["enum", "m:F", "B", 2], ["enum", "m:F", "B", 9], ["list"]],
    ]
    for _ in range(CASES):
        text = json.dumps(twisted(of.choice(good), of)).encode()
        if of.randrange(3) == 0:
            text = damaged(text, of)
        meta, buffers = (text, [memoryview(b"xy")]) if of.randrange(2) else (b"", [memoryview(b"xy"), memoryview(text)])
        try:
            values.decode("tree", meta, buffers)
        except CodecError:
            continue


def test_items_with_strange_codecs_and_metadata() -> None:
    of, values = dice("items"), Values()
    for _ in range(CASES // 4):
        item = ItemMessage(
            1, 1, codec=of.choice(("json", "str", "bytes", "tree", "pickle", "numpy.ndarray", "", "a.b", "av.x"))
        )
        item.meta = json.dumps(strange(of)).encode()
        try:
            values.decode(
                item.codec, item.meta, [memoryview(of.randbytes(of.randrange(9))) for _ in range(of.randrange(3))]
            )
        except CodecError:
            continue
