"""Trees of plain values at their edges: views, half-made dataclasses, text that looks like tags, hostile trees."""

import json
import random
import tracemalloc
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from time import process_time
from uuid import UUID

import pytest

from avlab.core import tree
from avlab.core.errors import CodecError
from avlab.core.message import ItemMessage
from avlab.core.tree import MAX_DEPTH, Values, class_name
from avlab.core.wire import decode_batch, encode_batch

TAGS = ["list", "tuple", "set", "frozenset", "dict", "complex", "self", "NotImplemented", "dataclass", "leaf", "made", "enum"]


class Color(Enum):
    RED = (1, 2)


class Access(Flag):
    READ = 1
    WRITE = 2


class Level(IntEnum):
    HIGH = 3


class Name(StrEnum):
    ONE = "one"


@dataclass
class Pair:
    left: object
    right: object = field(init=False)


def over_the_wire(value, far: Values | None = None):
    codec, meta, buffers = Values().encode(value)
    (message,) = decode_batch(encode_batch([ItemMessage(1, codec=codec, meta=meta, buffers=buffers)]))
    return (far or Values()).decode(message.codec, message.meta, message.buffers)


@pytest.mark.parametrize("tag", TAGS)
def test_data_that_looks_like_a_tag_stays_data(tag) -> None:
    for value in (
        [tag],
        [tag, 1],
        [[tag, "bytes", "", 0, 1]],
        {tag: [tag]},
        {1: [tag]},
        (tag, [tag, {}]),
        {(tag, tag)},
    ):
        assert over_the_wire(value) == value


@pytest.mark.parametrize("wrap", [lambda view: view, lambda view: [view], lambda view: {"a": (view,)}], ids=range(3))
def test_scattered_views_travel_as_their_bytes(wrap) -> None:
    view = memoryview(b"abcdef")[::2]
    assert over_the_wire(wrap(view)) == wrap(b"ace")
    assert over_the_wire(wrap(memoryview(b"abcdef")[::-1])) == wrap(b"fedcba")


def test_views_of_words_travel_as_their_bytes() -> None:
    assert over_the_wire(memoryview(b"abcdefgh").cast("I")) == b"abcdefgh"
    assert over_the_wire([memoryview(b"abcdef").cast("B", (2, 3))]) == [b"abcdef"]


def test_a_dataclass_that_lacks_a_value_is_refused() -> None:
    for value in (Pair(1), [Pair(1)], {"a": Pair(Pair(2))}):
        with pytest.raises(CodecError, match=r"Pair lacks the value of a field: .*right"):
            Values().encode(value)


def test_a_broken_codec_inside_of_a_dataclass_is_not_mistaken_for_a_lacking_field() -> None:
    pair = Pair(1)
    pair.right = object()
    with pytest.raises(CodecError, match=r"builtins\.object cannot travel"):
        Values().encode(pair)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"[1,[2]]", b'{"a":1}', b"[" * 900 + b"]" * 900])
def test_plain_json_holds_no_containers(text) -> None:
    """They would come in untagged, and deeper than anything that is sent."""
    leaf = json.dumps(["list", ["leaf", "json", text.decode(), 0, 0]]).encode()
    for codec, meta, buffers in (("json", text, []), ("json", b"", [text]), ("tree", leaf, [])):
        with pytest.raises(CodecError, match="container"):
            Values().decode(codec, meta, buffers)


def test_not_implemented_stays_what_it_is() -> None:
    assert over_the_wire(NotImplemented) is NotImplemented
    assert over_the_wire([NotImplemented])[0] is NotImplemented


@pytest.mark.parametrize(
    "value",
    [
        Fraction(-1, 3),
        Decimal("1.50"),
        Decimal("NaN"),
        datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
        datetime.min,
        date(2020, 2, 29),
        time(23, 59, 1),
        timedelta(days=-1, microseconds=7),
        UUID(int=3),
        Path("/a/b"),
        PureWindowsPath("c:/d"),
        range(1, 9, -2),
        slice(None, 3, (1,)),
        ...,
        deque([1, "a", (2,)], maxlen=3),
    ],
    ids=repr,
)
def test_ordinary_values_of_the_standard_library_stay_what_they_are(value) -> None:
    for wrapped in (value, [value], {"a": (value,)}):
        back = over_the_wire(wrapped)
        assert repr(back) == repr(wrapped)
        assert type(back) is type(wrapped)


def test_views_of_mappings_travel_as_lists() -> None:
    given = OrderedDict(a=1, b=2)
    assert over_the_wire([given.keys(), {1: 2}.values(), {1: 2}.items()]) == [["a", "b"], [2], [(1, 2)]]
    assert over_the_wire({"a": 1}.keys()) == ["a"]


def test_enumerations_that_the_session_knows_come_back_as_members() -> None:
    far = Values(classes={class_name(cls): cls for cls in (Color, Access, Level, Name)})
    for value in (Color.RED, Access.READ | Access.WRITE, Access(0), Level.HIGH, Name.ONE, [Color.RED, {"a": Level.HIGH}]):
        back = over_the_wire(value, far)
        assert back == value
        assert type(back) is type(value)


