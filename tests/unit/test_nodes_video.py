"""Resize, VideoConvert and VideoFilter: times kept, sizes right, every format, buffered frames flushed."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avlab.core.drive import drive, open_node
from avlab.core.errors import ConfigError
from avlab.core.item import Item
from avlab.core.node import Shape, consumes, parameters, shape_of
from avlab.media.chain import parse_chain
from avlab.media.sources.test import TestSource, read_frame_number
from avlab.nodes.video import Resize, VideoConvert, VideoFilter

FORMATS = [
    "rgb24",
    "bgr24",
    "rgba",
    "gray",
    "gray16le",
    "yuv420p",
    "yuvj420p",
    "yuv422p10le",
    "yuv444p",
    "nv12",
    "gbrp",
    "yuyv422",
]


def frames(count=5, size=(64, 48), form="yuv420p", base=Fraction(1, 30), pts=None):
    for n, item in zip(range(count), TestSource(size=size, audio=False).items(), strict=False):
        frame = item.value.reformat(format=form)
        frame.pts, frame.time_base = (n if pts is None else pts[n]), base
        yield Item(frame, frame.pts, base, "video", n)


def run(node, items):
    results = []
    open_node(node, None)
    drive(node, items, lambda item, last: results.append(item) if item is not None else None, None)
    node.close()
    return results


def times(items):
    return [item.pts * item.time_base for item in items]


@pytest.mark.parametrize("node", [Resize(width=32), VideoConvert("rgb24"), VideoFilter("hflip")])
def test_shapes_and_parameters(node):
    assert consumes(node) == (av.VideoFrame,)
    assert shape_of(node) is (Shape.GENERATOR if isinstance(node, VideoFilter) else Shape.FUNCTION)
    assert node.stateless is not isinstance(node, VideoFilter)
    json.dumps({name: getattr(node, name) for name in parameters(type(node))})


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    st.integers(-(10**6), 10**12),
    st.fractions(Fraction(1, 90000), 10, max_denominator=90000),
    st.sampled_from([Resize(width=32), Resize(16, 16, "contain"), VideoConvert("rgb24"), VideoFilter("hflip,negate")]),
)
@settings(max_examples=60, deadline=None)
def test_times_pass_through(steps, start, base, node):
    pts = [start + sum(steps[:n]) for n in range(len(steps))]
    items = list(frames(len(pts), base=base, pts=pts))
    results = run(node, items)
    assert times(results) == times(items)
    assert [r.value.pts * r.value.time_base for r in results] == times(items)
    assert [(r.track, r.seq) for r in results] == [(i.track, i.seq) for i in items]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"width": 320}, (320, 240)), ({"height": 120}, (160, 120)), ({"width": 101, "height": 33}, (101, 33)),
        ({"width": 320, "height": 320, "mode": "contain"}, (320, 320)), ({"width": 320, "height": 100, "mode": "cover"}, (320, 100)),
        ({"width": 640}, (640, 480)), ({"width": 1, "height": 1}, (1, 1)),
    ],
)  # fmt: skip
def test_resize(options, size):
    results = run(Resize(**options), frames(3, (640, 480)))
    assert [(r.value.width, r.value.height) for r in results] == [size] * 3
    assert {r.value.format.name for r in results} == {"yuv420p"}


def picture(width, height):
    """Left half white, right half black."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:, : width // 2] = 255
    frame = av.VideoFrame.from_ndarray(array)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    return frame


def test_contain_has_bars_and_cover_cuts():
    node = Resize(200, 200, "contain", color="red")
    whole = node.process(picture(200, 100)).to_ndarray()
    assert whole[:50].reshape(-1, 3).mean(0).round().tolist() == whole[150:].reshape(-1, 3).mean(0).round().tolist()
    assert whole[20, 20, 0] > 200 > 60 > whole[20, 20, 1] and whole[100, 20].min() > 250 and whole[100, 180].max() < 5
    cut = Resize(50, 100, "cover").process(picture(200, 100)).to_ndarray()
    assert cut[:, :23].min() > 250 and cut[:, 27:].max() < 5


@pytest.mark.parametrize("form", FORMATS)
def test_resize_keeps_every_format(form):
    for mode in ("stretch", "contain", "cover"):
        (result,) = run(Resize(48, 80, mode), frames(1, (96, 64), form))
        assert (result.value.format.name, result.value.width, result.value.height) == (form, 48, 80)


def test_resized_pictures_keep_their_number():
    results = run(Resize(width=320), frames(10, (640, 480)))
    assert [read_frame_number(r.value) for r in results] == list(range(10))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", ["yuv420p", "rgb24", "gray"])
def test_convert(source, target):
    items = list(frames(2, form=source))
    results = run(VideoConvert(target), items)
    assert {(r.value.format.name, r.value.width, r.value.height) for r in results} == {(target, 64, 48)}
    assert [read_frame_number(r.value) for r in results] == [0, 1]
    assert (results[0].value is items[0].value) == (source == target)


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
@pytest.mark.parametrize("form", ["yuv444p", "yuvj444p", "gbrp"])
def test_colors_survive_conversion_there_and_back(size, form):
    array = np.zeros((size[1], size[0], 3), np.uint8)
    array[:] = (200, 40, 60)
    there = VideoConvert(form).process(av.VideoFrame.from_ndarray(array))
    back = VideoConvert("rgb24").process(there).to_ndarray()
    assert np.abs(back.astype(int) - array).max() <= 4
    if form != "gbrp":
        assert int(there.colorspace) in ((1,) if size[1] >= 720 else (5, 6))  # 5 and 6 are the same matrix, BT.601


