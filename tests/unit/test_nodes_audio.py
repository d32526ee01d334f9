"""AudioConvert, Resample and AudioFilter: no sample lost, times kept, every format and layout."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avlab.core.drive import drive, open_node
from avlab.core.errors import ConfigError, MediaError
from avlab.core.item import Item
from avlab.core.node import Shape, consumes, parameters, shape_of
from avlab.nodes.audio import AudioConvert, AudioFilter, Resample

SAMPLE_FORMATS = ["u8", "s16", "s32", "flt", "dbl", "u8p", "s16p", "s32p", "fltp", "dblp"]


def sound(sizes, rate=48000, form="fltp", layout="stereo", start=0, hertz=440):
    """Items of a sine, all channels alike."""
    at = 0
    for n, size in enumerate(sizes):
        wave = 0.5 * np.sin(2 * np.pi * hertz * (at + np.arange(size)) / rate)
        channels = av.AudioLayout(layout).nb_channels
        packed = np.repeat(wave.astype(np.float32), channels).reshape(1, -1)
        template = av.AudioFrame.from_ndarray(packed, "flt", layout)
        template.sample_rate, template.pts, template.time_base = rate, start + at, Fraction(1, rate)
        (frame,) = av.AudioResampler(form, layout, rate).resample(template)
        frame.pts, frame.time_base = start + at, Fraction(1, rate)
        yield Item(frame, start + at, Fraction(1, rate), "audio", n)
        at += size


def run(node, items):
    results = []
    open_node(node, None)
    drive(node, items, lambda item, last: results.append(item) if item is not None else None, None)
    node.close()
    return results


def samples(items):
    return sum(item.value.samples for item in items)


def assert_contiguous(items):
    for before, after in itertools.pairwise(items):
        end = before.pts * before.time_base + Fraction(before.value.samples, before.value.sample_rate)
        assert abs(after.pts * after.time_base - end) <= Fraction(1, after.value.sample_rate)


@pytest.mark.parametrize("node", [AudioConvert("s16"), Resample(16000), AudioFilter("volume=0.5")])
def test_shapes_and_parameters(node):
    assert consumes(node) == (av.AudioFrame,) and shape_of(node) is Shape.GENERATOR and not node.stateless
    json.dumps({name: getattr(node, name) for name in parameters(type(node))})


def test_resample_takes_the_rate_first():
    assert Resample(16000).rate == 16000
    with pytest.raises(ConfigError, match="needs parameter 'rate'"):
        Resample()


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    st.sampled_from([8000, 16000, 22050, 44100, 48000, 96000]),
    st.sampled_from([8000, 16000, 22050, 44100, 48000, 96000]),
    st.integers(0, 10**9),
)
@settings(max_examples=60, deadline=None)
def test_resampling_loses_nothing_and_keeps_time(sizes, source, target, start):
    items = list(sound(sizes, source, start=start))
    results = run(Resample(target), items)
    # libswresample rounds its delay at both ends: some samples of the lower rate
    slack = 32 * Fraction(max(source, target), min(source, target))
    assert abs(samples(results) - Fraction(sum(sizes) * target, source)) <= slack
    if results:
        assert {(r.value.sample_rate, r.time_base) for r in results} == {(target, Fraction(1, target))}
        assert abs(results[0].pts * results[0].time_base - Fraction(start, source)) <= slack / target
        assert_contiguous(results)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.integers(-(10**6), 10**9))
@settings(max_examples=40, deadline=None)
def test_conversion_without_resampling_is_exact(sizes, start):
    items = list(sound(sizes, start=start))
    for node in (AudioConvert("s16", "mono"), AudioFilter("volume=0.5"), AudioConvert()):
        results = run(node, items)
        assert [r.value.samples for r in results] == sizes
        assert [(r.pts, r.time_base, r.track, r.seq) for r in results] == [
            (i.pts, i.time_base, i.track, i.seq) for i in items
        ]


@pytest.mark.parametrize("target", SAMPLE_FORMATS)
@pytest.mark.parametrize("source", SAMPLE_FORMATS)
def test_sample_formats(source, target):
    results = run(AudioConvert(target), sound([480] * 3, form=source))
    assert {r.value.format.name for r in results} == {target} and samples(results) == 1440
    wave = np.concatenate(
        [r.value.to_ndarray().reshape(-1)[:480].astype(float) for r in run(AudioConvert("fltp"), results)]
    )
    assert 0.3 < np.sqrt((wave**2).mean()) < 0.4


@pytest.mark.parametrize("target", ["mono", "stereo", "2.1", "4.0", "5.1", "7.1"])
@pytest.mark.parametrize("source", ["mono", "stereo", "5.1", "7.1"])
def test_layouts(source, target):
    results = run(AudioConvert(layout=target), sound([480] * 3, layout=source))
    assert {r.value.layout.name for r in results} == {target} and samples(results) == 1440


def test_resampled_tone_keeps_its_pitch():
    results = run(Resample(16000), sound([960] * 50, hertz=1000))
    wave = np.concatenate([r.value.to_ndarray()[0] for r in results])
    assert np.abs(np.fft.rfft(wave)).argmax() * 16000 / len(wave) == pytest.approx(1000, abs=2)


def test_form_that_changes_on_the_way():
    items = [
        *sound([1000] * 3, 48000),
        *sound([1000] * 3, 44100, "s16", "mono", start=2756),
        *sound([1000], 48000, start=6265),
    ]
    results = run(AudioConvert("s16", "stereo", 16000), items)
    assert {(r.value.format.name, r.value.layout.name, r.value.sample_rate) for r in results} == {
        ("s16", "stereo", 16000)
    }
    assert abs(samples(results) - (4000 / 3 + 3000 * 16000 / 44100)) < 60


@pytest.mark.parametrize("node", [Resample(16000), AudioConvert("s16", "mono"), AudioFilter("volume=0.5")])
def test_times_in_milliseconds_make_no_gaps_and_overlaps(node):
    items = list(sound([1024] * 50))
    for item in items:
        item.value.pts, item.value.time_base = round(item.pts * 1000 / 48000), Fraction(1, 1000)  # as of a Matroska file
    results = run(node, [Item(i.value, i.value.pts, i.value.time_base, i.track, i.seq) for i in items])
    assert_contiguous(results)
    assert abs(samples(results) - 51200 * results[0].value.sample_rate / 48000) < 40


def test_gap_in_time_stays():
    items = [*sound([960] * 5), *sound([960] * 5, start=96000)]
    results = run(Resample(16000), items)
    assert max(r.pts for r in results) >= 32000


@pytest.mark.parametrize(
    ("chain", "count"),
    [
        ("volume=0.5", 9600), ("atempo=2.0", 4800), ("aresample=8000", 1600), ("adelay=100:all=1", 9600 + 4800), ("areverse", 9600),
        ("asetnsamples=n=1024:p=0", 9600), ("highpass=f=200,lowpass=f=3000", 9600), ("afftdn", 9600), ("atrim=end_sample=1000", 1000), ("apad=whole_len=20000", 20000),
    ],
)  # fmt: skip
def test_filters_that_hold_and_change_sound(chain, count):
    results = run(AudioFilter(chain), sound([960] * 10))
    assert samples(results) == pytest.approx(count, abs=max(60, count * 0.03))
    assert all(r.value.pts == r.pts and r.value.time_base == r.time_base for r in results)


def test_sound_may_become_pictures():
    results = run(AudioFilter("showwaves=s=64x32:r=25"), sound([960] * 50))
    assert {type(r.value) for r in results} == {av.VideoFrame} and 24 <= len(results) <= 26


def test_the_pushed_frame_stays_as_it_is():
    (item,) = sound([960], start=5)
    before = bytes(item.value.planes[0])
    for node in (AudioFilter("volume=0.1"), AudioConvert("s16"), Resample(16000)):
        run(node, [item])
        assert item.value.pts == 5 and item.value.format.name == "fltp" and bytes(item.value.planes[0]) == before


def test_parameters_may_change_while_running():
    node = AudioFilter("volume=1.0")
    first, second = sound([960] * 2)
    (loud,) = node.process(first.value)
    node.filter = "volume=0.0"
    (quiet,) = node.process(second.value)
    assert np.abs(loud.to_ndarray()).max() > 0.4 and np.abs(quiet.to_ndarray()).max() == 0


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (AudioConvert("s17"), "sample format"), (AudioConvert(layout="surround sound"), "channel layout"), (Resample(0), "rate"), (Resample("16k"), "rate"),
        (AudioFilter("volum=1"), "close: .*volume"), (AudioConvert(7), "sample format"),
    ],
)  # fmt: skip
def test_wrong_parameters(node, message):
    with pytest.raises(ConfigError, match=message):
        node.open()


def test_filters_of_the_wrong_kind():
    with pytest.raises(ConfigError, match="cannot be set up"):
        run(AudioFilter("hflip"), sound([960]))


def test_frame_without_rate():
    with pytest.raises(MediaError, match="no sample rate"):
        run(Resample(16000), [Item(av.AudioFrame("s16", "mono", 10), 0)])
