"""Codecs of arrays, frames and packets: exact round trips, and nothing but CodecError for whatever else arrives."""

from __future__ import annotations

import json
import tracemalloc
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avlab.core.codec import registry
from avlab.core.errors import CodecError

NAMES = ["numpy.ndarray", "numpy.scalar", "av.VideoFrame", "av.AudioFrame", "av.Packet"]


def trip(value):
    name, meta, buffers = registry.encode(value)
    return registry.decode(name, meta, [bytes(b) for b in buffers])


def raw(plane):
    return bytes(plane)


dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.array_dtypes(),
    hnp.nested_dtypes(),
).filter(lambda dtype: not dtype.hasobject)


@given(
    dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_arrays_round_trip(array, data):
    layout = data.draw(st.sampled_from(["C", "F", "transposed", "strided"]))
    if layout == "F":
        array = np.asfortranarray(array) if array.ndim else array
    elif layout == "transposed":
        array = array.T
    elif layout == "strided" and array.ndim:
        array = array[::-2]
    back = trip(array)
    assert type(back) is np.ndarray and back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable and back.flags.owndata
    if layout == "F":
        assert back.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[25us]", ">i4", "?", "f2", "c16", "V5", "S3", "U2", "longdouble"])
def test_dtypes(dtype):
    array = np.zeros((2, 3), dtype)
    assert trip(array).dtype == array.dtype


def test_structured_dtype_with_alignment_and_titles():
    dtype = np.dtype([(("a title", "a"), "u1"), ("b", "<f8", (2, 2)), ("c", [("d", ">i2")])], align=True)
    array = np.zeros(3, dtype)
    array["b"] = 2.5
    back = trip(array)
    assert back.dtype == dtype and (back["b"] == 2.5).all()


@pytest.mark.parametrize("dtype", ["|S0", "<U0", "|V0", [], [["a", "<f8", [0]]], [["a", []]]], ids=str)
@pytest.mark.parametrize("shape", [[1 << 33], [1 << 61, 1 << 61], [1 << 16, 2]], ids=str)
def test_elements_without_bytes_do_not_become_gigabytes(dtype, shape):
    """numpy makes S0 a byte wide: a few bytes of metadata asked for 8 GiB."""
    meta = json.dumps({"dtype": dtype, "shape": shape, "order": "C"}).encode()
    with pytest.raises(CodecError, match="without bytes"):
        registry.decode("numpy.ndarray", meta, [memoryview(b"")])


def test_a_few_elements_without_bytes_travel():
    for array in (np.zeros((2, 0, 3), "f4"), np.zeros(3, "V0"), np.zeros(2, "S0")):
        assert trip(array).shape == array.shape


def test_contiguous_arrays_are_not_copied_when_encoded():
    array = np.arange(12).reshape(3, 4)
    for value in (array, array.T):
        (view,) = registry.encode(value)[2]
        assert np.shares_memory(np.frombuffer(view, np.uint8), array)


def test_between_fields_nothing_of_the_process_travels():
    padded = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    scattered = np.zeros((64, 64), padded)[:, ::2]
    for _ in range(8):
        np.full(scattered.nbytes, 255, np.uint8)  # what the next array of this size may find in memory
        _, _, (buffer,) = registry.encode(scattered)
        assert not any(bytes(buffer))


@pytest.mark.parametrize(
    "value",
    [
        np.array([None]),
        np.zeros(2, [("a", object)]),
        np.ma.masked_array([1, 2], [True, False]),
        np.zeros(2, [("a", "i4")]).view(np.recarray),
    ],
)
def test_arrays_that_cannot_travel(value):
    with pytest.raises(CodecError, match="cannot travel"):
        registry.encode(value)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.1), np.float32(1.5), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.complex64(1 + 2j), np.longdouble(3),
        np.datetime64("2026-01-01T00:00:00", "us"), np.timedelta64(5, "s"), np.str_("ö\0"), np.bytes_(b"a\0"), np.str_(""),
    ],
)  # fmt: skip
def test_scalars_keep_their_type(value):
    back = trip(value)
    assert type(back) is type(value) and back == value
    if isinstance(value, str | bytes):
        assert len(back) == len(value)


def test_structured_scalar():
    value = np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")])[0]
    back = trip(value)
    assert back["a"] == 1 and back["b"] == 2.5 and back.dtype == value.dtype


# --- frames --------------------------------------------------------------------------------------------------------


def picture(width, height, name, seed=0):
    frame = av.VideoFrame(width, height, name)
    random = np.random.default_rng(seed)
    for plane in frame.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, dtype=np.uint8))
    return frame


