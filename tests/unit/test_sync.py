"""Tracks in step, and items whose times match."""

import random
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

import avlab
from avlab.core.errors import ConfigError, TimingError
from avlab.core.item import Item
from avlab.media.sync import Sync
from avlab.media.zip import zip_by_pts

VIDEO, AUDIO = Fraction(1, 30), Fraction(1, 50)


def items(track: str, base: Fraction, numbers) -> list[Item]:
    return [Item(f"{track}{n}", n, base, track, i) for i, n in enumerate(numbers)]


def time(item: Item) -> Fraction:
    return item.pts * item.time_base


def through(node, stream) -> list[Item]:
    node.open()
    return [out for item in stream for out in node.process(item)] + list(node.flush())


def mixed(seed: int, *tracks: list[Item]) -> list[Item]:
    """One stream of them in any order, but each in its own."""
    chance, rest, out = random.Random(seed), [list(track) for track in tracks], []
    while any(rest):
        out.append(chance.choice([track for track in rest if track]).pop(0))
    return out


@given(seed=st.integers(0, 1000), video=st.integers(0, 60), audio=st.integers(0, 60))
def test_lips_orders_by_time_and_loses_nothing(seed, video, audio):
    pictures, sound = items("video", VIDEO, range(video)), items("audio", AUDIO, range(audio))
    out = through(Sync("video", "audio", mode="lips", wait=10), mixed(seed, pictures, sound))
    assert [item for item in out if item.track == "video"] == pictures
    assert [item for item in out if item.track == "audio"] == sound
    assert all(time(a) <= time(b) for a, b in pairwise(out))


def arriving(left: list[Item], right: list[Item], lag: float) -> list[Item]:
    """Two tracks as they come live, the second so much later."""
    return sorted([*left, *right], key=lambda item: float(time(item)) + lag * (item in right))


