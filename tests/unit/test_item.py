"""Items and the timing rule."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.item import Item, Stamp, as_item, inherit

TICKS = st.none() | st.integers(-(2**62), 2**62)
BASES = st.fractions(min_value=Fraction(1, 10**6), max_value=10)
PARENTS = st.builds(
    Item,
    value=st.integers(),
    pts=TICKS,
    time_base=BASES,
    track=st.sampled_from(["", "video", "audio"]),
    seq=st.integers(0, 2**40),
    stamps=st.sampled_from([(), (Stamp("source", 1),)]),
)


class Frame:
    """Has a time of its own, like a media frame."""

    def __init__(self, pts=None, time_base=None):
        self.pts, self.time_base = pts, time_base


@dataclass(frozen=True)
class Frozen:
    pts: int | None = None
    time_base: Fraction | None = None


@pytest.mark.parametrize(
    ("result", "pts", "time_base"),
    [
        ("plain", 40, Fraction(1, 90)),  # anything else inherits
        (Frame(), 40, Fraction(1, 90)),  # a frame without a time inherits
        (Frame(7, Fraction(1, 30)), 7, Fraction(1, 30)),  # a value with its own pts keeps it
        (Frame(0, Fraction(1, 30)), 0, Fraction(1, 30)),  # 0 is a time
        (Frame(7, None), 40, Fraction(1, 90)),  # a number without a unit says nothing
        (Frozen(), 40, Fraction(1, 90)),
        (Item("x", 3, Fraction(1, 5)), 3, Fraction(1, 5)),  # an Item passes
        (Item("x", 0, Fraction(1, 5)), 0, Fraction(1, 5)),
        (Item("x"), None, Fraction(1, 1000)),  # also one without a time
    ],
)
def test_inheritance_table(result, pts, time_base):
    item = inherit(result, Item("parent", 40, Fraction(1, 90), "video", 12))
    assert (item.pts, item.time_base, item.track) == (pts, time_base, "video")


def test_none_drops():
    assert inherit(None, Item(1, 0)) is None


@pytest.mark.parametrize("falsy", [0, 0.0, "", b"", False, [], {}])
def test_falsy_results_are_results(falsy):
    assert inherit(falsy, Item(1, 5)).value == falsy


def test_a_frame_without_a_time_is_stamped_for_later_readers():
    frame = Frame()
    inherit(frame, Item("parent", 0, Fraction(1, 25)))
    assert (frame.pts, frame.time_base) == (0, Fraction(1, 25))


def test_a_frame_keeps_none_when_the_parent_has_no_time():
    frame = Frame()
    assert inherit(frame, Item("parent")).pts is None
    assert frame.time_base is None


@given(PARENTS, st.integers() | st.text() | st.binary())
def test_plain_results_inherit_everything_but_the_value(parent, value):
    item = inherit(value, parent)
    assert item == Item(value, parent.pts, parent.time_base, parent.track, parent.seq, parent.stamps)


@given(PARENTS, PARENTS)
def test_items_pass_with_their_own_time_and_a_track(result, parent):
    item = inherit(result, parent)
    assert (item.value, item.pts, item.time_base, item.seq) == (result.value, result.pts, result.time_base, result.seq)
    assert item.track == (result.track or parent.track)
    assert item.stamps == (result.stamps or parent.stamps)


def test_as_item_takes_the_values_own_time():
    assert as_item(Frame(0, Fraction(1, 30))).pts == 0
    assert as_item(Frame(3, None)).pts is None
    item = Item("x")
    assert as_item(item) is item


def test_time_in_seconds():
    assert Item(1, 0).time == 0.0
    assert Item(1, 45, Fraction(1, 90)).time == 0.5
    assert Item(1).time is None
