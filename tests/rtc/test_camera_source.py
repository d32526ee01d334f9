"""Camera, Microphone and Screen with an aiortc peer in the place of the browser."""

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import Counter
from itertools import pairwise

import av
import pytest
from camera_page import Page

import avlab
from avlab.core.errors import ConfigError, Denied, MediaError
from avlab.media.rtc.browser_source import BrowserSource, bit_rate
from avlab.media.runtime import MediaRuntime


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


class Taken:
    """The items of a source, taken by a thread of their own."""

    def __init__(self, items):
        self.items, self.error = [], None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._take, args=(items,))
        self._thread.start()

    def _take(self, items):
        try:
            for item in items:
                with self._changed:
                    self.items.append(item)
                    self._changed.notify_all()
        except MediaError as error:
            self.error = error

    def until(self, condition, seconds=30):
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.items), seconds), f"{len(self.items)} items came"

    def end(self):
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.items


def ask(*tracks, **more):
    return {"kind": "camera", "tracks": list(tracks or ["video"]), "size": [320, 180], "rate": 30, **more}


@pytest.fixture
def shown(runtime):
    """A source, the page that shows it, and what it gives; ended afterwards."""
    made = []

    def shown(*tracks, patience=60.0, **more):
        page = Page(runtime)
        source = BrowserSource(page.deliver, ask(*tracks, **more), patience=patience, runtime=runtime)
        page.receive = source.receive
        source.begin(ask(*tracks, **more))
        page.show()
        assert source.wait(10)
        taken = Taken(source.items())
        made.append((source, page, taken))
        return source, page, taken

    yield shown
    for source, page, taken in made:
        source.end()
        page.vanish()
        taken.end()


def increasing(items, track):
    times = [item.time for item in items if item.track == track]
    assert len(times) > 5
    assert all(b > a for a, b in pairwise(times))
    return times


def count(track, at_least):
    return lambda items: sum(item.track == track for item in items) >= at_least


def test_pictures_and_sound_arrive_as_items(shown):
    source, page, taken = shown("video", "audio")
    page.start(audio=True)
    taken.until(lambda items: count("video", 20)(items) and count("audio", 40)(items))
    for track, kind in (("video", av.VideoFrame), ("audio", av.AudioFrame)):
        assert all(isinstance(item.value, kind) for item in taken.items if item.track == track)
        increasing(taken.items, track)
    page.await_said("status", state="live")
    statistics = source.statistics()
    assert statistics["size"] == (320, 180)
    assert statistics["video"] >= 20
    assert statistics["reconnects"] == 0
    assert page.said[0]["type"] == "status" or page.said[0]["type"] == "welcome"


def test_the_answer_asks_for_the_whole_picture_at_once(shown):
    _, page, _ = shown(size=[1280, 720])
    page.start()
    assert "x-google-start-bitrate=2500;x-google-min-bitrate=1000" in page.answer
    first = next(line for line in page.answer.splitlines() if line.startswith("a=rtpmap") and "rtx" not in line)
    assert "VP8" in first
    assert bit_rate((640, 360), 30) == (625, 250)


def test_sound_that_was_not_asked_for_is_left_out(shown):
    _, page, taken = shown("video")
    page.start(audio=True)
    taken.until(count("video", 20))
    assert {item.track for item in taken.items} == {"video"}


def test_a_new_connection_goes_on_with_the_tracks_and_the_time(shown):
    source, page, taken = shown("video", "audio")
    page.start(audio=True)
    taken.until(lambda items: count("video", 15)(items) and count("audio", 15)(items))
    page.vanish()
    began, before = time.monotonic(), taken.items[-1].time
    page.start(audio=True, size=(480, 270))  # as after a reload of the page, with another camera
    seen = len(taken.items)
    taken.until(lambda items: count("video", 15)(items[seen:]) and count("audio", 15)(items[seen:]))
    for track in ("video", "audio"):
        increasing(taken.items, track)
    assert taken.items[-1].time - before < time.monotonic() - began + 2
    assert {item.track for item in taken.items} == {"video", "audio"}
    sizes = {(item.value.width, item.value.height) for item in taken.items if item.track == "video"}
    assert sizes == {(320, 180), (480, 270)}
    assert source.statistics()["reconnects"] == 1


def test_a_silent_browser_is_asked_for_another_connection(shown):
    _, page, taken = shown("video")
    page.start()
    taken.until(count("video", 10))
    page.vanish()
    page.await_said("again", seconds=20)
    page.start()
    seen = len(taken.items)
    taken.until(lambda items: len(items) > seen + 10)
    increasing(taken.items, "video")


@pytest.mark.parametrize(
    ("name", "value"), [("patience", -1), ("patience", "x"), ("timeout", None), ("device", 5), ("rate", True), ("ice_servers", "stun:x")]
)
def test_a_camera_refuses_what_it_could_not_use(name, value):
    with pytest.raises(ConfigError, match=name):
        (avlab.Camera(**{name: value}, fallback=avlab.TestSource(duration=1)) >> avlab.Collect()).run()


