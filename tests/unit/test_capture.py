"""CaptureSource: RTSP and files for real; devices as far as their errors go."""

import re
import socket
import subprocess
import sys
import threading
import traceback
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

import avlab
from avlab.core.clock import FakeClock
from avlab.core.errors import ConfigError, MediaError
from avlab.media.sources import read_frame_number
from avlab.media.sources.capture import CaptureSource, _Line
from avlab.media.sources.devices import device

CAMERA = str(Path(__file__).with_name("rtsp_camera.py"))


class Camera:
    """Pushes pictures and sound to an RTSP address until it is closed; a process, since PyAV's muxer connects with the GIL held."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen([sys.executable, CAMERA, url])

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"rtsp://127.0.0.1:{taken.getsockname()[1]}/live"


def listening(url: str, **options) -> CaptureSource:
    """A source to which the camera connects: FFmpeg's RTSP input can listen (8.1 only with a timeout, in seconds)."""
    return CaptureSource(url, options={"rtsp_flags": "listen", "listen_timeout": "10"}, **options)


def test_rtsp_gives_pictures_and_sound_on_one_line_of_time(address):
    source = listening(address)
    source.open()
    camera = Camera(address)
    seen: dict[str, list] = {"video": [], "audio": []}
    try:
        for item in source.items():
            seen[item.track].append(item)
            if all(len(each) >= 45 for each in seen.values()):
                break
    finally:
        source.close()
        camera.close()
    for items in seen.values():
        assert all(b.pts > a.pts for a, b in pairwise(items))
        assert [item.seq for item in items] == list(range(len(items)))
        assert items[0].time < 1.0
    numbers = [read_frame_number(item.value) for item in seen["video"]]
    assert all(b == a + 1 for a, b in pairwise(numbers))
    first = seen["video"][0]
    for item, number in zip(seen["video"], numbers, strict=True):
        assert item.time - first.time == pytest.approx((number - numbers[0]) / 30, abs=0.01)


def test_a_stream_that_ends_is_opened_again_and_time_goes_on(address):
    source = listening(address, audio=False)
    source.open()
    camera, times = Camera(address), []
    try:
        for item in source.items():
            times.append(item.time)
            if len(times) == 20:
                camera.close()
                camera = Camera(address)
            if len(times) == 40:
                break
    finally:
        source.close()
        camera.close()
    assert source.reconnects >= 1
    assert all(b > a for a, b in pairwise(times))
    assert max(b - a for a, b in pairwise(times)) < 15


def test_patience_has_an_end(address):
    source = listening(address, patience=0.01, silence=0.3)
    source.open()
    camera, count = Camera(address), 0
    with pytest.raises(MediaError, match=re.escape(address)):
        for _ in source.items():
            count += 1
            if count == 5:
                camera.close()
    assert count >= 5
    source.close()


@pytest.mark.parametrize(("name", "value"), [("patience", "x"), ("patience", -1), ("silence", 0), ("silence", None), ("device", 5)])
def test_what_it_could_not_use_is_refused_by_name(address, name, value):
    source = avlab.CaptureSource(**{"device": address, name: value})
    with pytest.raises(ConfigError, match=name):
        source.open()


def test_a_file_may_be_given_as_a_path(tmp_path):
    path = tmp_path / "a.mp4"
    (avlab.TestSource(size=(64, 36), audio=False, duration=1) >> avlab.FileSink(path)).run(progress=False)
    result = (avlab.CaptureSource(path, audio=False) >> avlab.Collect()).run(progress=False)
    assert result.items["video"] == 30


def test_a_pipeline_of_a_live_stream_stops_at_once(address):
    camera, seen = Camera(address), threading.Event()

    class See(avlab.Node):
        def process(self, frame: av.VideoFrame) -> None:
            seen.set()

    run = (listening(address) >> See()).start()
    try:
        assert seen.wait(20)
        run.stop()
    finally:
        camera.close()
    assert not run.running


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("capture") / "clip.mp4")
    (avlab.TestSource(size=(96, 48), duration=1) >> avlab.FileSink(path)).run(progress=False, timeout=60)
    return path


def test_a_file_is_read_at_its_own_pace_and_ends(clip):
    clock = FakeClock()
    source = CaptureSource(clip)
    source._clock = clock
    source.open()

    class Passing(threading.Event):
        def wait(self, timeout=None):
            clock.advance(timeout or 0)
            return self.is_set()

    source._stopped = Passing()
    items = list(source.items())
    pictures = [item for item in items if item.track == "video"]
    assert [read_frame_number(item.value) for item in pictures] == list(range(30))
    assert clock() / 1e9 == pytest.approx(1, abs=0.1)
    assert source.reconnects == 0


