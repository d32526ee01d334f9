"""Values ⇄ codec name, metadata and buffers: everything plain comes back as it went, anything else is a CodecError."""

import enum
import math
import tracemalloc
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Sized
from dataclasses import dataclass, field

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avlab.core.codec import Codec, Registry
from avlab.core.errors import CodecError
from avlab.core.tree import MAX_DEPTH, MAX_PARTS, Values, class_name

Point = namedtuple("Point", "x y")


class Colour(str, enum.Enum):  # noqa: UP042  the kind whose str() is not its value
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Box:
    left: int
    inside: object = None


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str = ""
    parts: list = field(default_factory=list)


def pickle(value):
    return cloudpickle.dumps(value), ()


def through(value, near: Values | None = None, far: Values | None = None):
    codec, meta, buffers = (near or Values()).encode(value)
    assert len(meta) <= 2 << 10
    return (far or Values()).decode(codec, bytes(meta), [memoryview(bytes(buffer)) for buffer in buffers])


def same(one, other) -> bool:
    """Equal in value and kind; nan equals nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (one != one and other != other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return all(map(same, one, other)) and len(one) == len(other) and all(map(same, one.values(), other.values()))
    return one == other


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 400), 1 << 400)
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.complex_numbers()
    | st.binary(max_size=20)
)
KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers(), st.text(max_size=3))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_plain_values_come_back_as_they_went(value) -> None:
    assert same(through(value), value)
    assert same(through([value], Values(pickle=pickle)), [value])


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        ["\udfff", {"\ud83d": "\ude00"}],
        float("nan"),
        [float("inf"), -float("inf"), -0.0],
        1 << 4000,
        ["list", "x"],
        {"leaf": ["leaf", "bytes", "", 0, 1]},
        (),
        [],
        {},
        set(),
        frozenset(),
        {(): [b"", b"x", (b"y",)]},
        "é" * 10_000,
        list(range(10_000)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_odd_values_come_back_as_they_went(value) -> None:
    assert same(through(value), value)


def test_leaves_keep_their_buffers_and_their_place() -> None:
    arrays = [np.arange(n, dtype=np.int16) for n in range(5)]
    value = {"a": arrays, "b": (b"1", {"c": b"2"}), 5: [arrays[3], b""]}
    back = through(value)
    assert [a.tolist() for a in back["a"]] == [a.tolist() for a in arrays]
    assert (back["b"], back[5][1], back[5][0].tolist()) == ((b"1", {"c": b"2"}), b"", [0, 1, 2])
    assert len(Values().encode(value)[2]) == 9


def test_what_has_a_codec_keeps_it_inside_of_containers() -> None:
    (back,) = through([np.float64(1.5)])
    assert type(back) is np.float64


def test_results_that_derive_from_plain_types_become_plain() -> None:
    assert same(through(Point(1, (2, 3))), (1, (2, 3)))
    assert same(through([Point(1, 2), Colour.RED, Level.HIGH]), [(1, 2), "red", 3])
    assert same(through(Colour.RED), "red")
    assert same(through(Level.HIGH), 3)
    assert same(through(OrderedDict(a=1)), {"a": 1})
    assert same(through({"d": defaultdict(int, {1: 2})}), {"d": {1: 2}})
    assert same(through(bytearray(b"x")), b"x")
    assert same(through([memoryview(b"x")]), [b"x"])


def test_arguments_that_derive_from_plain_types_keep_their_class() -> None:
    near, far = Values(pickle=pickle), Values(unpickle=lambda data, _: cloudpickle.loads(data))
    value = (Point(1, 2), [Colour.RED, Level.HIGH], {"x": OrderedDict(a=1)})
    back = through(value, near, far)
    assert back == value
    assert [type(back[0]), type(back[1][0]), type(back[1][1]), type(back[2]["x"])] == [
        Point,
        Colour,
        Level,
        OrderedDict,
    ]


def test_dataclasses_are_made_of_known_classes_only() -> None:
    known = Values(classes={class_name(cls): cls for cls in (Box, Frozen)})
    value = Box(1, [Frozen("a", [Box(2, b"x")]), {"k": Frozen()}])
    assert through(value, far=known) == value
    with pytest.raises(CodecError, match=r"dataclass .*Box.* is not known"):
        through(value)
    with pytest.raises(CodecError, match="is not known"):
        through([Frozen()], far=Values(classes={class_name(Box): Box}))


@pytest.mark.parametrize("state", ['{"left":1}', '{"left":1,"inside":2,"more":3}', "[]", '{"left":1,"_inside":2}'])
def test_fields_of_a_dataclass_must_agree(state) -> None:
    known = Values(classes={class_name(Box): Box})
    with pytest.raises(CodecError):
        known.decode("tree", f'["dataclass","{class_name(Box)}",{state}]'.encode(), [])


def test_making_a_dataclass_runs_none_of_its_code() -> None:
    ran = []

    @dataclass
    class Loud:
        left: int

        def __post_init__(self) -> None:
            ran.append(self)

    known = Values(classes={class_name(Loud): Loud})
    back = known.decode("tree", f'["dataclass","{class_name(Loud)}",{{"left":1}}]'.encode(), [])
    assert (back.left, ran) == (1, [])


def test_the_object_itself_is_a_reference() -> None:
    mine, theirs = object(), object()
    near, far = Values(itself=mine), Values(itself=theirs)
    assert through(mine, near, far) is theirs
    assert through([mine, {"a": mine}], near, far) == [theirs, {"a": theirs}]


def nest(depth: int, wrap):
    value = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1: v}, lambda v: Box(1, v)]
)
def test_depth_is_bounded(wrap) -> None:
    known = Values(classes={class_name(Box): Box})
    assert through(nest(MAX_DEPTH, wrap), far=known) == nest(MAX_DEPTH, wrap)
    with pytest.raises(CodecError, match="deeper than 64"):
        Values().encode(nest(MAX_DEPTH + 1, wrap))


def test_what_contains_itself_is_refused() -> None:
    value: list = []
    value.append({"me": value})
    with pytest.raises(CodecError, match="contains itself"):
        Values().encode(value)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 100_000, b'["list",' * 65 + b"1" + b"]" * 65])
def test_depth_is_bounded_on_the_way_in(text) -> None:
    for meta, buffers in ((text, []), (b"", [text])):
        with pytest.raises(CodecError):
            Values().decode("tree", meta, buffers)


def test_what_would_cost_its_reader_far_more_memory_than_its_bytes_is_refused() -> None:
    crowd = b'["list"' + b",{}" * (MAX_PARTS + 1) + b"]"
    tracemalloc.start()
    try:
        for codec in ("tree", "json"):
            for text in (crowd, b" " * 100 + crowd):
                with pytest.raises(CodecError):
                    Values().decode(codec, b"", [text])
        assert tracemalloc.get_traced_memory()[1] < 10 * len(crowd)
    finally:
        tracemalloc.stop()
    with pytest.raises(CodecError, match="more than 2097152 parts"):
        Values().encode([0] * (MAX_PARTS + 1))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_is_utf_8(encoding) -> None:
    for codec in ("json", "tree"):
        with pytest.raises(CodecError):
            Values().decode(codec, '["list",{}]'.encode(encoding), [])


def test_commas_of_a_text_are_no_parts() -> None:
    table = {"table": ',[{"\\' * (MAX_PARTS // 2)}
    assert through(table) == table


def test_values_without_a_codec_are_named() -> None:
    class Custom:
        pass

    for value in (Custom(), [Custom()], {"a": (Custom(),)}, Box(1, Custom())):
        with pytest.raises(CodecError, match="Custom"):
            Values().encode(value)
    with pytest.raises(CodecError, match="digits"):
        Values().encode([10**5000])


def test_pickles_are_not_loaded_on_the_callers_side() -> None:
    data = cloudpickle.dumps(Point(1, 2))
    for codec, meta in (("pickle", b""), ("tree", b'["leaf","pickle","",0,1]')):
        with pytest.raises(CodecError, match="not loaded outside of a sandbox"):
            Values().decode(codec, meta, [data])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.tuples(
            st.sampled_from(["leaf", "complex", "self", "dataclass", "list", "tuple", "set", "frozenset", "dict"]),
            st.lists(inner | st.sampled_from(["bytes", "json", "tree", "pickle", ""]), max_size=4),
        ).map(lambda pair: [pair[0], *pair[1]])
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    JSON, st.lists(st.binary(max_size=10), max_size=3), st.sampled_from(["tree", "json", "bytes", "pickle", "x.y", ""])
)
def test_any_metadata_is_a_value_or_a_codec_error(tree, buffers, codec) -> None:
    import json

    known = Values(classes={class_name(Box): Box})
    for meta in (json.dumps(tree).encode(), b"", bytes(buffers[0]) if buffers else b"\xff"):
        try:
            known.decode(codec, meta, [memoryview(buffer) for buffer in buffers])
        except CodecError:
            continue


@given(st.binary(max_size=100), st.lists(st.binary(max_size=30), max_size=3))
def test_any_bytes_are_a_value_or_a_codec_error(meta, buffers) -> None:
    for codec in (
        "json",
        "tree",
        "bytes",
        "numpy.ndarray",
        "numpy.scalar",
        "av.VideoFrame",
        "av.AudioFrame",
        "av.Packet",
    ):
        try:
            Values().decode(codec, meta, [memoryview(buffer) for buffer in buffers])
        except CodecError:
            continue


def test_a_tree_uses_each_buffer_once() -> None:
    big = memoryview(bytes(1 << 20))
    text = b'["list",' + b",".join([b'["leaf","bytes","",0,1]'] * 10_000) + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="out of order"):
            Values().decode("tree", text, [big])
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


# The registry.


def test_names_of_codecs_that_nobody_has_are_not_kept() -> None:
    registry = Registry()
    for number in range(2000):
        with pytest.raises(CodecError, match="unknown codec"):
            registry.decode(f"{number}{'x' * 100}.y", b"", [])
    assert all(len(kept) < 100 for kept in vars(registry).values() if isinstance(kept, Sized))


def test_a_codec_may_be_added_once() -> None:
    class Own:
        pass

    registry = Registry()
    codec = Codec("own.thing", (Own,), lambda value: (b"m", [b"b"]), lambda meta, buffers: Own())
    registry.register(codec)
    registry.register(codec)
    with pytest.raises(CodecError, match="registered already"):
        registry.register(Codec("own.thing", (Own,), codec.encode, codec.decode))
    values = Values(registry=registry)
    assert isinstance(through([Own()], values, values)[0], Own)


def test_a_codec_that_breaks_is_named() -> None:
    def broken(meta, buffers):
        raise KeyError("width")

    registry = Registry()
    registry.register(Codec("own.thing", (), lambda value: (b"", []), broken))
    with pytest.raises(CodecError, match=r"own\.thing.*width"):
        registry.decode("own.thing", b"", [])