FORMATS = [
    "rgb24", "rgba", "bgr24", "gray", "gray16le", "yuv420p", "yuvj420p", "yuv422p10le", "yuv444p", "nv12", "p010le", "pal8",
    "monow", "yuyv422", "gbrp", "gbrpf32le", "yuva420p", "bayer_rggb8", "rgb565le", "xyz12le",
]  # fmt: skip


BYTES_PER_PIXEL = {
    "rgb24": 3,
    "rgba": 4,
    "bgr24": 3,
    "gray": 1,
    "gray16le": 2,
    "yuv444p": 1,
    "gbrp": 1,
    "gbrpf32le": 4,
    "rgb565le": 2,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1), (17, 3)])
def test_video_frames_round_trip(name, size):
    frame = picture(*size, name)
    frame.pts, frame.time_base, frame.duration, frame.dts = 0, Fraction(1, 90000), 3000, -7
    colors = {"colorspace": 1, "color_range": 1, "color_trc": 13, "color_primaries": 1}
    colors = {key: value for key, value in colors.items() if hasattr(frame, key)}
    for key, value in colors.items():
        setattr(frame, key, value)
    frame.pict_type = 3
    back = trip(frame)
    assert (back.width, back.height, back.format.name) == (*size, name)
    assert (back.pts, back.time_base, back.duration, back.dts) == (0, Fraction(1, 90000), 3000, -7)
    assert {key: getattr(back, key) for key in colors} == colors and int(back.pict_type) == 3
    assert [bytes(b) for b in registry.encode(back)[2]] == [bytes(b) for b in registry.encode(frame)[2]]
    for ours, theirs in zip(back.planes, frame.planes, strict=True):
        if name in BYTES_PER_PIXEL:
            line = size[0] * BYTES_PER_PIXEL[name]
            rows = [np.frombuffer(p, np.uint8).reshape(size[1], -1)[:, :line] for p in (ours, theirs)]
            assert np.array_equal(*rows)


def test_video_frame_without_time():
    back = trip(picture(16, 16, "rgb24"))
    assert back.pts is None and back.time_base is None


def filtered(frame, name, args):
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    middle, sink = graph.add(name, args), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()


def test_cropped_frame_takes_only_its_own_pixels_along():
    whole = picture(256, 64, "gray")
    frame = filtered(whole, "crop", "64:32:128:16")
    _, _, (view,) = registry.encode(frame)
    assert view.nbytes == 64 * 32
    expected = np.frombuffer(whole.planes[0], np.uint8).reshape(64, 256)[16:48, 128:192]
    assert bytes(view) == expected.tobytes()
    assert np.array_equal(trip(frame).to_ndarray(), expected)


def test_frame_stored_bottom_up():
    whole = picture(64, 48, "yuv420p")
    frame = filtered(whole, "vflip", "")
    assert frame.planes[0].line_size < 0
    expected = np.frombuffer(whole.planes[0], np.uint8).reshape(48, 64)[::-1]
    assert bytes(trip(frame).planes[0]) == expected.tobytes()


def test_frame_over_an_array_with_rows_of_another_length():
    array = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(7, 5, 3)
    frame = av.VideoFrame.from_numpy_buffer(array, format="rgb24")
    assert np.array_equal(trip(frame).to_ndarray(), array)


AUDIO = [
    ("s16", "stereo"),
    ("s16p", "stereo"),
    ("fltp", "5.1"),
    ("fltp", "7.1"),
    ("flt", "7.1"),
    ("u8", "mono"),
    ("dblp", "mono"),
    ("s32", "3 channels"),
]


@pytest.mark.parametrize(("name", "layout"), AUDIO)
@pytest.mark.parametrize("samples", [0, 1, 1024])
def test_audio_frames_round_trip(name, layout, samples):
    frame = av.AudioFrame(name, layout, samples)
    count = frame.layout.nb_channels if frame.format.is_planar else 1
    for i, plane in enumerate(frame.planes[:count] if samples else ()):
        plane.update(np.full(plane.buffer_size, i + 1, np.uint8))
    frame.pts, frame.time_base, frame.sample_rate = 5, Fraction(1, 44100), 44100
    back = trip(frame)
    assert (back.format.name, back.layout.name, back.samples, back.sample_rate) == (
        name,
        frame.layout.name,
        samples,
        44100,
    )
    assert (back.pts, back.time_base) == (5, Fraction(1, 44100))
    if samples:
        assert [raw(p) for p in back.planes[:count]] == [raw(p) for p in frame.planes[:count]]


