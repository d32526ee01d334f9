"""Building pipelines: structure, routing by type, tee, validation."""

import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import ConfigError, PipelineError
from avlab.core.item import Item
from avlab.core.node import Node, join, node
from avlab.flow.graph import Pipeline, tee


class Add(Node):
    amount: int = 1

    def process(self, value: int) -> int:
        return value + self.amount


class Upper(Node):
    def process(self, value: str) -> str:
        return value.upper()


class Any_(Node):
    def process(self, value: Any):
        return value


class Unsaid(Node):
    def process(self, value):
        return value


class Repeat(Node):
    times: int = 2

    def process(self, value: int):
        for _ in range(self.times):
            yield value


class AddLater(Add):
    async def process(self, value: int) -> int:
        return value + self.amount


class RepeatLater(Repeat):
    async def process(self, value: int):
        for _ in range(self.times):
            yield value


class Ahead(Node):
    """A STREAM node that pulls from a thread of its own, some items ahead, as a link does."""

    consumes = (int,)

    def stream(self, items):
        results, room, error = [], threading.Condition(), []

        def pull():
            for item in items:
                with room:
                    room.wait_for(lambda: len(results) < 3)
                    results.append(Item(item.value + 1, item.pts, item.time_base, item.track, item.seq, item.stamps))
                    room.notify_all()
            with room:
                results.append(None)
                room.notify_all()

        thread = threading.Thread(target=pull, name="test:ahead")
        thread.start()
        while True:
            with room:
                room.wait_for(lambda: results)
                result = results.pop(0)
                room.notify_all()
            if result is None:
                break
            yield result
        thread.join()
        assert not error


class Mixed(Node):
    """A source that says what it makes."""

    produces = (int, str)

    def __init__(self, values=()):
        self.values = values

    def items(self):
        yield from self.values


class Keep(Node):
    def open(self):
        self.kept = []

    def process(self, item: Item) -> None:
        self.kept.append(item.value)


def values(*nodes, **options):
    return [item.value for item in Pipeline(list(nodes), **options).iterate()]


def test_every_way_to_write_a_pipeline():
    keep = Keep()
    for pipeline in (
        Pipeline([[1, 2], Add(), keep]),
        [1, 2] >> Add() >> keep,
        Pipeline([[1, 2]]) >> Add() >> keep,
        [1, 2] >> (Add(amount=0) >> Add()) >> keep,
        [1, 2] >> Pipeline([Add(), Pipeline([keep])]),
        Pipeline([[1, 2], [Add(), keep]]),
    ):
        pipeline.run()
        assert keep.kept == [2, 3]
    assert repr([1] >> Add() >> Add(amount=2) >> keep) == "list >> Add() >> Add(amount=2) >> Keep()"


def test_plain_objects_and_proxies_are_nodes():
    class Plain:
        def process(self, value):
            return value * 2

    class Proxy:
        def __init__(self):
            self.real = Add(amount=100)

        def __avlab_node__(self):
            return self.real

        def process(self, value):
            raise AssertionError("the proxy itself must not run")

    assert values([1, 2], Plain(), Proxy()) == [102, 104]


async def _later(values):
    for value in values:
        yield value


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        lambda v: range(len(v)),
        iter,
        lambda v: (x for x in v),
        _later,
        lambda v: dict.fromkeys(v),
    ],
)
def test_any_iterable_is_a_source(make):
    assert values(make([0, 1, 2]), Add()) == [1, 2, 3]