def test_enumerations_that_it_does_not_know_are_plain_or_refused() -> None:
    back = over_the_wire([Level.HIGH, Name.ONE])
    assert (back, list(map(type, back))) == ([3, "one"], [int, str])
    with pytest.raises(CodecError, match="Color' is not known to this session"):
        over_the_wire(Color.RED)


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["made"],
        ["made", "builtins.eval", "1"],
        ["made", "datetime.datetime.now"],
        ["made", ["list"], 1],
        ["made", "fractions.Fraction", 1, 0],
        ["made", "fractions.Fraction", "1/0"],
        ["made", "fractions.Fraction", ["list"]],
        ["made", "fractions.Fraction", "1e5"],  # and "1e999999999" would take hours and all memory
        ["made", "fractions.Fraction", 1],
        ["made", "fractions.Fraction", 1, None],
        ["made", "decimal.Decimal", "no number"],
        ["made", "decimal.Decimal", ["list", 0, 1]],
        ["made", "datetime.datetime", "yesterday"],
        ["made", "datetime.datetime"],
        ["made", "datetime.timedelta", 10**300],
        ["made", "uuid.UUID", "x"],
        ["made", "builtins.range", 1, 2, 0],
        ["made", "builtins.range", 1.5],
        ["made", "builtins.slice"],
        ["made", "uuid.UUID", None, None, None, None, 5],
        ["made", "pathlib.PosixPath", "a", "b"],
        ["made", "collections.deque", 5],
        ["made", "collections.deque", "text", None],
        ["made", "collections.deque", ["made", "builtins.range", 0, 9, 1], None],  # and 10**12 would fill memory
        ["made", "collections.deque", ["list"], -1],
        ["made", "pathlib.PosixPath", {}],
        ["enum"],
        ["enum", class_name(Color), "BLUE", None],
        ["enum", class_name(Color), ["list"], None],
        ["enum", class_name(Color), "__class__", None],
        ["enum", class_name(Access), "READ", 8],
        ["enum", class_name(Access), "READ", None],
        ["enum", class_name(Access), "READ", {}],
        ["enum", class_name(Pair), "left", None],
        ["enum", "x:Y", "A", None],
        ["enum", [], "A", 1],
        ["dataclass", class_name(Color), {}],
        [[]],
        [None],
        [["list"]],
        [{}],
        ["list", []],
        ["nothing"],
        ["LIST", 1],
        ["dict", 1],
        ["dict", ["list"], 1],
        ["set", ["list"]],
        ["frozenset", {}],
        ["complex"],
        ["complex", "1e5j"],
        ["complex", "x", 1],
        ["complex", 1, 2, 3],
        ["complex", 10**400, 0],
        ["dataclass"],
        ["dataclass", "x:Y", {}],
        ["dataclass", ["x"], {}],
        ["dataclass", 5, {}],
        ["dataclass", class_name(Pair), []],
        ["dataclass", class_name(Pair), {}],
        ["dataclass", class_name(Pair), {"left": 1, "right": 2, "__class__": 3}],
        ["leaf"],
        ["leaf", "bytes", "", 0],
        ["leaf", "bytes", "", 0, 2],
        ["leaf", "bytes", "", 1, 1],
        ["leaf", "bytes", "", -1, 1],
        ["leaf", "bytes", "", 0, -1],
        ["leaf", "bytes", "", 0, 1 << 70],
        ["leaf", "bytes", "", 0, 1.0],
        ["leaf", "bytes", "", None, None],
        ["leaf", "bytes", "", "0", "1"],
        ["leaf", "bytes", 5, 0, 1],
        ["leaf", "json", "\u20ac", 0, 0],
        ["leaf", "tree", "1", 0, 0],
        ["leaf", "pickle", "", 0, 1],
        ["leaf", [], "", 0, 1],
        ["leaf", {}, "", 0, 1],
        ["leaf", None, "", 0, 1],
        ["leaf", "", "", 0, 1],
        ["list", ["leaf", "bytes", "", 0, 1], ["leaf", "bytes", "", 0, 1]],
    ],
    ids=json.dumps,
)
def test_hostile_trees_are_refused(given) -> None:
    values = Values(classes={class_name(cls): cls for cls in (Pair, Color, Access)})
    for node in (given, {"k": given}, ["tuple", given]):
        with pytest.raises(CodecError):
            values.decode("tree", json.dumps(node).encode(), [b"data"])


@pytest.mark.parametrize("opening", ['["list",', '["tuple",', '["dict",1,', '{"k":'])
def test_nesting_is_bounded_where_it_is_read(opening) -> None:
    closing = "}" if opening[0] == "{" else "]"
    deepest = f"{opening * MAX_DEPTH}1{closing * MAX_DEPTH}".encode()
    Values().decode("tree", deepest, [])
    for depth in (MAX_DEPTH + 1, 900, 50_000):
        with pytest.raises(CodecError):
            Values().decode("tree", f"{opening * depth}1{closing * depth}".encode(), [])