def test_more_planes_than_a_frame_lists_are_refused():
    with pytest.raises(CodecError, match="convert to a packed format"):
        registry.encode(av.AudioFrame("fltp", "22.2", 10))
    assert trip(av.AudioFrame("flt", "22.2", 10)).layout.name == "22.2"


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 5000])
def test_packets_round_trip(data):
    packet = av.Packet(data)
    packet.pts, packet.dts, packet.duration, packet.time_base, packet.is_keyframe = 10, -3, 7, Fraction(1, 1000), True
    back = trip(packet)
    assert (bytes(back) if data else b"", back.pts, back.dts, back.duration, back.time_base) == (
        data,
        10,
        -3,
        7,
        Fraction(1, 1000),
    )
    assert back.is_keyframe


def test_decoded_values_own_their_memory():
    for value in (np.arange(10), picture(32, 32, "rgb24"), av.Packet(b"abc")):
        name, meta, buffers = registry.encode(value)
        memory = [bytearray(b) for b in buffers]
        back = registry.decode(name, meta, memory)
        before = bytes(back.planes[0] if isinstance(back, av.VideoFrame) else back)
        for m in memory:
            m[:] = bytes(len(m))
        assert bytes(back.planes[0] if isinstance(back, av.VideoFrame) else back) == before


# --- whatever else arrives -----------------------------------------------------------------------------------------


def decode_or_refuse(name, meta, buffers):
    bound = sum(len(b) for b in buffers) * 4 + (4 << 20)
    tracemalloc.start()
    try:
        registry.decode(name, meta, buffers)
    except CodecError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < bound


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from([0, 1, 2, 16, 2**31, 2**63, -1]),
    st.sampled_from(["<f8", "|O", "<U999999999", "|V2147483648", "rgb24", "yuv420p", "cuda", "s16", "fltp", "stereo", "C"]),
)  # fmt: skip
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
fuzz_buffers = st.lists(st.binary(max_size=200), max_size=4)


@given(st.sampled_from(NAMES), st.binary(max_size=200), fuzz_buffers)
@settings(max_examples=300, deadline=None)
def test_garbage_metadata(name, meta, buffers):
    decode_or_refuse(name, meta, buffers)


@given(st.sampled_from(NAMES), documents, fuzz_buffers)
@settings(max_examples=300, deadline=None)
def test_any_json(name, document, buffers):
    decode_or_refuse(name, json.dumps(document).encode(), buffers)


GOOD = {
    name: (json.loads(meta), [bytes(b) for b in buffers])
    for name, meta, buffers in map(
        registry.encode,
        [
            np.zeros((2, 3), [("a", "<i4"), ("b", "<f8", (2,))]), np.float32(1), picture(16, 8, "yuv420p"),
            av.AudioFrame("s16p", "stereo", 20), av.Packet(b"abc"),
        ],
    )
}  # fmt: skip


@given(st.data())
@settings(max_examples=800, deadline=None)
def test_one_field_changed(data):
    name = data.draw(st.sampled_from(NAMES))
    fields, buffers = dict(GOOD[name][0]), list(GOOD[name][1])
    key = data.draw(st.sampled_from(sorted(fields)))
    if data.draw(st.booleans()):
        fields[key] = data.draw(documents)
    elif isinstance(fields[key], list) and fields[key]:
        changed = list(fields[key])
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(leaves)
        fields[key] = changed
    else:
        del fields[key]
    if data.draw(st.booleans()):
        buffers = data.draw(st.permutations([*buffers, b"", b"x" * 64]))
    decode_or_refuse(name, json.dumps(fields).encode(), buffers)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("av.VideoFrame", {"size": [32768, 32768]}),
        ("av.VideoFrame", {"size": [0, 0]}),
        ("av.VideoFrame", {"format": "cuda"}),
        ("av.VideoFrame", {"format": "vaapi"}),
        ("av.VideoFrame", {"size": [16, 10]}),
        ("av.AudioFrame", {"samples": 1 << 28}),
        ("av.AudioFrame", {"layout": "100000 channels"}),
        ("numpy.ndarray", {"shape": [1 << 40, 1 << 40]}),
        ("numpy.ndarray", {"dtype": "|O"}),
        ("av.Packet", {"base": [1, 0]}),
    ],
)
def test_lies_are_refused(name, change):
    fields, buffers = GOOD[name]
    with pytest.raises(CodecError):
        registry.decode(name, json.dumps({**fields, **change}).encode(), buffers)
