"""A live view's messages: hello, pictures with acknowledgement, status; and what a hostile browser's side may send."""

import asyncio
import itertools
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from avlab_kernel.live import widget
from avlab_kernel.live.hops import facts
from avlab_kernel.live.measure import Measurement
from avlab_kernel.live.process import ProcessRun, spare
from pages import FLAGS, chromium
from playwright.sync_api import sync_playwright

import avlab
from avlab.core.errors import ConfigError, LinkClosed
from avlab.core.item import Item
from avlab.media.rtc.encoder import Coded
from avlab.media.rtc.live import Live
from avlab.media.rtc.outgoing import Outgoing
from avlab.media.rtc.view_direct import DirectPath, apart
from avlab.media.rtc.view_messages import Flight, MessagePath
from avlab.media.rtc.view_results import drawn
from avlab.media.runtime import MediaRuntime
from avlab.media.runtime_process import Wire
from avlab.media.sources.test import TestSource, read_frame_number

SIZE = 320, 180


class Side:
    """The browser's side: what was sent to it, and waiting for it."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, Any], list[bytes]]] = []
        self._more = threading.Condition()

    def __call__(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        with self._more:
            self.got.append((message, buffers))
            self._more.notify_all()

    def of(self, kind: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        return [each for each in self.got if each[0]["type"] == kind]

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        with self._more:
            assert self._more.wait_for(condition, seconds), [message for message, _ in self.got][-5:]


@pytest.fixture
def side() -> Side:
    return Side()


@pytest.fixture
def live(side: Side) -> Iterator[Live]:
    runtime = MediaRuntime()
    live = Live(side, runtime=runtime, pace=False)
    live.begin()
    yield live
    live.close()
    runtime.close()


def pictures(count: int) -> list[Item]:
    return list(TestSource(size=SIZE, audio=False, duration=Fraction(count, 30)).items())


def hello(live: Live, side: Side, form: str = "h264") -> None:
    live.receive({"type": "hello", "view": "a", "h264": form == "h264", "width": 300})
    side.until(lambda: side.of("welcome") and side.of("status"))


@pytest.mark.parametrize("process", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [("sync", "x"), ("bit_rate", "much"), ("bit_rate", 0), ("bit_rate", True), ("rate", -5), ("pace", "x"), ("record", 5), ("ice_servers", "stun:x")],
)
def test_a_preview_refuses_what_it_could_not_use(name: str, value: object, process: bool) -> None:
    pipeline = TestSource(size=SIZE, duration=1) >> avlab.Resize(width=64)
    with pytest.raises(ConfigError, match=name):
        pipeline.preview(runtime="process" if process else "thread", **{name: value})


def test_what_cannot_go_into_the_media_process_is_refused_with_the_way_around() -> None:
    pipeline = TestSource(size=SIZE, duration=1) >> avlab.Resize(width=64)
    with pytest.raises(ConfigError, match=r"ice_servers.*AVLAB_ICE_SERVERS"):
        pipeline.preview(runtime="process", ice_servers=list)


def test_a_run_that_failed_tells_why_where_it_is_shown_and_so_does_its_view() -> None:
    run = (TestSource(size=(0, 0)) >> avlab.Preview()).start()
    with pytest.raises(ConfigError, match="size of TestSource"):
        run.wait(20)
    assert run._repr_mimebundle_()["text/plain"].startswith("Run(TestSource >> Preview) failed: ConfigError: size of TestSource is 0x0")
    assert facts(run)["failed"].startswith("ConfigError: size of TestSource is 0x0")


def test_a_measurement_whose_source_fails_raises_that_at_once() -> None:
    measurement = Measurement(5, (0, 0), 30)
    with pytest.raises(ConfigError, match="size of TestSource"):
        measurement._run.wait(20)
    with pytest.raises(ConfigError, match="size of TestSource"):
        measurement.result()
    with pytest.raises(ConfigError, match="Preview has no parameter 'bogus'"):
        Measurement(5, (64, 36), 30, bogus=1)
    with pytest.raises(ConfigError, match="not 'x'"):
        Measurement("x", (64, 36), 30)


def test_a_status_that_fails_ends_the_view_and_says_why(side: Side) -> None:
    good, runtime = iter([{}, {}]), MediaRuntime()

    def facts() -> dict[str, Any]:
        if (now := next(good, None)) is None:
            raise ValueError("no figures")
        return now

    live = Live(side, facts=facts, pace=False, runtime=runtime)
    try:
        hello(live, side)
        side.until(lambda: side.of("refused"))
        assert side.of("refused")[0][0]["final"]
        assert side.of("refused")[0][0]["reason"] == "The live view has failed: ValueError: no figures"
        live.receive({"type": "key", "view": "a"})
        side.until(lambda: side.of("again"))  # it may ask anew, and learns the reason anew
        hello(live, side)
        side.until(lambda: len(side.of("refused")) == 2)
    finally:
        live.close()
        runtime.close()


@pytest.mark.parametrize("form", ["h264", "jpeg"])
def test_pictures_come_with_their_times_and_wait_for_acknowledgement(live: Live, side: Side, form: str) -> None:
    hello(live, side, form)
    items = pictures(12)
    for number, item in enumerate(items, 1):
        live.put(item)
        side.until(lambda n=number: len(side.of("picture")) >= n)
        live.receive({"type": "ack", "view": "a", "n": number, "spent": 2.0})
        live.receive({"type": "ack", "view": "nobody", "n": number})  # answered after the one before was taken
        side.until(lambda n=number: len(side.of("again")) >= n)
    messages = [message for message, _ in side.of("picture")]
    assert [message["form"] for message in messages] == [form] * len(messages)
    assert [message["pts"] for message in messages] == sorted({message["pts"] for message in messages})
    decoder = av.CodecContext.create("h264" if form == "h264" else "mjpeg", "r")
    frames = [frame for _, (data,) in side.of("picture") for frame in decoder.decode(av.Packet(data))]
    numbers = [read_frame_number(frame) for frame in [*frames, *decoder.decode(None)]]
    assert numbers == list(range(len(items)))


def test_at_most_three_pictures_fly(live: Live, side: Side) -> None:
    hello(live, side)
    for item in pictures(30):
        live.put(item)
    live.receive({"type": "ack", "view": "b", "n": 1})
    side.until(lambda: side.of("again"))
    assert len(side.of("picture")) <= 3


def test_as_messages_720p30_takes_every_picture_and_three_megabits_per_second_at_most(live: Live, side: Side) -> None:
    live.receive({"type": "hello", "view": "a", "h264": True, "width": 1280})
    side.until(lambda: side.of("welcome"))
    seconds = 4
    for number, item in enumerate(TestSource(size=(1280, 720), audio=False, duration=seconds).items(), 1):
        live.put(item)
        side.until(lambda n=number: len(side.of("picture")) >= n)
        live.receive({"type": "ack", "view": "a", "n": number, "spent": 1.0})
    assert len(side.of("picture")) == 30 * seconds
    assert sum(len(data) for _, (data,) in side.of("picture")) * 8 / seconds <= 3e6
    assert {message["size"] for message, _ in side.of("picture")} == {(1280, 720)}


def departures(trip: int, each: int = 0) -> list[int]:
    """Milliseconds at which pictures went in 6 s, of 30 per second: each takes ``each`` ms of the way for itself and comes, with its
    acknowledgement, ``trip`` ms later."""
    now, coming, free, went = [0], deque[int](), 0, list[int]()
    flight = Flight(lambda: now[0] * 1_000_000)
    for now[0] in range(6000):
        while coming and coming[0] <= now[0]:
            coming.popleft()
            flight.came(len(went) - len(coming))
        if now[0] % 33 == 0 and flight.free:
            went.append(now[0])
            flight.went(len(went))
            free = max(free, now[0]) + each
            coming.append(free + trip)
    assert len(coming) <= 3 + (trip + 100) // 33
    return went


def test_a_long_way_takes_every_picture_and_a_slow_one_no_queue_of_them() -> None:
    for trip in (0, 50, 150, 250):
        assert len(departures(trip)) >= 0.9 * 6000 / 33, trip
    assert len(departures(20, each=100)) == pytest.approx(60, abs=6)  # what the way can take, 10 per second


def test_a_picture_that_was_begun_is_sent_and_none_is_begun_that_could_not_be_decoded() -> None:
    now, sent, hub = [0], [], Outgoing()
    path = MessagePath(hub, lambda message, _: sent.append(message["n"]), "a", "h264", 0, lambda: now[0] * 1_000_000)
    viewer, key, delta = path.viewer, Coded("video", b"", 0, True, 0), Coded("video", b"", 0, False, 0)
    viewer.offer(key)
    now[0] = 20
    path.acknowledge(1, 0.0)
    for _ in range(3):
        assert viewer.ready()
        viewer.offer(delta)
    now[0] = 139
    assert viewer.ready()
    now[0] = 145  # encoding it has taken a moment, and now none may be begun
    viewer.offer(delta)
    assert sent == [1, 2, 3, 4, 5]
    assert not viewer.ready()
    viewer.offer(delta)  # it was encoded for others
    path.acknowledge(4, 0.0)
    assert sent == [1, 2, 3, 4, 5] and path.dropped == 1 and not viewer.ready()
    path.acknowledge(5, 0.0)
    assert viewer.ready()
    for coded in (delta, key, delta):
        viewer.offer(coded)
    assert sent == [1, 2, 3, 4, 5, 6, 7]
    hub.close()


SHOW = """() => {
  const canvas = document.createElement("canvas");
  window.said = [];
  const view = { ui: { canvas }, send: (message) => said.push({ ...message, at: performance.now() }) };
  const messages = new Messages(view, () => {});
  window.show = (n) => messages.draw(canvas, { n, size: [300, 150] }, performance.now());
}"""


def test_a_browser_acknowledges_every_second_picture_of_thirty_a_second_and_each_of_ten() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page()
        page.clock.install(time=0)
        page.clock.pause_at(1)
        page.goto("about:blank")
        page.add_script_tag(content=Path(widget.__file__).with_name("view_messages.js").read_text())
        page.evaluate(SHOW)
        shown = [(n, 33 if n <= 60 else 100) for n in range(1, 71)]
        for n, pause in shown:
            page.evaluate("(n) => show(n)", n)
            page.clock.run_for(pause)
        said = page.evaluate("said")
        browser.close()
    numbers = [each["n"] for each in said]
    assert {each["type"] for each in said} == {"ack"}
    assert numbers == sorted(set(numbers)) and numbers[-10:] == list(range(61, 71))
    assert 60 * 33 / 67 <= len(numbers) - 10 <= 60 * 33 / 60 + 2
    assert all(b["at"] - a["at"] >= 60 for a, b in itertools.pairwise(said))
    assert all(0 <= each["spent"] <= 60 for each in said)  # what an acknowledgement waited is no part of the way


def test_a_message_of_a_child_is_read_in_one_go() -> None:
    calls = []

    class Counting(socket.socket):
        def recv_into(self, *args: Any) -> int:
            calls.append("recv_into")
            return super().recv_into(*args)

        def recv(self, *args: Any) -> bytes:
            calls.append("recv")
            return super().recv(*args)

    ours, theirs = socket.socketpair()
    ours, theirs = Counting(fileno=ours.detach()), Wire(theirs)
    wire = Wire(ours)
    message, data = {"type": "picture", "n": 1}, bytes(range(256)) * 100
    theirs.send(message, [data, b""])
    select.select([ours], [], [], 10)
    assert wire.receive() == (message, [data, b""])
    assert len(calls) == 1  # each one waits for its turn beside a busy cell
    theirs.send(message, [data * 100])
    assert wire.receive() == (message, [data * 100])
    theirs.close()
    with pytest.raises(LinkClosed):
        wire.receive()
    wire.close()
    with pytest.raises(LinkClosed):
        wire.receive()


def test_a_hidden_view_gets_nothing(live: Live, side: Side) -> None:
    hello(live, side)
    live.receive({"type": "set", "view": "a", "shown": False})
    live.receive({"type": "figures", "view": "nobody"})
    side.until(lambda: side.of("again"))
    for item in pictures(5):
        live.put(item)
    assert not side.of("picture")
    assert live.statistics()["rungs"] == 0


def test_results_are_sent_only_while_somebody_looks(live: Live, side: Side) -> None:
    live.put(Item("unseen", 0))
    hello(live, side)
    live.put(Item({"boxes": [{"box": [1, 2, 3, 4], "label": "x"}]}, 3))
    side.until(lambda: side.of("result"))
    assert [message["boxes"][0]["box"] for message, _ in side.of("result")] == [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("text", {"text": "text"}),
        (3, {"number": 3.0}),
        (True, {"table": {"value": "True"}}),
        ([{"bbox": (0, 0, 1, 1), "score": 0.5}], {"boxes": [{"box": [0.0, 0.0, 1.0, 1.0], "label": "", "score": 0.5}]}),
        ([], {"boxes": []}),
        ({"mean": 0.123456, "text": "t"}, {"text": "t", "table": {"mean": "0.1235"}}),
        ({"box": ["a", 1, 2, 3]}, {"table": {"box": "['a', 1, 2, 3]"}}),
        (b"bytes", {"text": "bytes: b'bytes'"}),
        ({"level": 0.5, "mean": 2.0}, {"levels": {"level": 0.5}, "table": {"mean": "2"}}),
        ({"levels": {"left": -0.5, "right": np.float32(3)}}, {"levels": {"left": 0.0, "right": 1.0}}),
        ({"levels": [0.25, 1]}, {"levels": {"1": 0.25, "2": 1.0}}),
        ({"levels": {"left": "loud"}}, {"table": {"levels": "{'left': 'loud'}"}}),
        (float("nan"), {"text": "nan"}),
        ([{"box": [0, 0, 1, float("inf")]}], {"text": "list: [{'box': [0, 0, 1, inf]}]"}),
        ({"box": np.array([0, 0, 1, 1])}, {"boxes": [{"box": [0.0, 0.0, 1.0, 1.0], "label": "", "score": None}]}),
        (10**400, {"text": str(10**400)}),
        ({"box": [10**400, 0, 1, 1], "score": 10**400}, {"table": {"box": str([10**400, 0, 1, 1])[:80], "score": str(10**400)[:80]}}),
    ],
)
def test_what_is_drawn_of_a_value(value: Any, parts: dict[str, Any]) -> None:
    assert drawn(value) == parts


@dataclass
class Found:
    mask: Any
    box: tuple[int, ...] = (0, 0, 1, 1)
    label: str = "cat"


def where(height: int, width: int, rows: slice, columns: slice, number: int = 1, kind: str = "bool") -> np.ndarray:
    mask = np.zeros((height, width), kind)
    mask[rows, columns] = number
    return mask


LEFT, RIGHT = where(90, 160, slice(0, 90), slice(0, 80)), where(45, 80, slice(0, 20), slice(60, 80))


@pytest.mark.parametrize(
    ("value", "boxes"),
    [
        (LEFT, None), ({"mask": LEFT}, None), ({"masks": [LEFT, RIGHT], "n": 1}, None), ([LEFT, RIGHT], None),
        (Found(LEFT), 1), ([Found(LEFT), {"box": [0, 0, 9, 9], "mask": RIGHT}], 2), ({"boxes": [Found(LEFT), Found(RIGHT)]}, 2),
        ({"mask": LEFT.astype("uint8") * 255, "frame": 3}, None), ({"mask": where(720, 1280, slice(0, 720), slice(0, 640))}, None),
    ],
)  # fmt: skip
def test_masks_are_painted_where_they_are(live: Live, side: Side, value: Any, boxes: int | None) -> None:
    hello(live, side)
    live.put(Item(value, 3))
    side.until(lambda: side.of("result"))
    ((message, (png,)),) = side.of("result")
    assert len(message.get("boxes", [])) == (boxes or 0)
    (frame,) = av.CodecContext.create("png", "r").decode(av.Packet(png))
    shown = frame.to_ndarray(format="rgba")
    height, width = shown.shape[:2]
    assert (height, width) in ((90, 160), (288, 512))  # as it is, or as much of it as is sent
    assert shown[height // 2, width // 4, 3] and not shown[height // 2, 3 * width // 4, 3]
    both = shown[2, -2]
    assert not both[3] or tuple(both[:3]) != tuple(shown[height // 2, width // 4, :3])  # a colour of its own


def test_a_map_of_numbers_has_a_colour_for_each_and_a_picture_stays_a_picture(live: Live, side: Side) -> None:
    hello(live, side)
    numbers = np.repeat(np.arange(4, dtype="u1"), 10)[None].repeat(8, 0)
    live.put(Item({"mask": numbers}, 1))
    side.until(lambda: side.of("result"))
    (frame,) = av.CodecContext.create("png", "r").decode(av.Packet(side.of("result")[0][1][0]))
    row = frame.to_ndarray(format="rgba")[0]
    assert len({tuple(each) for each in row[::10]}) == 4 and row[0, 3] == 0
    live.put(Item(np.zeros((64, 96), "u1"), 2))
    side.until(lambda: side.of("picture"))


@pytest.mark.parametrize(
    "message",
    [
        {}, {"type": 3}, {"type": "hello"}, {"type": "hello", "view": ["x"]}, {"type": "offer", "view": "a", "sdp": "v=0"},
        {"type": "ack", "view": "a", "n": "x"}, {"type": "candidate", "view": "a", "candidate": 7}, {"type": "path", "view": "a"},
        {"type": "set", "view": "a", "width": "wide", "shown": 1}, {"type": "unknown", "view": "a"},
    ],
)  # fmt: skip
def test_hostile_messages_change_nothing(live: Live, side: Side, message: dict[str, Any]) -> None:
    hello(live, side)
    live.receive(message)
    for item in pictures(2):
        live.put(item)
    side.until(lambda: side.of("picture"))


def test_without_aiortc_there_are_messages_and_a_remedy(
    live: Live, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "avlab.media.rtc.view_direct", raising=False)
    monkeypatch.setitem(sys.modules, "avlab.media.rtc.peer", None)
    hello(live, side)
    live.put(pictures(1)[0])
    live.receive({"type": "offer", "view": "a", "sdp": "v=0"})
    side.until(lambda: side.of("picture") and side.of("refused"))
    assert side.of("refused")[0][0]["reason"].endswith("pip install 'avlab[rtc]'")


def test_nothing_is_loaded_for_a_direct_path_before_somebody_looks() -> None:
    code = "import sys, avlab_kernel.live.preview, avlab_kernel.live.child; print([m for m in sys.modules if m in ('aiortc', 'aioice')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_too_many_views_are_refused(live: Live, side: Side) -> None:
    for number in range(17):
        live.receive({"type": "hello", "view": str(number), "h264": True})
    side.until(lambda: side.of("refused"))
    assert side.of("refused")[0][0]["final"]


def test_sound_becomes_a_stream_of_its_own() -> None:
    sdp = "v=0\r\nm=video 9 X\r\na=msid:s v\r\nm=audio 9 X\r\na=msid:s a\r\na=ssrc:5 cname:c\r\n"
    assert apart(sdp).replace("avlab-sound a", "s a").replace("cname:avlab-sound", "cname:c") == sdp


def test_a_preview_without_a_front_end_only_counts() -> None:
    preview = avlab.Preview()
    result = (TestSource(size=SIZE, duration=60) >> preview).run(progress=False, timeout=60)
    assert result["Preview"].statistics()["video"] == 1800
    assert preview.statistics()["encoded"] == 0
    assert repr(preview) == "Preview(320×180)"
    preview.shut()


def test_a_run_with_another_end_is_shown_what_enters_that(tmp_path) -> None:
    run = (TestSource(size=SIZE, duration=1, audio=False) >> avlab.Collect(limit=1)).preview(pace=False)
    run.wait()
    assert run.preview().statistics()["video"] == 30
    assert repr(run) == "Run(TestSource >> Collect)"
    run.preview().shut()


def test_a_pipeline_runs_in_a_process_of_its_own(side: Side) -> None:
    spec = avlab.Pipeline([TestSource(size=SIZE, realtime=True)]).to_spec()
    with ProcessRun(spec, {"pace": False}, side) as run:
        run.receive({"type": "hello", "view": "a", "h264": True, "width": 300})
        side.until(lambda: len(side.of("picture")) >= 2)
        run.receive({"type": "ack", "view": "a", "n": side.of("picture")[-1][0]["n"], "spent": 1})
        side.until(lambda: len(side.of("picture")) >= 4)
        assert run.statistics()["live"]["viewers"] == 1
        assert repr(run) == "Preview(320×180)"
        run.stop()
        assert run.statistics()["items"]["video"] >= 4
    assert not run.running


def test_a_process_that_is_late_is_stopped_all_the_same(side: Side) -> None:
    with ProcessRun(avlab.Pipeline([TestSource(size=SIZE, realtime=True)]).to_spec(), {}, side) as run:
        process = run._child._process
        process.send_signal(signal.SIGSTOP)  # as on a machine that is busy with something else
        late = threading.Timer(3.5, process.send_signal, (signal.SIGCONT,))
        late.start()
    late.join()
    assert not run.running


def test_a_cell_that_is_run_again_finds_its_process_ready(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (TestSource(size=SIZE, rate=10, duration=1) >> avlab.FileSink(str(tmp_path / "a.mp4"))).run()
    source = avlab.Pipeline([TestSource(size=SIZE, realtime=True)]).to_spec()
    try:
        with ProcessRun(source, {}, side) as run:
            assert spare.child is None  # it would take time from the first picture
            run.receive({"type": "hello", "view": "a", "h264": True, "width": 300})
            run.receive({"type": "figures", "view": "a"})
            run.stop(20)
        ahead = spare.child
        assert ahead is not None and ahead.running
        monkeypatch.chdir(tmp_path)  # after it has begun
        with ProcessRun(avlab.Pipeline([avlab.FileSource("a.mp4")]).to_spec(), {"pace": False}, side) as run:
            assert run.wait(20)["live"]["video"] == 10
            assert spare.child is None and ahead.running
        assert not ahead.running
    finally:
        spare.close()


def test_a_process_that_has_ended_ahead_is_replaced(side: Side) -> None:
    spare.prepare()
    assert spare.child is not None
    spare.child.close()
    with ProcessRun(avlab.Pipeline([TestSource(size=SIZE, duration=1)]).to_spec(), {"pace": False}, side) as run:
        assert run.wait(20)["live"]["video"] == 30


def test_an_error_of_the_process_is_told(side: Side) -> None:
    spec = avlab.Pipeline([avlab.FileSource("missing.mp4")]).to_spec()
    with pytest.raises(avlab.PipelineError, match=r"missing\.mp4"):
        ProcessRun(spec, {}, side)


def test_a_view_that_goes_while_its_connection_is_being_made_leaves_nothing(live: Live, side: Side, monkeypatch) -> None:
    """The first direct path loads aiortc, which takes as long as a person needs to close a view."""
    hello(live, side)
    views, loaded, there = live._views, asyncio.Event(), asyncio.Event()
    made: list[DirectPath] = []

    class Noted(DirectPath):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)
            there.set()

    async def load() -> Any:
        await loaded.wait()
        return SimpleNamespace(DirectPath=Noted)

    async def slowly() -> None:
        views._loading = asyncio.create_task(load())

    async def offer() -> str:
        browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        browser.addTransceiver("video", "recvonly")
        await browser.setLocalDescription(await browser.createOffer())
        sdp = browser.localDescription.sdp
        await browser.close()
        return str(sdp)

    views._runtime.run(slowly(), 5)
    live.receive({"type": "offer", "view": "a", "sdp": views._runtime.run(offer(), 10)})
    live.receive({"type": "bye", "view": "a"})
    live.receive({"type": "key", "view": "a"})
    side.until(lambda: side.of("again"))

    async def go_on() -> None:
        loaded.set()
        await there.wait()
        await made[0].peer.closed()

    views._runtime.run(go_on(), 3)
    assert live._hub.statistics()["viewers"] == 0


def test_a_view_that_comes_while_all_are_closed_is_not_taken(side: Side) -> None:
    entered, held = threading.Event(), threading.Event()

    def servers() -> list[Any]:
        entered.set()
        held.wait(10)
        return []

    runtime = MediaRuntime()
    live = Live(side, ice_servers=servers, runtime=runtime, pace=False)
    try:
        live.receive({"type": "hello", "view": "a"})
        assert entered.wait(10)
        views = live._views
        live.close()
        held.set()
        runtime.run(asyncio.sleep(0.3), 5)
        assert not views.open and not side.of("welcome")
        live.receive({"type": "hello", "view": "b"})
        runtime.run(asyncio.sleep(0.3), 5)
        assert not side.of("welcome"), "what is closed stays closed"
        assert live._hub.statistics()["viewers"] == 0
    finally:
        held.set()
        live.close()
        runtime.close()


def test_a_record_button_holds_up_no_picture(live: Live, side: Side, tmp_path, monkeypatch) -> None:
    hello(live, side)
    live.record(str(tmp_path / "a.mp4"))
    held = threading.Event()
    finish = live._recorder.finish
    monkeypatch.setattr(live._recorder, "finish", lambda: held.wait(10) and finish())
    live.receive({"type": "record", "view": "a", "on": False})
    live.receive({"type": "key", "view": "nobody"})
    try:
        side.until(lambda: side.of("again"), 3)
    finally:
        held.set()


def test_a_recording_that_fails_says_why(live: Live, side: Side, tmp_path) -> None:
    hello(live, side)
    live.record(str(tmp_path / "nowhere" / "a.mp4"))
    live.put(pictures(1)[0])
    side.until(lambda: any("nowhere" in message["unsaved"] for message, _ in side.of("status")))
    assert side.of("status")[-1][0]["recording"] == ""


def test_what_a_view_says_wrongly_is_told_where_it_can_be_read(live: Live, side: Side, caplog) -> None:
    hello(live, side)
    live.receive({"type": "ack", "view": "a", "n": "many"})
    live.receive({"type": "key", "view": "nobody"})
    side.until(lambda: side.of("again"))
    assert "many" in caplog.text