# Tracks that begin and end anywhere and have gaps; the clock of their times may be about to pass what 32 or 33 bits can count.
TRACK = st.sets(st.integers(0, 200), max_size=60)
BEGIN = st.sampled_from([0, (1 << 32) // 90_000, (1 << 33) // 90_000 - 1])


@given(video=TRACK, audio=TRACK, begin=BEGIN, lag=st.floats(-0.4, 0.4))
def test_gaps_other_starts_and_early_ends_disturb_neither_order_nor_matches(video, audio, begin, lag):
    pictures = items("video", VIDEO, (begin * 30 + n for n in sorted(video)))
    sound = items("audio", AUDIO, (begin * 50 + n for n in sorted(audio)))
    stream = arriving(pictures, sound, lag)
    sync = Sync("video", "audio", mode="lips", wait=0.5)
    out = through(sync, stream)
    assert sorted(out, key=stream.index) == stream
    assert all(time(a) <= time(b) for a, b in pairwise(out))
    assert sync.late == 0
    node = zip_by_pts("video", "audio", tolerance=0.01, wait=0.5)
    expected = []
    for picture in pictures:
        nearest = min(sound, key=lambda other: abs(time(other) - time(picture)), default=None)
        if nearest is not None and abs(time(nearest) - time(picture)) <= Fraction(0.01):
            expected.append((picture.value, nearest.value))
    assert [item.value for item in through(node, stream)] == expected
    assert node.unmatched == len(pictures) - len(expected)


@given(seed=st.integers(0, 1000))
def test_low_latency_changes_nothing(seed):
    stream = mixed(
        seed, items("video", VIDEO, range(30)), items("audio", AUDIO, range(50)), items("text", AUDIO, range(5))
    )
    sync = Sync("video", "audio")
    assert through(sync, stream) == stream
    assert sync.skew == pytest.approx(29 / 30 - 49 / 50)


def test_a_track_that_stands_still_holds_the_other_for_a_bounded_time():
    sync, out = Sync("video", "audio", mode="lips", wait=0.5), []
    sync.open()
    for item in items("audio", AUDIO, range(100)):
        out += sync.process(item)
        assert item.time - (out[-1].time if out else 0) <= 0.5 + 1e-9
    (late,) = sync.process(items("video", VIDEO, [0])[0])
    assert late.track == "video" and sync.late == 1
    assert len([*out, late, *sync.flush()]) == 101


def test_what_is_of_no_track_or_has_no_time_passes_at_once():
    sync = Sync("video", "audio", mode="lips")
    others = [Item("x", 0, track="text"), Item("y", None, track="video")]
    assert [out for item in others for out in sync.process(item)] == others


@pytest.mark.parametrize(
    "make", [lambda: Sync("video"), lambda: Sync("a", "b", wait=0), lambda: Sync("a", "b", mode="x")]
)
def test_sync_refuses_what_makes_no_sense(make):
    with pytest.raises(ConfigError, match="Sync"):
        make()


def test_sync_and_zip_are_nodes_of_pipelines_and_specs():
    source = avlab.TestSource(size=(48, 24), duration=1)
    pipeline = (
        source
        >> avlab.Sync("video", "audio", mode="lips")
        >> avlab.zip_by_pts("video", "audio", tolerance=0.02)
        >> (seen := avlab.Collect())
    )
    again = avlab.Pipeline.from_spec(pipeline.to_spec())
    assert again.to_spec() == pipeline.to_spec()
    pipeline.run(progress=False, timeout=30)
    assert len(seen.items) == 30
    for item in seen.items:
        picture, sound = item.value
        assert item.track == "video" and item.pts == picture.pts
        assert abs(picture.time - sound.time) <= 0.01


@given(seed=st.integers(0, 1000), numbers=st.sets(st.integers(0, 80)), others=st.sets(st.integers(0, 80)))
def test_each_item_meets_the_nearest_of_the_other_track(seed, numbers, others):
    left, right = items("a", VIDEO, sorted(numbers)), items("b", AUDIO, sorted(others))
    node = zip_by_pts("a", "b", tolerance=1 / 60, wait=100)
    out = through(node, mixed(seed, left, right))
    expected = []
    for item in left:
        nearest = min(right, key=lambda other: abs(time(other) - time(item)), default=None)
        if nearest is not None and abs(time(nearest) - time(item)) <= Fraction(1 / 60):
            expected.append((item.value, nearest.value))
    assert [item.value for item in out] == expected
    assert [time(item) for item in out] == sorted({time(item) for item in out})
    assert node.unmatched == len(left) - len(expected)


def test_a_result_of_a_branch_meets_the_picture_that_it_is_about():
    class Measure(avlab.Node):
        def process(self, frame: av.VideoFrame) -> dict:
            return {"width": frame.width}

    source = avlab.TestSource(size=(48, 24), duration=1, audio=False)
    seen = avlab.Collect()
    (source >> avlab.tee(Measure(), []) >> avlab.zip_by_pts(av.VideoFrame, dict, tolerance=0) >> seen).run(
        progress=False, timeout=30
    )
    assert [(item.value[0].pts, item.value[1]) for item in seen.items] == [(n, {"width": 48}) for n in range(30)]


def test_a_part_that_is_missing_is_waited_for_a_bounded_time():
    node, out = zip_by_pts("a", "b", wait=0.5), []
    for item in items("a", AUDIO, range(100)):
        out += node.process(item)
    assert out == [] and 70 <= node.unmatched <= 80
    assert list(node.flush()) == [] and node.unmatched == 100


def test_pipelines_are_zipped_to_a_source_and_ended_with_it():
    left = avlab.Pipeline([avlab.TestSource(size=(48, 24), rate=30, duration=2, audio=False)])
    right = avlab.Pipeline([avlab.TestSource(size=(96, 48), rate=15, audio=False)])  # without end
    seen = avlab.Collect()
    (avlab.zip_by_pts(left, right) >> seen).run(progress=False, timeout=30)
    assert [item.pts for item in seen.items] == list(range(0, 60, 2))
    assert {(a.width, b.width) for a, b in seen.values} == {(48, 96)}


def test_lists_of_items_can_be_zipped():
    zipped = zip_by_pts(items("a", AUDIO, range(5)), items("b", AUDIO, range(2, 9)), items("c", AUDIO, range(3)))
    assert [item.value for item in zipped.items()] == [("a2", "b2", "c2")]
    assert zipped.unmatched >= 2


@pytest.mark.parametrize(
    "parts", [("a",), ("a", "a"), ("a", []), (av.VideoFrame, av.VideoFrame)], ids=["one", "twice", "mixed", "types"]
)
def test_zip_refuses_what_makes_no_sense(parts):
    with pytest.raises(ConfigError, match="zip_by_pts"):
        zip_by_pts(*parts)


def test_an_item_without_a_time_cannot_be_matched():
    with pytest.raises(TimingError, match="has no time"):
        list(zip_by_pts("a", "b").process(Item(1, track="a")))


def test_sources_alone_can_be_zipped_and_what_is_none_is_refused():
    sources = [avlab.TestSource(size=(64, 36), audio=False, duration=1) for _ in range(2)]
    taken = avlab.Collect()
    (avlab.zip_by_pts(*sources) >> taken).run(progress=False)
    assert [len(item.value) for item in taken.items] == [2] * 30
    with pytest.raises(ConfigError, match="5 is no source"):
        avlab.zip_by_pts(sources[0], 5)