def test_an_iterator_can_be_read_once():
    pipeline = Pipeline([iter([1, 2]), Add()])
    assert [item.value for item in pipeline.iterate()] == [2, 3]
    with pytest.raises(PipelineError, match="was read by an earlier run"):
        list(pipeline.iterate())


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([[1], Add], r"Add is a class: put an instance, Add\(\)"),
        ([Mixed, Add()], r"Mixed is a class"),
        ([[1], 3], "3 is not a node"),
        (["a.mp4", Add()], r"did you mean FileSource\('a.mp4'\)"),
        ([[1], print], r"is a function, not a node: put @avlab.node above it and use print\(\)"),
        ([[1], lambda value: value], "is a function, not a node: write avlab.node"),
        ([[1], Add(), Mixed()], "can only be the first"),
        ([tee(Mixed(), Add())], "can only be the first"),
    ],
)
def test_what_cannot_be_in_a_pipeline(nodes, message):
    with pytest.raises(PipelineError, match=message):
        Pipeline(nodes)


def test_one_node_in_two_places():
    both = Add()
    with pytest.raises(PipelineError, match=r"the same Add\(\) is twice"):
        Pipeline([[1], both, both])
    with pytest.raises(PipelineError, match="is twice"):
        Pipeline([[1], tee(both, both)])


@pytest.mark.parametrize("nodes", [[], [Add()], [tee(Add())]])
def test_running_without_a_source(nodes):
    with pytest.raises(PipelineError, match="put a source"):
        Pipeline(nodes).run()


def test_capacity_is_checked():
    with pytest.raises(ConfigError, match="capacity=0"):
        Pipeline([[1]], capacity=0)


def test_empty_tee():
    with pytest.raises(PipelineError, match="at least one branch"):
        tee()


# Types along the edges.


def test_the_bad_edge_is_named():
    class Words(Mixed):
        produces = (str,)

    with pytest.raises(PipelineError, match="Words → Add: Add consumes int, but only str arrives there"):
        Words() >> Add()
    with pytest.raises(PipelineError, match="Upper → Add: Add consumes int, but only str arrives"):
        Words() >> Upper() >> Add()
    with pytest.raises(PipelineError, match="Upper → Add"):
        Words() >> tee(Upper()) >> Add()


def test_an_unannotated_node_with_several_types_is_named():
    with pytest.raises(PipelineError, match=r"Mixed → Unsaid: Unsaid\.process does not say.*int and str arrive"):
        Mixed() >> Unsaid()
    with pytest.raises(PipelineError, match="Add, Upper → Unsaid"):
        Mixed() >> tee(Add(), Upper()) >> Unsaid()
    Mixed() >> Any_() >> Unsaid()  # nobody knows what Any_ makes: no check
    [1, "a"] >> Unsaid()


def test_a_sink_makes_nothing():
    with pytest.raises(PipelineError, match="Keep → Add: Add consumes int, but nothing arrives"):
        Mixed() >> Keep() >> Add()


def test_a_sink_makes_nothing_of_unknown_values_either():
    with pytest.raises(PipelineError, match="Keep → Add: Add consumes int, but nothing arrives"):
        [1] >> Keep() >> Add()


def test_a_node_may_make_something_at_the_end_only():
    class Total(Keep):
        def flush(self):
            return 3

    Mixed() >> Total() >> Add()
    [1] >> Total() >> Add()


def test_subclasses_fit():
    class Flags(Mixed):
        produces = (bool,)

    class Things(Mixed):
        produces = (object,)

    Flags() >> Add()
    Things() >> Add()


def test_a_source_that_cannot_tell_yet_is_checked_when_it_runs():
    class Missing(Mixed):
        found = False

        @property
        def produces(self):
            if not self.found:
                raise FileNotFoundError("not written yet")
            return (str,)

    source = Missing(["a"])
    pipeline = source >> Add()
    source.found = True
    with pytest.raises(PipelineError, match="Missing → Add"):
        pipeline.run()


# Routing.

SHAPES = [Add, AddLater, lambda: Repeat(times=1), lambda: RepeatLater(times=1), Ahead, Upper, Any_]
TRACKED = st.lists(st.tuples(st.sampled_from(["number", "text"]), st.integers(0, 99)), max_size=30)