def test_random_trees_are_values_or_a_codec_error() -> None:
    dice = random.Random(2)
    values = Values(classes={class_name(Pair): Pair})
    words = [*TAGS, "bytes", "json", "numpy.ndarray", "tree", class_name(Pair), "", 0, 1, -1, 2.5, None, True]

    def grown(depth: int):
        shape = dice.random()
        if depth > 4 or shape < 0.3:
            return dice.choice(words)
        if shape < 0.45:
            return {dice.choice(["left", "right", "k"]): grown(depth + 1) for _ in range(dice.randrange(3))}
        return [dice.choice(TAGS), *[grown(depth + 1) for _ in range(dice.randrange(5))]]

    made = 0
    for _ in range(6000):
        text = json.dumps(grown(0)).encode()
        if dice.random() < 0.2:
            text = text[: dice.randrange(len(text))]
        try:
            values.decode("tree", text, [b"one", b"two"])
            made += 1
        except CodecError:
            continue
    assert 0 < made < 6000


def test_one_buffer_named_many_times_fills_no_memory() -> None:
    leaf = '["leaf","bytes","",0,1]'
    text = f'["list",{",".join([leaf] * 1000)}]'.encode()
    big = bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="out of order"):
            Values().decode("tree", text, [big])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def seconds_of(text: bytes, expected: str) -> float:
    began = process_time()
    with pytest.raises(CodecError, match=expected):
        Values().decode("tree", b"", [text])
    return process_time() - began


def test_a_text_that_never_ends_is_read_once(monkeypatch) -> None:
    """A pattern that begins anew at each of its quotes would take a minute for this, and days for the largest one."""
    monkeypatch.setattr(tree, "MAX_PARTS", 1000)
    assert seconds_of(b'["' + b',\\"' * 50_000, "not JSON") < 10
    assert seconds_of(b'["' + b",\\" * 50_000, "not JSON") < 10
    assert over_the_wire(["a,[{\\\"" * 1000, "\n,"]) == ["a,[{\\\"" * 1000, "\n,"]
    with pytest.raises(CodecError, match="parts"):
        Values().decode("tree", b"", [json.dumps(["list", *['"\\'] * 1001]).encode()])


@pytest.mark.parametrize("tag", ["set", "frozenset", "dict"])
def test_keys_of_one_hash_are_few(tag) -> None:
    """Each is compared with all before it: these would take half a minute, and the most that fit into an item hours."""
    alike = [key * ((1 << 61) - 1) for key in range(60_000)]
    values = alike if tag != "dict" else [each for key in alike for each in (key, 0)]
    assert seconds_of(json.dumps([tag, *values]).encode(), "one hash") < 10
    assert over_the_wire(set(alike[:50])) == set(alike[:50])
    assert over_the_wire(set(range(100_000))) == set(range(100_000))


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: ["tuple", each, 1]], ids=["sets", "tuples"])
def test_keys_of_one_hash_do_not_multiply_where_sets_lie_in_sets(wrap) -> None:
    """Sixty-four of each on three levels are 6 MB, and took more than an hour; then the next value comes."""
    most = [5 + n * ((1 << 61) - 1) for n in range(23)]
    sets = [["frozenset", *most, 5 + (100 + n) * ((1 << 61) - 1)] for n in range(24 * 24)]
    rows = [wrap(["frozenset", *map(wrap, sets[n : n + 24])]) for n in range(0, len(sets), 24)]
    with pytest.raises(CodecError, match="takes too long"):
        Values().decode("tree", json.dumps(["frozenset", *rows]).encode(), [])
    with pytest.raises(CodecError, match="takes too long"):
        Values().decode("tree", json.dumps(["dict", *[x for row in rows for x in (row, 0)]]).encode(), [])


def test_keys_that_happen_to_have_one_hash_are_no_harm() -> None:
    """-1 and -2 have, and so do tuples and sets of them."""
    grid = {(x, y, z) for x in range(-9, 9) for y in range(-9, 9) for z in range(-9, 9)}
    assert over_the_wire(grid) == grid
    edges = {frozenset((x, y)) for x in range(-20, 20) for y in range(-20, 20)}
    assert over_the_wire(edges) == edges
    assert over_the_wire({(edge, 1): 0 for edge in edges}) == {(edge, 1): 0 for edge in edges}


def test_paths_of_very_many_pieces_are_refused() -> None:
    """Each piece is text of its own: 40 MB of them took most of a minute and a gigabyte."""
    path = Path("/".join(["a"] * 1000))
    assert over_the_wire([path] * 100) == [path] * 100
    with pytest.raises(CodecError, match="pieces of paths"):
        Values().decode("tree", b"", [json.dumps(["made", "pathlib.PosixPath", "/" * 2_200_000]).encode()])


def test_combinations_of_a_flag_that_its_class_keeps_are_bounded() -> None:
    class Kept(IntFlag):
        A = 1

    far = Values(classes={"kept": Kept})
    many = json.dumps(["list", *[["enum", "kept", None, 1 << 40 | n] for n in range(tree.MAX_MEMBERS + 1)]]).encode()
    with pytest.raises(CodecError, match="combinations"):
        far.decode("tree", b"", [many])
    assert far.decode("tree", b'["enum","kept","A",1]', []) is Kept.A
