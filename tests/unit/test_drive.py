"""drive: every shape, errors with node and item, flush, sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.drive import accepts, close_node, drive, open_node, produced
from avlab.core.errors import AvlabError, MediaError, NodeError, blame, remote_error
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.core.portal import portal


class Twice(Node):
    def process(self, value):
        return value * 2


class TwiceLater(Node):
    async def process(self, value):
        return value * 2


class Each(Node):
    def process(self, value):
        yield from range(value)


class EachLater(Node):
    async def process(self, value):
        for i in range(value):
            yield i


class Holding(Node):
    def open(self):
        self.held = []

    def process(self, value):
        self.held.append(value)

    def flush(self):
        return self.held


class HoldingLater(Holding):
    async def flush(self):
        for value in self.held:
            yield value


def driven(node, values):
    """What drive emits: (value, last) pairs."""
    emitted = []
    open_node(node, portal.call)
    items = [Item(value, pts, track="t", seq=pts) for pts, value in enumerate(values)]
    drive(node, items, lambda result, last: emitted.append((result and result.value, last)), portal.call)
    close_node(node, portal.call)
    return emitted


@pytest.mark.parametrize("node", [Twice(), TwiceLater()])
def test_one_result_for_each_item(node):
    assert driven(node, [1, 2]) == [(2, True), (4, True), (None, True)]


@pytest.mark.parametrize("node", [Each(), EachLater()])
def test_many_results_then_the_last_mark(node):
    assert driven(node, [2, 0]) == [(0, False), (1, False), (None, True), (None, True), (None, True)]


@pytest.mark.parametrize("node", [Holding(), HoldingLater()])
def test_flush_comes_at_the_end(node):
    assert driven(node, ["a", "b"]) == [(None, True), (None, True), ("a", False), ("b", False), (None, True)]


@given(st.lists(st.integers(0, 3), max_size=6))
def test_generators_are_pulled_one_result_at_a_time(values):
    order = []

    class Watched(Node):
        def process(self, value):
            for i in range(value):
                order.append("made")
                yield i

    drive(Watched(), [Item(v) for v in values], lambda r, last: order.append("sent") if r else None, portal.call)
    assert order == ["made", "sent"] * sum(values)


def test_flushed_results_take_the_last_items_time():
    got = []
    node = Holding()
    node.open()
    drive(node, [Item("a", 7, track="t"), Item("b", 9, track="t")], lambda r, last: r and got.append(r), portal.call)
    assert [(item.pts, item.track) for item in got] == [(9, "t"), (9, "t")]


class Breaking(Node):
    error: object = None
    at: int = 2

    def process(self, value):
        if value == self.at:
            raise self.error
        return value


class BreakingGenerator(Breaking):
    def process(self, value):
        yield value
        Breaking.process(self, value)


class BreakingLater(Breaking):
    async def process(self, value):
        return Breaking.process(self, value)


@pytest.mark.parametrize("cls", [Breaking, BreakingGenerator, BreakingLater])
def test_an_error_names_node_item_and_track(cls):
    original = KeyError("gone")
    seen = []
    with pytest.raises(NodeError, match=rf"{cls.__name__}\.process, item 2 of track 't'") as caught:
        drive(cls(error=original), items := [Item(i, i, track="t", seq=i) for i in range(5)],
              lambda r, last: r and seen.append(r.value), portal.call)  # fmt: skip
    assert isinstance(caught.value, KeyError)
    assert (caught.value.node, caught.value.item) == (cls.__name__, 2)
    assert caught.value.__cause__ is original
    assert seen[:2] == [item.value for item in items[:2]]


def test_avlabs_own_errors_stay_themselves_with_their_cause():
    cause = OSError("disk")
    original = MediaError("no frame")
    original.__cause__ = cause
    with pytest.raises(MediaError) as caught:
        drive(Breaking(error=original), [Item(2, seq=5)], lambda r, last: None, portal.call)
    assert caught.value is original
    assert caught.value.__cause__ is cause
    assert caught.value.__notes__ == ["in Breaking.process, item 5"]


def test_a_remote_error_names_the_place_beside_the_traceback_from_over_there():
    original = remote_error("ValueError", "ValueError", "no", "Traceback (most recent call last):\nValueError: no\n")
    with pytest.raises(ValueError, match="no") as caught:
        drive(Breaking(error=original), [Item(2, seq=5)], lambda r, last: None, portal.call)
    assert caught.value.__notes__ == [
        "over there:\nTraceback (most recent call last):\nValueError: no",  # what a script shows
        "in Breaking.process, item 5",
    ]


@pytest.mark.parametrize("method", ["open", "close", "flush"])
def test_errors_outside_of_items_name_the_method(method):
    def fail(self):
        raise ValueError("no")

    node = type("Bad", (Twice,), {method: fail})()
    with pytest.raises(ValueError, match=rf"in Bad\.{method}"):
        driven(node, [1])


@pytest.mark.parametrize("base", [OSError, UnicodeDecodeError, KeyError, ArithmeticError, StopAsyncIteration])
def test_errors_stay_what_they_were(base):
    error = UnicodeDecodeError("utf-8", b"x", 0, 1, "bad") if base is UnicodeDecodeError else base("text")
    with pytest.raises(AvlabError) as caught:
        drive(Breaking(error=error), [Item(2)], lambda r, last: None, portal.call)
    assert isinstance(caught.value, base) or base is StopAsyncIteration
    assert "Breaking.process, item 0" in str(caught.value)


class Counting(Node):
    values: object = ()

    def items(self):
        yield from self.values


class CountingLater(Counting):
    async def items(self):
        for value in self.values:
            yield value


@pytest.mark.parametrize("cls", [Counting, CountingLater])
def test_sources_number_items_per_track(cls):
    source = cls(values=["a", Item("b", track="v"), "c", Item("d", track="v"), Item("e", track="v", seq=9)])
    assert [(i.value, i.track, i.seq) for i in produced(source, portal.call)] == [
        ("a", "", 0), ("b", "v", 0), ("c", "", 1), ("d", "v", 1), ("e", "v", 9),
    ]  # fmt: skip


def test_a_source_that_breaks_is_named():
    def values():
        yield 1
        raise OSError("unplugged")

    items = produced(Counting(values=values()), portal.call)
    assert next(items).value == 1
    with pytest.raises(OSError, match=r"unplugged \(in Counting\.items\)"):
        next(items)


def test_accepts():
    class Ints(Node):
        def process(self, value: int): ...

    assert accepts(Ints())(3)
    assert not accepts(Ints())("3")
    assert accepts(Twice())("anything")


def test_a_group_that_a_node_raises_is_caught_by_its_members() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        blame(object(), None, ExceptionGroup("both", [ValueError("a"), KeyError("b")]))
    assert isinstance(caught.value, NodeError)
    assert str(caught.value) == "both (in object.process) (2 sub-exceptions)"
    assert caught.value.split(KeyError)[0].exceptions[0].args == ("b",)