def test_a_source_whose_watch_fails_ends_with_the_reason(shown, monkeypatch):
    _, page, taken = shown("video")
    page.start()
    taken.until(lambda items: len(items) > 3)

    def broken(self):
        raise ValueError("no figures")

    monkeypatch.setattr(BrowserSource, "statistics", broken)
    page.await_said("over", reason="The source has failed: ValueError: no figures", wanted=False)
    taken.end()
    assert "cannot watch its connection any more: ValueError: no figures" in str(taken.error)


def test_patience_with_a_browser_that_is_gone_has_an_end(shown):
    _, page, taken = shown("video", patience=1.0)
    page.start()
    taken.until(count("video", 5))
    page.vanish()
    taken.end()
    assert "open the notebook again" in str(taken.error)


def test_a_person_may_take_any_time_to_press_start(shown):
    _, page, taken = shown("video", patience=0.5)
    page.await_said("status", count=4)  # 2 s
    page.start()
    taken.until(count("video", 5))


def test_the_stop_button_ends_the_stream(shown):
    _, page, taken = shown("video")
    page.start()
    taken.until(count("video", 5))
    page.send("stop")
    taken.end()
    assert taken.error is None
    page.await_said("over", reason="Stopped.")


def test_a_view_that_was_taken_off_the_page_ends_the_stream_and_a_reload_does_not(shown):
    _, page, taken = shown("video")
    page.start()
    taken.until(count("video", 5))
    page.send("bye", removed=False)
    page.show()
    seen = len(taken.items)
    taken.until(lambda items: len(items) > seen + 5)
    page.send("bye", removed=True)
    taken.end()
    assert taken.error is None


def test_the_view_that_starts_last_has_it(shown, runtime):
    source, page, taken = shown("video")
    other = Page(runtime, "other")
    deliver, other.receive = source._send, source.receive
    source._send = lambda message: (deliver(message), other.deliver(message))
    other.show()
    page.start()
    taken.until(count("video", 5))
    other.start()
    page.await_said("over", reason="Another view has taken over.")
    seen = len(taken.items)
    taken.until(lambda items: len(items) > seen + 5)
    page.send("stop")  # no longer its to stop
    seen = len(taken.items)
    taken.until(lambda items: len(items) > seen + 5)
    other.vanish()


@pytest.mark.parametrize(
    "message",
    [{"sdp": "v=0"}, {"sdp": None}, {"n": {}, "sdp": "x" * 200_000}, {"sdp": "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF\r\n"}],
    ids=["short", "none", "long", "broken"],
)
def test_what_is_no_offer_is_refused_and_a_good_one_still_taken(shown, message):
    _, page, taken = shown("video")
    page.send("offer", **message)
    page.await_said("refused")
    page.send("candidate", candidate=["no"])
    page.receive({"type": "offer"})
    page.receive({"view": "view"})
    page.start()
    taken.until(count("video", 5))


def test_servers_that_are_not_to_be_had_are_told_to_the_page(runtime):
    def servers():
        raise Denied("ask your administrator")

    page = Page(runtime)
    source = BrowserSource(page.deliver, ask(), ice_servers=servers, runtime=runtime)
    page.receive = source.receive
    page.send("hello")
    assert page.await_said("refused")["reason"] == "ask your administrator"


def test_what_goes_wrong_with_a_message_is_logged(shown, caplog):
    source, page, _ = shown("video")
    source._hello = None
    page.send("hello")
    page.send("candidate", candidate=["no"])
    page.start()
    assert "NoneType" in caplog.text


def test_sound_can_be_asked_for_in_another_form(shown):
    form = {"sample_rates": 16000, "channel_layouts": "mono", "sample_fmts": "s16"}
    _, page, taken = shown("audio", form=form)
    page.start(audio=True)
    taken.until(count("audio", 20))
    frame = taken.items[-1].value
    assert (frame.sample_rate, frame.layout.name, frame.format.name) == (16000, "mono", "s16")
    times = increasing(taken.items, "audio")
    assert sum(item.value.samples for item in taken.items[:-1]) / 16000 == pytest.approx(times[-1] - times[0], abs=0.05)


class Shown(avlab.Camera):
    """A camera whose widget is a page without a browser."""


@pytest.fixture
def camera():
    """Makes cameras in a notebook that has a front end, if ``page`` shows them."""
    runtime, pages = MediaRuntime.default(), []

    def camera(**options):
        node = Shown(size=(320, 180), **options)
        page = Page(runtime)
        node._widget = page
        page.receive = node._media().receive
        pages.append(page)
        return node, page

    yield camera
    for page in pages:
        page.vanish()
    runtime.close()
    MediaRuntime._default = None