def test_form_that_changes_on_the_way():
    items = [*frames(2, (64, 48)), *frames(2, (128, 96), "rgb24", pts=[2, 3])]
    assert [(r.value.width, r.value.height) for r in run(Resize(width=32), items)] == [(32, 24)] * 4
    assert [r.value.format.name for r in run(VideoConvert("gray"), items)] == ["gray"] * 4
    assert times(run(VideoFilter("hflip"), items)) == times(items)


def test_parameters_may_change_while_running():
    node = Resize(width=32)
    first, second = frames(2)
    assert node.process(first.value).width == 32
    node.width = 16
    assert node.process(second.value).width == 16
    filtered = VideoFilter("scale=32:24")
    assert [f.width for f in filtered.process(first.value)] == [32]
    filtered.filter = "scale=16:12"
    assert [f.width for f in filtered.process(second.value)] == [16]


@pytest.mark.parametrize(
    ("chain", "count", "base"),
    [
        ("hflip", 30, Fraction(1, 30)), ("fps=10", 10, Fraction(1, 10)), ("fps=60", 60, Fraction(1, 60)), ("setpts=2*PTS", 30, Fraction(1, 30)),
        ("tmix=frames=5", 30, Fraction(1, 30)), ("reverse", 30, Fraction(1, 30)), ("select='not(mod(n,3))'", 10, Fraction(1, 30)),
        ("trim=end_frame=7", 7, Fraction(1, 30)), ("thumbnail=10", 3, Fraction(1, 30)), ("vflip,scale=32:24,crop=16:16", 30, Fraction(1, 30)),
    ],
)  # fmt: skip
def test_filters_that_hold_drop_and_make_frames(chain, count, base):
    results = run(VideoFilter(chain), frames(30))
    assert len(results) == count and {r.time_base for r in results} == {base}
    assert times(results) == sorted(times(results))
    assert all(r.value.pts == r.pts for r in results)


def test_filter_reverses():
    assert [read_frame_number(r.value) for r in run(VideoFilter("reverse"), frames(10))] == list(range(9, -1, -1))


def test_the_pushed_frame_stays_as_it_is():
    (item,) = frames(1, pts=[7])
    before = bytes(item.value.planes[0])
    for node in (VideoFilter("negate,setpts=0"), Resize(width=16), VideoConvert("rgb24")):
        run(node, [item])
        assert item.value.pts == 7 and bytes(item.value.planes[0]) == before


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("hflip", [("hflip", "")]), ("hflip,vflip", [("hflip", ""), ("vflip", "")]), (" scale = 32:24 , hflip", [("scale", "32:24"), ("hflip", "")]),
        ("geq='lum=p(X,Y)'", [("geq", "lum=p(X,Y)")]), (r"geq=lum=p(X\,Y)", [("geq", "lum=p(X,Y)")]), (r"geq='lum=p(X\,Y)'", [("geq", r"lum=p(X\,Y)")]),
        ("metadata=add:key=a:value='x, [y]; z '", [("metadata", "add:key=a:value=x, [y]; z ")]), ("scale@small=8:8", [("scale", "8:8")]),
        ([["scale", {"w": 8, "flags": "a:b"}], "hflip", ["crop", "4:4"], ["null", None]], [("scale", r"w=8:flags=a\:b"), ("hflip", ""), ("crop", "4:4"), ("null", "")]),
    ],
)  # fmt: skip
def test_chains_are_read_as_ffmpeg_reads_them(text, steps):
    assert list(parse_chain(text)) == steps


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("hflipp", "close: hflip"), ("hflip,nosuchfilterxyz", "no filter is named 'nosuchfilterxyz'"), ("", "without a name"), ("hflip,,vflip", "without a name"),
        ([], "empty"), ("hflip;vflip", "one chain"), ("[in]hflip", "one chain"), ("scale='3", "not closed"), ([["scale", 3]], "write text"), ([3], "not a filter"),
    ],
)  # fmt: skip
def test_chains_that_are_wrong(chain, message):
    with pytest.raises(ConfigError, match=message):
        VideoFilter(chain).open()


@pytest.mark.parametrize("chain", ["scale=w=abc", "hue=nope=1", "overlay", "aresample", "crop=900:900", "testsrc"])
def test_options_that_are_wrong(chain):
    with pytest.raises(ConfigError, match="cannot be set up"):
        run(VideoFilter(chain), frames(1))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Resize(), "needs width"), (Resize(width=0), "width"), (Resize(width="a"), "width"), (Resize(8, 8, "fill"), "stretch, contain, cover"),
        (Resize(8, quality="best"), "bicubic"), (VideoConvert("rgb"), "rgb24"), (VideoConvert("cuda"), "pixel format"),
    ],
)  # fmt: skip
def test_wrong_parameters(node, message):
    with pytest.raises(ConfigError, match=message):
        node.open()