@given(TRACKED, st.lists(st.sampled_from(SHAPES), max_size=5), st.integers(1, 4))
def test_order_is_kept_per_track_through_any_nodes(given_items, makes, capacity):
    made = [make() for make in makes]
    items = [Item(n if track == "number" else str(n), i, track=track) for i, (track, n) in enumerate(given_items)]
    added = sum(isinstance(each, Add | Ahead) for each in made)
    got = list(Pipeline([items, *made], capacity=capacity).iterate())
    for track in ("number", "text"):
        mine = [item for item in got if item.track == track]
        sent = [item for item in items if item.track == track]
        assert [item.pts for item in mine] == [item.pts for item in sent]
        assert [item.seq for item in mine] == list(range(len(sent)))
    assert [i.value for i in got if i.track == "number"] == [i.value + added for i in items if i.track == "number"]


@given(st.lists(st.integers() | st.text(max_size=3), max_size=30))
def test_function_nodes_keep_the_order_of_a_mixed_track(given_values):
    expected = [v + 1 if isinstance(v, int) else v.upper() for v in given_values]
    assert values(list(given_values), Add(), Upper()) == expected


def test_what_is_not_consumed_never_enters():
    class Strict(Node):
        consumes = (int,)
        seen: Any = None

        def stream(self, items):
            for item in items:
                assert type(item.value) is int
                yield item

    assert Counter(values([1, "a", 2.5, 2], Strict())) == Counter([1, "a", 2.5, 2])


@given(st.lists(st.integers(), max_size=20), st.integers(1, 3), st.booleans())
def test_tee_gives_every_item_to_every_branch(numbers, branches, passing):
    made = [[Add(amount=10**6 * n)] for n in range(1, branches + 1)] + [[]] * passing
    got = values(list(numbers), tee(*made), Any_())
    amounts = [10**6 * n for n in range(1, branches + 1)] + [0] * passing
    assert Counter(got) == Counter(v + a for v in numbers for a in amounts)
    if branches == 1 and not passing:
        assert got == [v + 10**6 for v in numbers]


def test_a_tee_at_the_end_ends_in_its_branches():
    left, right = Keep(), Keep()
    result = ([1, 2, 3] >> tee(Add() >> left, [Add(amount=5), right])).run()
    assert (left.kept, right.kept) == ([2, 3, 4], [6, 7, 8])
    assert sum(result.items.values()) == 6


def test_tees_nest():
    got = values([1], tee([], tee([], Add()) >> Any_()), Any_())
    assert Counter(got) == Counter([1, 1, 2])


def test_remote_nodes_are_placed_when_the_run_starts(monkeypatch):
    placed = []

    def place(given, config):
        placed.append((given, config))
        return Ahead()

    monkeypatch.setattr(join, "place", place)
    remote = Add(amount=1, remote="there")
    pipeline = Pipeline([[1, 2], remote])
    assert not placed
    assert [item.value for item in pipeline.iterate()] == [2, 3]
    assert placed == [(remote, "there")]


def test_a_live_source_tells_stream_nodes():
    class Live(Mixed):
        live = True

    class Link(Ahead):
        live = None

    link = Link()
    Pipeline([Live([1]), link]).run()
    assert link.live is True


def test_fusing_keeps_each_nodes_own_flush_and_order():
    class Delay(Node):
        """Gives each item one later."""

        def open(self):
            self.held = None

        def process(self, value: int):
            self.held, out = value, self.held
            return out

        def flush(self):
            return self.held

    assert values([1, 2, 3], Delay(), Delay(), Add(), Delay()) == [2, 3, 4]


def test_function_nodes_share_a_thread_unless_they_say_otherwise():
    class Where(Node):
        def process(self, value: list) -> list:
            return [*value, threading.current_thread().name]

    class Apart(Where):
        own_thread = True

    (got,) = values([[]], Where(), Where(), Apart(), Where())
    assert got[0] == got[1] == "avlab:Where + Where 2"
    assert len(set(got)) == 3


def test_function_nodes_made_of_functions():
    @node
    def double(value: int, times: int = 2) -> int:
        return value * times

    assert values([1, 2], double(), double(times=3)) == [6, 12]