def test_a_file_in_a_pipeline(clip):
    seen = avlab.Collect()
    result = (avlab.CaptureSource(clip, audio=False) >> seen).run(progress=False, timeout=30)
    assert 25 <= len(seen.items) <= 30
    assert result is not None


def test_time_goes_on_over_openings():
    clock = FakeClock(5_000_000_000)
    line = _Line(clock)

    def frame(pts, base=Fraction(1, 1000)):
        made = av.VideoFrame(16, 16, "gray")
        made.pts, made.time_base = pts, base
        return made

    assert line.item(frame(7_000), "video").pts == 0
    assert line.item(frame(7_040), "video").pts == 40
    assert line.item(frame(7_020), "audio").pts == 20
    assert line.item(frame(7_040), "video").pts == 41  # never the same twice
    clock.advance(3)
    line.begin()
    again = line.item(frame(90, Fraction(1, 90)), "video")
    assert (again.pts, again.time_base, again.value.pts) == (3000, Fraction(1, 1000), 3000)
    assert line.item(frame(None), "video").pts == 3001


def test_sound_from_before_the_first_picture_is_left_out_and_does_not_overlap():
    """A stream may bring a picture first and then sound that was heard before it."""
    line, base = _Line(FakeClock(0)), Fraction(1, 48000)

    def sound(pts):
        made = av.AudioFrame("s16", "mono", 960)
        made.sample_rate, made.pts, made.time_base = 48000, pts, base
        return made

    picture = av.VideoFrame(16, 16, "gray")
    picture.pts, picture.time_base = 48000, base
    assert line.item(picture, "video").pts == 0
    items = [line.item(sound(48000 + block * 960), "audio") for block in range(-3, 3)]
    assert [item.pts for item in items if item is not None] == [0, 960, 1920]


@pytest.mark.parametrize("password", ["secret", "p@secret", "p:@secret"])
def test_a_password_is_in_no_text(password):
    with pytest.raises(MediaError) as raised:
        next(CaptureSource(f"rtsp://user:{password}@127.0.0.1:9/x").items())
    assert "127.0.0.1" in str(raised.value)
    assert "secret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/dev/video77", r"/dev/video77.*cameras here"),
        ("alsa:nosuchcard", r"alsa:nosuchcard.*arecord -L"),
        ("x11grab::77", r"x11grab::77.*xhost"),
        ("kmsgrab:/dev/dri/card77", r"kmsgrab.*screen"),
        ("rtsp://user:secret@127.0.0.1:1/x", r"rtsp://…@127.0.0.1:1/x.*address, port and path"),
    ],
)
def test_a_device_that_is_not_there_is_named_with_the_remedy(name, says):
    source = CaptureSource(name)
    source.open()
    with pytest.raises(MediaError, match=says) as caught:
        next(source.items())
    assert "secret" not in str(caught.value)


def test_an_input_that_this_ffmpeg_lacks_is_named_with_another(monkeypatch):
    def lacking(name, mode):
        raise ValueError(name)

    monkeypatch.setattr("avlab.media.sources.devices.ContainerFormat", lacking)
    with pytest.raises(MediaError, match=r"no pulse; use alsa:default"):
        next(CaptureSource("pulse:default").items())


def test_a_screen_without_a_display_is_told(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(MediaError, match="set DISPLAY"):
        next(CaptureSource("screen").items())


@pytest.mark.parametrize("name", ["", "camera", "ftp://host/x", "/no/such/file.mp4", "rtsp:x"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(ConfigError, match="no capture device"):
        CaptureSource(name).open()


def test_what_a_device_cannot_give_is_refused():
    with pytest.raises(ConfigError, match="neither video nor audio"):
        CaptureSource("/dev/video0", video=False).open()


def test_devices_say_what_comes_from_them_without_being_asked():
    assert CaptureSource("/dev/video0").tracks() == {"video": av.VideoFrame}
    assert CaptureSource("alsa:hw:1").tracks() == {"audio": av.AudioFrame}
    assert CaptureSource("rtsp://host/x").tracks() == {"video": av.VideoFrame, "audio": av.AudioFrame}
    assert CaptureSource("rtsp://host/x", audio=False).produces == (av.VideoFrame,)
    assert device("v4l2:/dev/video3").location == "/dev/video3"
    assert device("rtsp://u:p@h/x").location == "rtsp://u:p@h/x"
    assert "file" not in device("rtsp://host/x").options["protocol_whitelist"]
    assert CaptureSource.live == {"audio": 50}


def test_a_camera_is_asked_for_size_and_rate():
    source = CaptureSource("/dev/video0", size=(640, 480), rate=15, options={"input_format": "mjpeg"})
    assert source._asked(device("/dev/video0")) == {
        "video_size": "640x480",
        "framerate": "15",
        "input_format": "mjpeg",
    }
