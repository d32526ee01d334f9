"""FileSource and FileSink over real files: times kept, sound kept, and clear errors for everything broken."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import sys
from fractions import Fraction
from unittest.mock import patch

import av
import numpy as np
import pytest

from avlab.core.errors import ConfigError, MediaError, TimingError
from avlab.core.item import Item
from avlab.core.node import Shape, consumes, shape_of, takes_item
from avlab.media.sinks.collect import Collect
from avlab.media.sinks.file import FileSink
from avlab.media.sources import file
from avlab.media.sources.file import FileSource
from avlab.media.sources.test import TestSource, read_frame_number
from avlab.nodes.video import VideoConvert


def write(path, items, **options):
    sink = FileSink(str(path), **options)
    sink.open()
    try:
        for item in items:
            sink.process(item)
        sink.flush()
    finally:
        sink.close()
    return str(path)


def clip(path, duration=2, size=(320, 240), rate=25, audio=True, **options):
    return write(path, TestSource(size=size, rate=rate, duration=duration, audio=audio).items(), **options)


def read(path, **options):
    return list(FileSource(str(path), **options).items())


def read_until_broken(path, message):
    items = []
    with pytest.raises(MediaError, match=message):
        for item in FileSource(str(path)).items():
            items.append(item)
    return items


def by_track(items):
    tracks = {}
    for item in items:
        tracks.setdefault(item.track, []).append(item)
    return tracks


def times(items):
    return [item.pts * item.time_base for item in items]


def leftovers(folder):
    return [name for name in os.listdir(folder) if ".part-" in name]


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "webm", "ts"])
def test_pictures_and_sound_there_and_back(tmp_path, extension):
    source = list(TestSource(size=(320, 240), rate=25, duration=2).items())
    tracks = by_track(read(write(tmp_path / f"a.{extension}", source)))
    video = tracks["video"]
    assert len(video) == 50 and [read_frame_number(i.value) for i in video] == list(range(50))
    start = video[0].pts * video[0].time_base  # mpegts begins later, on purpose
    assert [t - start for t in times(video)] == [Fraction(n, 25) for n in range(50)]
    audio = tracks["audio"]
    samples = sum(i.value.samples for i in audio)
    assert 96000 <= samples < 96000 + 2 * 1024
    assert abs(times(audio)[0] - start) <= Fraction(1, 40)
    assert [i.seq for i in audio] == list(range(len(audio)))


def test_times_of_mp4_are_exact(tmp_path):
    bases = [Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 12800)]
    for base in bases:
        pts = list(itertools.accumulate([7, 3, 11, 2, 40, 1, 9] * 5))
        items = [
            Item(i.value, p, base, "v", i.seq)
            for p, i in zip(pts, TestSource(size=(64, 48), audio=False).items(), strict=False)
        ]
        back = read(write(tmp_path / "a.mp4", items))
        assert times(back) == [p * base for p in pts]
        assert [read_frame_number(i.value) for i in back] == list(range(len(pts)))


@pytest.mark.parametrize("layout", ["5.1", "5.1(side)"])
def test_sound_of_six_channels_stays(tmp_path, layout):
    rng = np.random.default_rng(1)
    items = []
    for n in range(100):
        frame = av.AudioFrame("fltp", layout, 1000)
        for c, plane in enumerate(frame.planes):
            t = (np.arange(1000) + n * 1000) / 48000
            plane.update(
                (0.3 * np.sin(2 * np.pi * 200 * (c + 1) * t) + 0.001 * rng.standard_normal(1000)).astype(np.float32)
            )
        frame.sample_rate = 48000
        items.append(Item(frame, n * 1000, Fraction(1, 48000), "audio", n))
    back = read(write(tmp_path / "a.mp4", items))
    assert {i.value.layout.name for i in back} == {"5.1"} and times(back)[0] == 0
    ours = np.concatenate([i.value.to_ndarray() for i in items], 1)
    theirs = np.concatenate([i.value.to_ndarray() for i in back], 1)[:, : ours.shape[1]]
    likeness = np.corrcoef(ours, theirs)[:6, 6:]
    full = [0, 1, 2, 4, 5]  # the fourth channel is the subwoofer's: AAC keeps its lowest tones only
    assert likeness.argmax(1)[full].tolist() == full and likeness.diagonal()[full].min() > 0.95


@pytest.mark.parametrize(
    ("extension", "exact"),
    [("wav", True), ("flac", True), ("mp3", False), ("m4a", False), ("ogg", False), ("opus", False)],
)
def test_sound_alone(tmp_path, extension, exact):
    items = [i for i in TestSource(size=(64, 48), duration=1).items() if i.track == "audio"]
    back = read(write(tmp_path / f"a.{extension}", items))
    samples = sum(i.value.samples for i in back)
    if exact:
        ours = b"".join(bytes(i.value.planes[0]) for i in items)
        theirs = b"".join(bytes(i.value.planes[0])[: i.value.samples * 4] for i in back)
        assert ours == theirs
    else:
        assert 48000 <= samples < 48000 + 3000


@pytest.mark.parametrize("rate", [44100, 22050, 96000])
def test_sound_at_rates_that_the_encoder_lacks(tmp_path, rate):
    frames = []
    for n in range(50):
        frame = av.AudioFrame("s16", "mono", rate // 50)
        frame.planes[0].update(np.full(rate // 50, 1000, np.int16))
        frame.sample_rate = rate
        frames.append(Item(frame, n * (rate // 50), Fraction(1, rate), "a", n))
    back = read(write(tmp_path / "a.webm", frames))
    assert abs(sum(i.value.samples for i in back) - 48000) <= 1000
    assert {i.value.sample_rate for i in back} == {48000}


def test_many_tracks(tmp_path):
    def items():
        for i in TestSource(size=(64, 48), duration=1).items():
            yield i
            yield Item(i.value, i.pts, i.time_base, i.track + "b", i.seq)

    path = write(tmp_path / "a.mkv", items())
    source = FileSource(path)
    assert source.tracks() == {
        "video": av.VideoFrame,
        "audio": av.AudioFrame,
        "video1": av.VideoFrame,
        "audio1": av.AudioFrame,
    }
    assert {track: len(i) for track, i in by_track(source.items()).items() if track[:5] == "video"} == {
        "video": 30,
        "video1": 30,
    }


def test_tracks_that_begin_late_are_in_the_header(tmp_path):
    items = sorted(TestSource(size=(64, 48), duration=4).items(), key=lambda i: i.track == "audio")
    assert set(by_track(read(write(tmp_path / "a.mp4", items)))) == {"video", "audio"}


def test_a_track_after_the_header_is_an_error(tmp_path):
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.expects({"video": av.VideoFrame})
    items = list(TestSource(size=(64, 48), duration=4).items())
    with pytest.raises(MediaError, match="begins after the header"):
        for item in sorted(items, key=lambda i: i.track == "audio"):
            sink.process(item)
    sink.close()
    assert os.listdir(tmp_path) == []


def test_the_frames_that_are_written_stay_as_they_are(tmp_path):
    items = read(clip(tmp_path / "a.mp4", 1))
    before = [(i.value.pts, i.value.time_base, getattr(i.value, "pict_type", None)) for i in items]
    moved = [Item(i.value, i.pts + 1000, i.time_base, i.track, i.seq) for i in items]
    write(tmp_path / "b.mkv", moved)
    assert [(i.value.pts, i.value.time_base, getattr(i.value, "pict_type", None)) for i in items] == before


def test_the_item_says_the_time_not_the_frame(tmp_path):
    frames = [i.value for i in TestSource(size=(64, 48), audio=False, duration=1).items()]
    back = read(write(tmp_path / "a.mp4", [Item(f, n * 2, Fraction(1, 10), "v", n) for n, f in enumerate(frames)]))
    assert times(back) == [Fraction(n * 2, 10) for n in range(len(frames))]


@pytest.mark.parametrize("form", ["rgb24", "gray", "yuv444p", "nv12", "rgba", "yuv420p10le"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_pixel_formats_and_odd_sizes(tmp_path, form, size):
    source = TestSource(size=size, audio=False, duration=0.2)
    items = [Item(i.value.reformat(format=form), i.pts, i.time_base, i.track, i.seq) for i in source.items()]
    for extension, expected in (("mp4", (64, 48)), ("webm", size)):
        back = read(write(tmp_path / f"a.{extension}", items))
        assert {(i.value.width, i.value.height) for i in back} == {expected}
        assert [read_frame_number(i.value) for i in back] == [i.seq for i in items]


def test_colors_of_rgb_survive(tmp_path):
    array = np.zeros((720, 1280, 3), np.uint8)
    array[:] = (200, 40, 60)
    (back,) = read(write(tmp_path / "a.mp4", [Item(array, 0, Fraction(1, 30), "v")], crf=1))
    assert int(back.value.colorspace) == 1  # BT.709, and said so
    rgb = VideoConvert("rgb24").process(back.value).to_ndarray()
    assert np.abs(rgb.astype(int) - array).max() <= 4


def test_size_that_changes_is_scaled_to_the_first(tmp_path):
    items = [
        Item(i.value.reformat(64 + 16 * (i.seq // 3), 48), i.pts, i.time_base, "v", i.seq)
        for i in TestSource(size=(64, 48), audio=False, duration=0.5).items()
    ]
    back = read(write(tmp_path / "a.mp4", items))
    assert len(back) == len(items) and {(i.value.width, i.value.height) for i in back} == {(64, 48)}


def test_arrays(tmp_path):
    pictures = [Item(np.full((48, 64, 3), n, np.uint8), n, Fraction(1, 10), "v", n) for n in range(10)]
    sound = [Item(np.zeros((4800, 2), np.float32), n, Fraction(1, 10), "a", n) for n in range(10)]
    tracks = by_track(read(write(tmp_path / "a.mp4", [*pictures, *sound], rate=48000)))
    assert len(tracks["video"]) == 10 and sum(i.value.samples for i in tracks["audio"]) >= 48000


def test_pictures_without_time(tmp_path):
    items = [Item(np.full((48, 64, 3), n, np.uint8), track="v") for n in range(10)]
    assert times(read(write(tmp_path / "a.mp4", items, fps=5))) == [Fraction(n, 5) for n in range(10)]
    with pytest.raises(TimingError, match="fps"):
        write(tmp_path / "b.mp4", items)


def test_one_picture(tmp_path):
    frame = next(TestSource(size=(64, 48)).items())
    for extension in ("png", "jpg"):
        (back,) = read(write(tmp_path / f"a.{extension}", [frame]))
        assert read_frame_number(back.value) == 0
    with pytest.raises(MediaError, match="one picture"):
        clip(tmp_path / "b.png", audio=False)
    assert not (tmp_path / "b.png").exists()


def test_gif(tmp_path):
    assert len(read(clip(tmp_path / "a.gif", 1, audio=False, rate=10))) == 10


def test_video_codec_and_quality(tmp_path):
    small = clip(tmp_path / "a.mkv", 1, video_codec="h264", crf=40)
    large = clip(tmp_path / "b.mkv", 1, crf=5)
    assert os.path.getsize(small) < os.path.getsize(large)
    lossless = clip(tmp_path / "c.mkv", 0.2, audio=False, video_codec="ffv1")
    ours = TestSource(size=(320, 240), rate=25, duration=0.2, audio=False).items()
    for a, b in zip(ours, read(lossless), strict=True):
        assert np.array_equal(a.value.to_ndarray(), b.value.to_ndarray())


# --- sound and time ------------------------------------------------------------------------------------------------


def tone(n, samples=960, rate=48000):
    frame = av.AudioFrame("s16", "mono", samples)
    frame.planes[0].update(np.full(samples, n, np.int16))
    frame.sample_rate = rate
    return frame


def test_a_gap_in_the_sound_stays_a_gap(tmp_path):
    starts = [*range(0, 48000, 960), *range(96000, 144000, 960)]
    back = read(write(tmp_path / "a.mp4", [Item(tone(1), p, Fraction(1, 48000), "a", n) for n, p in enumerate(starts)]))
    assert max(times(back)) > Fraction(29, 10) and sum(i.value.samples for i in back) < 100000


@pytest.mark.parametrize("extension", ["mp4", "webm"])
@pytest.mark.parametrize("gap", [0.03, 1])
@pytest.mark.parametrize("rate", [48000, 22050])
def test_no_sound_gets_into_a_gap(tmp_path, extension, gap, rate):
    hum = np.sin(np.arange(rate // 2) / rate * 2764).astype(np.float32)
    starts = 0, round((0.5 + gap) * rate)
    path = write(tmp_path / f"a.{extension}", [Item(hum, p, Fraction(1, rate), "a") for p in starts], rate=rate)
    loud = [(float(i.pts * i.time_base) + np.arange(i.value.samples) / i.value.sample_rate, i.value) for i in read(path)]
    when = np.concatenate([time for time, _ in loud])
    sound = np.concatenate([np.abs(frame.to_ndarray()[0]) for _, frame in loud])
    inside = (when > 0.51) & (when < 0.49 + gap)
    assert sound[~inside].mean() > 0.5 and sound[inside].sum() < 0.004 * rate * sound[~inside].mean()


def test_rounded_times_make_no_gaps(tmp_path):
    frames = [Item(tone(1, 1024), round(n * 1024 / 48), Fraction(1, 1000), "a", n) for n in range(100)]
    back = read(write(tmp_path / "a.m4a", frames))
    assert times(back) == [Fraction(n * 1024, 48000) for n in range(len(back))]


def test_form_of_the_sound_may_change(tmp_path):
    items, at = [], Fraction(0)
    for n in range(60):
        rate = 48000 if n % 20 < 10 else 44100
        frame = tone(n, rate // 50, rate) if n % 7 else av.AudioFrame("fltp", "stereo", rate // 50)
        frame.sample_rate = rate
        if not n % 7:
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
        items.append(Item(frame, round(at * rate), Fraction(1, rate), "a", n))
        at += Fraction(1, 50)
    back = read(write(tmp_path / "a.mp4", items))
    assert abs(sum(i.value.samples for i in back) - 57600) < 2500


@pytest.mark.parametrize("bad", [[0, 1, 1], [0, 2, 1], [5, 4]])
def test_pts_that_do_not_increase(tmp_path, bad):
    frame = next(TestSource(size=(64, 48)).items()).value
    with pytest.raises(TimingError, match=rf"track 'v' do not increase: {bad[-1]} .* comes after {bad[-2]} "):
        write(tmp_path / "a.mp4", [Item(frame, p, Fraction(1, 25), "v", n) for n, p in enumerate(bad)])
    with pytest.raises(TimingError, match=rf"track 'a' do not increase: {bad[-1]} "):
        write(tmp_path / "a.mp4", [Item(tone(1, 100), p, Fraction(1, 25), "a", n) for n, p in enumerate(bad)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_times_below_zero_lose_nothing(tmp_path, extension):
    base = Fraction(1, 25)
    items = [
        Item(item.value, item.pts - (10 if item.track == "video" else 9600), item.time_base, item.track, item.seq)
        for item in TestSource(size=(64, 48), rate=25, duration=1).items()
    ]
    back = by_track(read(write(tmp_path / f"a.{extension}", items)))
    assert [read_frame_number(item.value) for item in back["video"]] == list(range(25))
    video = times(back["video"])
    assert [round((time - video[0]) / base) for time in video] == list(range(25))
    sound = back["audio"][-1]
    ahead = sound.time + sound.value.samples / 48000 - float(video[-1] + base)
    assert abs(ahead - 0.2) < 0.05


@pytest.mark.parametrize(
    ("pts", "base", "message"),
    [
        (1 << 70, Fraction(1, 25), "has pts 1180591620717411303424"),
        (1.5, Fraction(1, 25), r"has pts 1\.5"),
        (1 << 62, Fraction(1, 25), f"cannot hold pts {1 << 62} .* of track 'v'"),
        (1, Fraction(0), "time base Fraction"),
        (1, Fraction(-1, 25), "time base Fraction"),
        (1, Fraction(1, 1 << 40), "time base Fraction"),
        (1, 0.04, "time base 0.04"),
    ],
)
def test_times_that_no_file_holds_are_named(tmp_path, pts, base, message):
    frame = next(TestSource(size=(64, 48)).items()).value
    with pytest.raises(TimingError, match=message):
        write(tmp_path / "a.mp4", [Item(frame, 0, Fraction(1, 25), "v"), Item(frame, pts, base, "v", 1)])
    assert os.listdir(tmp_path) == []


def test_sound_that_overlaps(tmp_path):
    with pytest.raises(TimingError, match="overlaps"):
        write(tmp_path / "a.mp4", [Item(tone(1), p, Fraction(1, 48000), "a") for p in (0, 500)])


# --- what cannot be written ----------------------------------------------------------------------------------------


def first(**options):
    return next(TestSource(size=(64, 48), **options).items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.xyz", {}, "cannot tell the format"),
        ("a", {}, "cannot tell the format"),
        ("a.mp4", {"video_codec": "libx26"}, "close: .*libx264"),
        ("a.mp4", {"video_codec": "aac"}, "encodes audio"),
        ("a.webm", {"video_codec": "libx264"}, "cannot hold"),
        ("a.wav", {}, "cannot hold pictures"),
        ("a.mp4", {"pixel_format": "rgb24"}, "does not take"),
        ("a.mp4", {"fps": "often"}, "fps"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, name, options, message):
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / name, [first()], **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "value",
    [
        {"text": 1},
        "text",
        np.zeros((2, 2), complex),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(10, np.float32),
        np.zeros((2, 48), np.int16),
    ],
)
def test_values_that_no_file_holds(tmp_path, value):
    with pytest.raises(MediaError):
        write(tmp_path / "a.mp4", [Item(value, 0)])


def test_no_item_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(MediaError, match="no item"):
        write(tmp_path / "a.mp4", [])
    assert os.listdir(tmp_path) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.open()
    sink.process(first())
    assert (tmp_path / "a.mp4").read_bytes() == b"old" and len(leftovers(tmp_path)) == 1
    sink.close()
    assert os.listdir(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == b"old"


def test_permissions_are_those_of_any_new_file(tmp_path):
    path = clip(tmp_path / "a.mp4", 0.2)
    (tmp_path / "b").touch()
    assert os.stat(path).st_mode == os.stat(tmp_path / "b").st_mode


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(MediaError, match="No such file"):
        clip(tmp_path / "missing" / "a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        clip(tmp_path / "folder.mp4")
    with pytest.raises(MediaError, match="cannot write"):
        clip("/proc/a.mp4")


FULL = """
import resource, signal, sys
from avlab.core.errors import MediaError
from avlab.media.sinks.file import FileSink
from avlab.media.sources.test import TestSource
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = FileSink(sys.argv[1], crf=1)
sink.open()
try:
    for item in TestSource(size=(320, 240), duration=5).items():
        sink.process(item)
    sink.flush()
