"""Camera and microphone over the notebook's own connection, where no direct path stands, or not yet, or not any more."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from camera_page import Page
from message_camera import FLYING, MessageCamera
from test_camera_source import Taken, ask, count, increasing

from avlab.media.rtc.browser_source import BrowserSource
from avlab.media.runtime import MediaRuntime


class Scene:
    """A source, its page, what it gives, and the runs of messages of the page."""

    def __init__(self, *tracks: str) -> None:
        self.runtime = MediaRuntime()
        self.page = Page(self.runtime)
        self.source = BrowserSource(self.page.deliver, ask(*tracks), runtime=self.runtime)
        self.page.receive = self.source.receive
        self.source.begin(ask(*tracks))
        self.page.show()
        self.taken = Taken(self.source.items())
        self._cameras: list[MessageCamera] = []

    def camera(self, run: int = 1, **options: Any) -> MessageCamera:
        self._cameras.append(MessageCamera(self.page, run, **options))
        return self._cameras[-1]

    def more(self, track: str, pictures: int) -> None:
        seen = len(self.taken.items)
        self.taken.until(lambda items: count(track, pictures)(items[seen:]))

    def close(self) -> None:
        for camera in self._cameras:
            camera.close()
        self.source.end()
        self.page.vanish()
        self.taken.end()
        self.runtime.close()


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def scene(*tracks: str) -> Scene:
        made.append(Scene(*tracks))
        return made[-1]

    yield scene
    for each in made:
        each.close()


@pytest.mark.parametrize(("pictures", "sound"), [("h264", "opus"), ("jpeg", "s16")])
def test_pictures_and_sound_come_as_messages(scene: Callable[..., Scene], pictures: str, sound: str) -> None:
    here = scene("video", "audio")
    camera = here.camera(pictures=pictures, sound=sound)
    here.taken.until(lambda items: count("video", 20)(items) and count("audio", 40)(items))
    here.page.await_said("status", state="live", path="messages")
    for track in ("video", "audio"):
        increasing(here.taken.items, track)
    frames = [item.value for item in here.taken.items if item.track == "video"]
    assert {(frame.width, frame.height) for frame in frames} == {(320, 180)}
    greys = [frame.to_ndarray(format="gray").mean() for frame in frames]  # each picture is a little lighter than the one before
    assert greys == sorted(greys) and greys[-1] - greys[0] > 10
    heard = np.concatenate([item.value.to_ndarray().ravel() for item in here.taken.items[-40:] if item.track == "audio"])
    assert 4000 < np.abs(heard.astype(float)).max() < 9000
    camera.close()
    here.page.await_said("ack", track="video", n=camera.sent["picture"])
    assert len(here.page.heard("ack", track="video")) == camera.sent["picture"]
    assert here.source.statistics()["reconnects"] == 0


@pytest.mark.parametrize("sound", ["opus", "s16"])
def test_a_microphone_alone_comes_as_messages(scene: Callable[..., Scene], sound: str) -> None:
    here = scene("audio")
    camera = here.camera(pictures="", sound=sound)
    here.more("audio", 50)
    camera.close()
    times = increasing(here.taken.items, "audio")
    assert times[-1] - times[0] == pytest.approx(0.02 * (len(times) - 1), abs=0.05)
    assert {item.track for item in here.taken.items} == {"audio"}
    here.page.await_said("ack", track="audio", n=camera.sent["sound"] - 2)


def test_a_direct_path_takes_over_and_messages_carry_on_when_it_is_lost(scene: Callable[..., Scene]) -> None:
    here = scene("video", "audio")
    here.camera(sound="opus")
    here.more("video", 15)
    here.page.start(audio=True)
    here.page.await_said("path", path="direct")
    here.page.await_said("status", path="direct", state="live")
    here.more("video", 10)
    assert here.source.statistics()["path"] == "direct"
    here.page.vanish()
    here.camera(run=2, sound="opus")
    here.page.await_said("status", path="messages", state="live")
    here.more("video", 10)
    here.more("audio", 10)
    for track in ("video", "audio"):
        increasing(here.taken.items, track)
    here.page.start(audio=True)
    here.page.await_said("path", count=2, path="direct")
    here.more("video", 10)
    increasing(here.taken.items, "video")
    assert here.source.statistics()["reconnects"] == 1


def test_an_attempt_that_comes_to_nothing_leaves_the_messages_alone(scene: Callable[..., Scene]) -> None:
    here = scene("video")
    here.camera()
    here.more("video", 5)
    here.page.send("offer", n=9, sdp="v=0")
    here.page.await_said("refused", n=9)
    here.page.start()
    here.page.vanish()
    here.more("video", 30)
    increasing(here.taken.items, "video")


def test_after_a_lost_picture_the_next_one_that_is_shown_is_a_key_picture(scene: Callable[..., Scene]) -> None:
    here = scene("video")
    camera = here.camera()
    camera.skip = {10}
    here.page.await_said("key", run=1)
    here.more("video", 20)
    figures = here.source.statistics()["receiver"].tracks["video"]
    assert figures.counts.lost == 1
    assert figures.errors == 0


def test_silence_of_the_messages_is_noticed_and_asked_about(scene: Callable[..., Scene]) -> None:
    here = scene("video")
    camera = here.camera()
    here.more("video", 5)
    camera.close()
    here.page.await_said("status", state="stalled")
    here.page.await_said("again")


def test_a_page_on_which_nothing_moves_is_not_taken_for_silent(scene: Callable[..., Scene]) -> None:
    here = scene("video")
    camera = here.camera()
    here.more("video", 5)
    camera.close()
    seen = len(here.page.heard("status"))
    while len(here.page.heard("status")) < seen + 6:  # 3 s
        here.page.send("here")
        here.page.await_said("status", count=len(here.page.heard("status")) + 1)
    assert {said["state"] for said in here.page.heard("status")[seen:]} == {"live"}


BAD = [
    {"n": "1"}, {"n": None}, {"at": "0"}, {"at": math.nan}, {"at": -1}, {"page": None}, {"page": math.inf}, {"at": [0, 1]}, {"at": 10**400},
    {"form": "mp3"}, {"form": ["h264"]}, {"run": 2}, {"type": "sound", "form": "opus"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_what_is_malformed_is_ignored(scene: Callable[..., Scene], wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    here = scene("video")
    here.page.send("path", path="messages", run=1)
    good = {"type": "picture", "view": "view", "run": 1, "form": "jpeg", "n": 1, "at": 0, "page": 0, "key": True}
    for buffers in ([b"x"], [], [b""]):
        here.source.receive({**good, **wrong}, buffers)
    here.camera(run=3)
    here.more("video", 5)
    assert here.source.statistics()["receiver"].tracks["video"].errors == 0
    assert "failed" not in caplog.text


@pytest.mark.parametrize("form", ["jpeg", "h264"])
def test_what_cannot_be_decoded_is_counted_and_the_next_picture_comes(scene: Callable[..., Scene], form: str) -> None:
    here = scene("video")
    here.page.send("path", path="messages", run=1)
    for number in range(1, 4):
        said = {"type": "picture", "view": "view", "run": 1, "form": form, "n": number, "at": number, "page": number, "key": True}
        here.source.receive(said, [b"\x00\x00\x00\x01\x67 no picture"])
    here.page.await_said("ack", count=3)
    here.camera(run=2, pictures=form)
    here.more("video", 5)
    assert all(isinstance(item.value, av.VideoFrame) for item in here.taken.items)


def test_no_more_pictures_are_under_way_than_are_acknowledged(scene: Callable[..., Scene]) -> None:
    here = scene("video")
    source, here.page.receive = here.page.receive, lambda message, buffers=(): None
    camera = here.camera()
    here.page.receive = source
    here.page.send("here")
    here.page.await_said("status", count=4)
    assert camera.sent["picture"] == FLYING
