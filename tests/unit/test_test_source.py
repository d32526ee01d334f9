"""TestSource: deterministic pictures with a readable number, and sound in step with them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from avlab.core.errors import ConfigError, MediaError
from avlab.core.node import Shape, shape_of
from avlab.media.sources.test import TestSource, read_frame_number


def test_is_a_source_and_says_what_it_makes():
    source = TestSource(duration=1)
    assert shape_of(source) is Shape.SOURCE
    assert source.produces == (av.VideoFrame, av.AudioFrame) and source.tracks() == {
        "video": av.VideoFrame,
        "audio": av.AudioFrame,
    }
    assert TestSource(audio=False).produces == (av.VideoFrame,)
    assert TestSource().total() is None


@pytest.mark.parametrize(("rate", "duration"), [(30, 1), (25, 0.5), ("30000/1001", 2), (29.97, 1), (10, 0.01), (10, 0)])
def test_total_is_what_comes(rate, duration):
    source = TestSource(size=(64, 48), rate=rate, duration=duration)
    items = list(source.items())
    assert len(items) == source.total()
    assert all(item.time < duration for item in items)


@pytest.mark.parametrize(("duration", "pictures"), [(0.1, 3), (0.2, 6), (0.7, 21), (Fraction(1, 3), 10), (-1, 0)])
def test_a_decimal_duration_is_meant_as_it_is_written(duration, pictures):
    assert len(list(TestSource(size=(64, 48), duration=duration, audio=False).items())) == pictures


def test_times_and_order():
    items = list(TestSource(size=(64, 48), rate=30, duration=2).items())
    times = [item.pts * item.time_base for item in items]
    assert times == sorted(times)
    video = [item for item in items if item.track == "video"]
    audio = [item for item in items if item.track == "audio"]
    assert [(i.pts, i.seq, i.time_base) for i in video] == [(n, n, Fraction(1, 30)) for n in range(60)]
    assert [i.pts for i in audio] == [n * 960 for n in range(100)]
    assert all(i.value.pts == i.pts and i.value.time_base == i.time_base for i in items)
    assert {(i.value.sample_rate, i.value.layout.name, i.value.format.name, i.value.samples) for i in audio} == {
        (48000, "stereo", "s16", 960)
    }


def test_is_the_same_every_time():
    first, second = (
        [bytes(p) for i in TestSource(size=(64, 48), duration=0.2).items() for p in i.value.planes] for _ in "ab"
    )
    assert first == second


def test_without_an_end():
    assert len(list(itertools.islice(TestSource(size=(64, 48)).items(), 500))) == 500


@pytest.mark.parametrize("size", [(48, 24), (63, 47), (640, 360), (1280, 720)])
@pytest.mark.parametrize("form", ["yuv420p", "rgb24", "gray", "nv12"])
def test_number_can_be_read(size, form):
    for item in itertools.islice(TestSource(size=size, audio=False).items(), 20):
        assert read_frame_number(item.value.reformat(format=form)) == item.seq


def test_number_survives_scaling():
    for item in itertools.islice(TestSource(size=(1280, 720), audio=False).items(), 10):
        assert read_frame_number(item.value.reformat(640, 360)) == item.seq


def test_no_number_is_an_error():
    with pytest.raises(MediaError, match="no row of squares"):
        read_frame_number(av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8)))


def test_beep_and_flash_begin_each_second():
    items = list(TestSource(size=(64, 48), rate=10, duration=2).items())
    sound = np.concatenate([i.value.to_ndarray().ravel()[::2] for i in items if i.track == "audio"]).astype(float)
    loud = np.abs(sound).reshape(-1, 4800).max(1) > 8000
    assert loud.tolist() == [n % 10 == 0 for n in range(20)]
    flash = [
        np.frombuffer(i.value.planes[0], np.uint8)[-i.value.planes[0].line_size] > 200
        for i in items
        if i.track == "video"
    ]
    assert flash == loud.tolist()


def test_realtime_waits_by_its_clock_and_ends_when_closed():
    source = TestSource(size=(64, 48), realtime=True, audio=False)
    source.open()
    items = source.items()
    assert next(items).seq == 0
    source.close()
    assert list(items) == []


@pytest.mark.parametrize(
    "options", [{"size": (1, 1)}, {"size": "big"}, {"rate": 0}, {"rate": "fast"}, {"duration": "long"}]
)
def test_wrong_parameters(options):
    with pytest.raises(ConfigError):
        next(TestSource(**options).items())
