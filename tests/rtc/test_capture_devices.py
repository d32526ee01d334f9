"""CaptureSource on devices that a machine without any can have: an X server in memory, and ALSA's PCMs of software."""

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import avlab
from avlab.media.sources import read_frame_number

SIZE = (640, 360)
# In a process of its own, for the ALSA library reads its configuration once.
LISTEN = """
import json, sys
import numpy as np
import avlab
heard, times = [], []
source = avlab.CaptureSource(sys.argv[1])
source.open()
for item in source.items():
    heard.append(item.value.to_ndarray().reshape(-1, 2)[:, 0].astype(float))
    times.append(item.time)
    if sum(map(len, heard)) > 9600:
        break
sound = np.concatenate(heard)[:9600]
spectrum = abs(np.fft.rfft(sound * np.hanning(9600)))
print(json.dumps({
    'track': item.track, 'rate': item.value.sample_rate, 'hertz': int(spectrum.argmax()) * 5, 'loud': float(abs(sound).max()),
    'forward': all(b > a for a, b in zip(times, times[1:])), 'first': times[0],
}))
"""


class Screen:
    """An X server whose picture lies in a file (in XWD's format) that anybody may paint into."""

    def __init__(self, folder: Path) -> None:
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-fbdir", str(folder), "-nolisten", "tcp"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.name = f":{self.process.stdout.readline().strip()}"
        path = folder / "Xvfb_screen0"
        header = struct.unpack(">25I", path.read_bytes()[:100])
        begin, line, colours = header[0] + 12 * header[19], header[12], header[19]
        assert colours and line == 4 * SIZE[0], header
        self.pixels = np.memmap(path, np.uint8, "r+", begin, (SIZE[1], SIZE[0], 4))

    def paint(self, frame: av.VideoFrame) -> None:
        self.pixels[..., :3] = frame.to_ndarray(format="bgr24")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
        self.pixels = np.zeros(0)  # lets the file go


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    made = Screen(tmp_path)
    yield made
    made.close()


def pictures(count: int) -> list[av.VideoFrame]:
    source = avlab.TestSource(size=SIZE, audio=False, duration=1)
    return [item.value for item, _ in zip(source.items(), range(count), strict=False)]


def test_a_screen_is_seen_as_it_is_painted(screen: Screen) -> None:
    painted = pictures(6)
    screen.paint(painted[0])
    source = avlab.CaptureSource(f"x11grab:{screen.name}", size=SIZE, rate=20)
    source.open()
    items: Any = source.items()
    seen, times = [], []
    for number, picture in enumerate(painted):
        screen.paint(picture)
        for _ in range(40):
            item = next(items)
            times.append(item.time)
            if read_frame_number(item.value) == number:
                break
        seen.append(read_frame_number(item.value))
    items.close()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert (item.value.width, item.value.height, item.track) == (*SIZE, "video")
    same = item.value.to_ndarray(format="bgr24") == painted[-1].to_ndarray(format="bgr24")
    assert 0.99 < same.mean() < 1  # all but the mouse's pointer
    assert times[0] == 0 and all(later > earlier for earlier, later in pairwise(times))


def test_the_screen_of_the_environment_in_a_pipeline(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", screen.name)
    screen.paint(pictures(1)[0])
    sizes, enough = set(), threading.Event()

    @avlab.node
    def look(frame: av.VideoFrame) -> None:
        sizes.add((frame.width, frame.height))
        enough.set()

    with (avlab.CaptureSource("screen", size=SIZE, rate=20) >> avlab.Resize(width=320) >> look()).start():
        assert enough.wait(20)
    assert sizes == {(320, 180)}


def test_a_screen_that_goes_away_ends_the_source_with_its_name(screen: Screen) -> None:
    source = avlab.CaptureSource(f"x11grab:{screen.name}", patience=0)
    source.open()
    items: Any = source.items()
    next(items)
    screen.close()
    with pytest.raises(avlab.MediaError, match=f"x11grab:{screen.name}"):
        for _ in range(200):
            next(items)


def listen(name: str, **environment: str) -> dict[str, Any]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ALSA_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, name], env=inherited | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_sound_comes_from_a_pcm_that_the_user_has_configured(tmp_path: Path) -> None:
    wave = 9000 * np.sin(2 * np.pi * 440 / 48000 * np.arange(96000))
    np.repeat(wave.astype(np.int16), 2).tofile(tmp_path / "tone.raw")
    own = tmp_path / "asound.conf"
    own.write_text(
        f"pcm.tone {{ type file slave.pcm {{ type null }} file /dev/null infile {tmp_path}/tone.raw format raw }}"
    )
    heard = listen("alsa:tone", ALSA_CONFIG_PATH=str(own))
    assert (heard["track"], heard["rate"], heard["hertz"]) == ("audio", 48000, 440)
    assert heard["loud"] == pytest.approx(9000, rel=0.01)
    assert heard["first"] == 0 and heard["forward"]


def test_pcms_of_the_system_are_found() -> None:
    """PyAV's ALSA library knows only the place where it was built."""
    assert listen("alsa:null")["rate"] == 48000