def test_in_a_pipeline_until_the_run_is_stopped_and_again(camera):
    node, page = camera()
    page.show()
    for _ in range(2):
        run = (node >> avlab.Collect(limit=10_000)).start()
        page.await_said("status", wanted=True)
        page.start()
        page.await_said("status", state="live")
        result = run.stop()
        page.await_said("over")
        page.vanish()
        page.said.clear()
        assert result.statistics.hops[0].sent > 0


def test_headless_without_a_notebook_says_what_to_do():
    with pytest.raises(ConfigError, match=r"JupyterLab.*fallback="):
        (avlab.Camera() >> avlab.Collect()).run()
    with pytest.raises(ConfigError, match="fallback="):
        (avlab.Microphone() >> avlab.Collect()).run()


def test_headless_without_a_notebook_the_fallback_gives_every_item():
    node = avlab.Camera(fallback=avlab.TestSource(size=(64, 36), duration=1))
    taken = avlab.Collect()
    (node >> taken).run()
    assert [item.pts for item in taken.items] == list(range(30))
    assert {item.track for item in taken.items} == {"video"}  # TestSource's sound was not asked for


def test_a_path_is_a_fallback_too(tmp_path):
    path = tmp_path / "made.mp4"
    (avlab.TestSource(size=(64, 36), duration=1) >> avlab.FileSink(str(path))).run()
    taken = avlab.Collect()
    (avlab.Microphone(fallback=str(path)) >> taken).run()
    assert {type(item.value) for item in taken.items} == {av.AudioFrame}


def test_in_a_notebook_that_nobody_looks_at_it_fails_with_a_remedy(camera):
    node, page = camera(timeout=0.3)
    with pytest.raises(MediaError, match=r"no browser shows this Shown within 0\.3 s.*fallback="):
        (node >> avlab.Collect()).run()
    assert page.closed


def test_in_a_notebook_that_nobody_looks_at_the_fallback_comes_at_its_own_pace(camera):
    node, _ = camera(timeout=0.2, fallback=avlab.TestSource(size=(64, 36), duration=1))
    taken, began = avlab.Collect(), time.monotonic()
    (node >> taken).run()
    assert time.monotonic() - began > 1
    assert len(taken.items) > 5


def test_a_run_that_waits_for_the_browser_can_be_stopped(camera):
    node, _ = camera(timeout=60)
    run = (node >> avlab.Collect()).start()
    began = time.monotonic()
    run.stop()
    assert time.monotonic() - began < 5


def test_parameters_are_checked():
    for wrong in (avlab.Camera(size="big"), avlab.Camera(rate=0), avlab.Screen(size=(1, 1)), avlab.Microphone(rate=10)):
        with pytest.raises(ConfigError, match=r"rate|size"):
            wrong.tracks()
    with pytest.raises(ConfigError, match="layout"):
        avlab.Microphone(layout="5.1").tracks()


def test_texts_are_stable():
    assert repr(avlab.Camera(audio=True)) == "Camera(1280×720, 30 fps, sound)"
    assert repr(avlab.Screen()) == "Screen(30 fps)"
    assert repr(avlab.Microphone()) == "Microphone()"
    assert repr(avlab.Camera(size="x")) == "Camera(size of Camera is 'x', not (width, height))"


def held(runtime):
    """Counts of what is open, by name. Threads of the loop's own pool, which has a size of its own, are left out."""

    async def tasks():
        return [task.get_coro().__qualname__ for task in asyncio.all_tasks()]

    gc.collect()
    threads = [thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    return Counter({"descriptors": len(os.listdir("/proc/self/fd"))}) + Counter(threads) + Counter(runtime.run(tasks()))


def settled(runtime, before, seconds=15):
    """What is open beyond what was, once that changes no more: closed sockets and connections leave on their own."""
    end = time.monotonic() + seconds
    while (more := held(runtime) - before) and time.monotonic() < end:
        threading.Event().wait(0.1)
    return more


def test_twenty_connections_leave_nothing_behind(shown, runtime):
    source, page, taken = shown("video", "audio")
    page.start(audio=True)
    taken.until(count("video", 2))
    before = held(runtime)
    for number in range(1, 21):
        page.vanish()
        page.start(audio=True)
        taken.until(lambda items, number=number: source.statistics()["reconnects"] == number)
    assert not settled(runtime, before)


def test_twenty_runs_leave_nothing_behind(camera):
    node, page = camera(timeout=0.1, fallback=avlab.TestSource(size=(64, 36), duration=0.2))
    (node >> avlab.Collect()).run()
    before = held(MediaRuntime.default())
    for _ in range(20):
        node._widget = page
        (node >> avlab.Collect()).run()
    assert not settled(MediaRuntime.default(), before)


def test_a_source_that_nobody_shows_any_more_is_freed():
    node = avlab.Camera()
    assert len(node.widget._esm) > 1000
    gone = weakref.ref(node.widget)
    node._dismiss()
    del node
    gc.collect()
    assert gone() is None