except MediaError as error:
    print("MediaError:", error)
finally:
    sink.close()
"""


@pytest.mark.parametrize("extension", ["mp4", "mkv", "wav"])
def test_full_disk(tmp_path, extension):
    """A limit on the size of files gives the same errors of writing as a full disk."""
    script = (
        FULL
        if extension != "wav"
        else FULL.replace(".items():", ".items():\n        if item.track == 'video': continue")
    )
    path = tmp_path / f"a.{extension}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.search(rf"MediaError: cannot write '{path}': the disk is full", done.stdout), done
    assert os.listdir(tmp_path) == []


# --- reading -------------------------------------------------------------------------------------------------------


def test_source_says_what_it_holds(tmp_path):
    source = FileSource(clip(tmp_path / "a.mp4"))
    assert shape_of(source) is Shape.SOURCE
    assert source.produces == (av.VideoFrame, av.AudioFrame)
    assert source.duration == pytest.approx(2, abs=0.05) and source.total() == pytest.approx(50 + 95, abs=2)
    assert FileSource(source.path, audio=False).produces == (av.VideoFrame,)
    assert FileSource(source.path, loop=True).total() is None
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    assert FileSource(str(tmp_path / "b.mp4")).tracks() == source.tracks()


def test_source_without_video_or_audio(tmp_path):
    quiet, blind = clip(tmp_path / "a.mp4", 0.2, audio=False), tmp_path / "b.wav"
    write(blind, (i for i in TestSource(size=(64, 48), duration=0.2).items() if i.track == "audio"))
    assert FileSource(quiet).produces == (av.VideoFrame,) and FileSource(str(blind)).produces == (av.AudioFrame,)
    with pytest.raises(MediaError, match="has no audio; it holds video"):
        read(quiet, video=False)
    with pytest.raises(MediaError, match="has no video; it holds audio"):
        read(blind, audio=False)


def test_a_loop_of_a_file_whose_times_begin_late_has_no_gaps(tmp_path):
    items = [Item(i.value, i.pts + 250, i.time_base, i.track, i.seq) for i in TestSource(size=(64, 48), rate=25, duration=1, audio=False).items()]
    looped = itertools.islice(FileSource(write(tmp_path / "a.mkv", items), loop=True).items(), 80)
    assert [round(later - earlier, 3) for earlier, later in itertools.pairwise(times(looped))] == [Fraction(40, 1000)] * 79


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, monkeypatch):
    (tmp_path / "big").mkdir()
    link = tmp_path / "a.mp4"
    link.symlink_to("big/b.mp4")
    clip(link, 0.2, (64, 48))
    assert link.is_symlink()
    assert os.listdir(tmp_path / "big") == ["b.mp4"]
    monkeypatch.chdir(tmp_path)
    sink = FileSink("c.mp4")
    sink.open()
    sink.process(Item(av.VideoFrame(64, 48, "yuv420p"), 0, Fraction(1, 25), "video"))
    monkeypatch.chdir("/")  # the path was meant where it was opened
    sink.flush()
    assert (tmp_path / "c.mp4").is_file()


def test_a_name_as_long_as_a_folder_takes_it(tmp_path):
    name = "文" * 80 + ".mp4"
    clip(tmp_path / name, 0.2, (64, 48))
    assert os.listdir(tmp_path) == [name]


def test_loop_goes_on_in_time(tmp_path):
    path = clip(tmp_path / "a.mp4", 1)
    items = list(itertools.islice(FileSource(path, loop=True).items(), 250))
    for track, own in by_track(items).items():
        assert [i.seq for i in own] == list(range(len(own)))
        gaps = {b - a for a, b in itertools.pairwise(times(own))}
        assert min(gaps) > 0 and max(gaps) < Fraction(1, 10), track
        assert all(i.value.pts == i.pts for i in own)


@pytest.mark.parametrize("path", [5, None, b"a.mp4", "a\0b.mp4"])
def test_paths_that_are_none(path):
    with pytest.raises(ConfigError, match="path of FileSource is"):
        FileSource(path).tracks()
    with pytest.raises(ConfigError, match="path of FileSink is"):
        FileSink(path).open()


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    for name, message in (
        ("missing.mp4", "no file"),
        ("", "folder"),
        ("empty.mp4", "empty"),
        ("text.mp4", "not a media file"),
    ):
        with pytest.raises(MediaError, match=message):
            read(tmp_path / name)
        with pytest.raises(MediaError, match=message):
            _ = FileSource(str(tmp_path / name)).produces


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
def test_file_that_was_cut_off(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    clip(path, 4, crf=10)
    whole = by_track(read(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    tracks = by_track(read_until_broken(path, rf"'{path}' is broken after \d\.\d\d s of track"))
    for track, items in whole.items():
        assert len(items) * 0.4 < len(tracks[track]) < len(items)
        assert times(tracks[track]) == times(items)[: len(tracks[track])]


def test_file_with_damage_in_the_middle(tmp_path):
    path = tmp_path / "a.mp4"
    clip(path, 4, crf=10, audio=False)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8))
    path.write_bytes(data)
    got = read_until_broken(path, "is broken after")
    assert 30 < len(got) < 70 and [read_frame_number(i.value) for i in got] == list(range(len(got)))
    assert len(read(path, tolerant=True)) > 90


def test_flac_that_was_cut_off(tmp_path):
    path = tmp_path / "a.flac"
    write(path, [Item(np.random.default_rng(0).normal(0, 3000, 96000).astype(np.int16), 0, Fraction(1, 48000), "a")], rate=48000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(MediaError, match=r"is broken after 1\.\d\d s of track 'audio'"):
        read(path)


@pytest.mark.parametrize(
    ("mistimed", "starts", "settled"),
    [
        ("vorbis", [0, 20, 37, 60, 160, 170], [0, 20, 40, 60, 160, 180]),  # as browsers record: each a little late or early
        ("vorbis", [0, 20, 45, 60, 80], [0, 20, 45, 65, 85]),
        ("pcm_s16le", [0, 20, 49, 51, 80, 200], [0, 20, 40, 60, 80, 200]),  # FFmpeg's reader errs where the size of blocks changes
    ],
)
def test_sound_with_rough_times_goes_on(tmp_path, mistimed, starts, settled):
    path = str(tmp_path / "a.mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        for start in starts:
            frame = tone(1000)
            frame.pts, frame.time_base = 48 * start, Fraction(1, 48000)
            container.mux(stream.encode(frame))
    with patch.object(file, "_MISTIMED", mistimed):
        items = read(path)
    assert [item.pts for item in items] == [item.value.pts for item in items] == settled
    write(tmp_path / "b.mp4", items)


def encoded(container, codec, rate, count):
    """A grey picture after the other: its stream, and its packets."""
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height = 64, 48
    for n in range(count):
        yield stream, stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * n, np.uint8), "rgb24"))
    yield stream, stream.encode(None)


def test_pictures_without_time_come_at_the_rate_of_the_stream(tmp_path):
    path = str(tmp_path / "a.h264")
    with av.open(path, "w") as container:
        for _, packets in encoded(container, "libx264", 24, 6):
            container.mux(packets)
    items = itertools.islice(FileSource(path, loop=True).items(), 10)
    assert [round(t * 24, 3) for t in times(items)] == list(range(10))


def test_packets_without_bytes_repeat_a_picture(tmp_path):
    path = str(tmp_path / "a.nut")
    with av.open(path, "w") as container:
        for n, (stream, packets) in enumerate(encoded(container, "mpeg4", 25, 5)):
            if n == 2:  # as Theora and VP8 say that nothing has changed
                empty = av.Packet(0)
                empty.pts = empty.dts = n
                empty.stream, empty.time_base = stream, Fraction(1, 25)
                packets = [empty]
            container.mux(packets)
    assert [round(t * 25) for t in times(read(path))] == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("shape", "shown"), [(Fraction(64, 45), (102, 48)), (Fraction(8, 9), (64, 48)), (Fraction(99), (72, 48))]
)
def test_pictures_have_square_pixels(tmp_path, shape, shown):
    path = str(tmp_path / "a.mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = shape
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 72, 3), 200, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    items = read(path)
    assert [(item.value.width, item.value.height) for item in items] == [shown] * 3
    assert [round(item.pts * item.time_base * 25) for item in items] == [0, 1, 2] and abs(int(items[0].value.to_rgb().to_ndarray()[20, 20, 0]) - 200) < 3


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), True),
        ((0, -1, 1, 0), True),
        ((-1, 0, 0, -1), False),
        ((-1, 0, 0, 1), False),
        ((1, 0, 0, -1), False),
        ((0, 1, 1, 0), True),
        ((0, -1, -1, 0), True),
    ],
)
def test_pictures_are_turned_as_the_file_asks(tmp_path, matrix, turned):
    path = tmp_path / "a.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # top left
    write(path, [Item(picture, n, Fraction(1, 10), "v", n) for n in range(5)])
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (v * 65536 for v in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    items = read(path)
    gray = items[0].value.to_ndarray(format="gray")
    assert gray.shape == ((64, 48) if turned else (48, 64)) and len(items) == 5
    half = gray.shape[0] // 2, gray.shape[1] // 2
    corner = int(b + d < 0), int(a + c < 0)  # where the white corner belongs
    mean = [
        [gray[y * half[0] : (y + 1) * half[0], x * half[1] : (x + 1) * half[1]].mean() for x in (0, 1)] for y in (0, 1)
    ]
    assert max((mean[y][x], (y, x)) for y in (0, 1) for x in (0, 1))[1] == corner
    assert [(i.pts * i.time_base) for i in items] == [Fraction(n, 10) for n in range(5)]


# --- collect -------------------------------------------------------------------------------------------------------


def test_collect():
    sink = Collect()
    assert shape_of(sink) is Shape.FUNCTION and takes_item(sink) and consumes(sink) == ()
    for n in range(5):
        sink.process(Item(n, n))
    assert sink.values == [0, 1, 2, 3, 4] and [i.pts for i in sink.items] == [0, 1, 2, 3, 4] and sink.dropped == 0
    sink.open()
    assert sink.items == []


def test_collect_with_a_limit():
    sink = Collect(limit=2)
    sink.open()
    for n in range(5):
        sink.process(Item(n))
    assert sink.values == [3, 4] and sink.dropped == 3


def test_sink_takes_whole_items():
    assert takes_item(FileSink("a.mp4")) and consumes(FileSink("a.mp4")) == ()
