"""The hub of a live view: one encode whatever the number of viewers, a picture at once, nothing left behind."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RTCP_PSFB_PLI, RtcpPsfbPacket

from avlab.core.item import Item
from avlab.media.rtc.encoder import PICTURE_BASE, Coded, PictureEncoder, SoundEncoder, scaled
from avlab.media.rtc.outgoing import Outgoing
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.view_track import LiveTrack, _listen, attach
from avlab.media.runtime import MediaRuntime
from avlab.media.sources.test import TestSource, read_frame_number

SIZE = 320, 180


@pytest.fixture
def runtime() -> Iterator[MediaRuntime]:
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


@pytest.fixture
def hub() -> Iterator[Outgoing]:
    hub = Outgoing()
    yield hub
    hub.close()


class Takes:
    """Collects what a viewer is given; ``arrived(n)`` waits for the n-th."""

    def __init__(self, kind: str = "video") -> None:
        self.kind, self.got, self._more = kind, [], threading.Condition()

    def __call__(self, coded: Coded) -> None:
        with self._more:
            if coded.kind == self.kind:
                self.got.append(coded)
                self._more.notify_all()

    def arrived(self, count: int) -> list[Coded]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.got) >= count, 20), f"only {len(self.got)} of {count}"
            return list(self.got)


def pictures(count: int, size: tuple[int, int] = SIZE) -> list[Item]:
    return list(TestSource(size=size, audio=False, duration=Fraction(count, 30)).items())


def decoded(coded: list[Coded]) -> list[int]:
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for each in coded for frame in decoder.decode(av.Packet(each.data))]
    return [read_frame_number(frame) for frame in [*frames, *decoder.decode(None)]]


def feed(hub: Outgoing, items: list[Item], *takers: Takes) -> None:
    """Put one after the other, each when the one before has come out, as a slow source would."""
    for item in items:
        before = [len(taker.got) for taker in takers]
        hub.put(item)
        for taker, count in zip(takers, before, strict=True):
            taker.arrived(count + 1)


def test_every_picture_comes_out_at_once_and_decodes() -> None:
    encoder = PictureEncoder(0, 500_000)
    coded = [Coded("video", *_encoded(encoder, item, key=item.seq == 7), captured=0) for item in pictures(20)]
    assert decoded(coded) == list(range(20))
    assert [number for number, each in enumerate(coded) if each.key] == [0, 7]


def test_a_picture_that_is_good_enough_gets_no_further_bits() -> None:
    encoder = PictureEncoder(0, 2_500_000)
    coded = [Coded("video", *_encoded(encoder, item, key=False), captured=0) for item in pictures(60, (1280, 720))]
    assert decoded(coded) == list(range(60))
    assert sum(len(each.data) for each in coded) * 8 / 2 < 800_000  # what is asked for is the most, not the aim


def _encoded(encoder: PictureEncoder, item: Item, key: bool) -> tuple[bytes, int, bool]:
    pts = int(item.pts * item.time_base / PICTURE_BASE)
    data, is_key, _ = encoder.encode(item.value, pts, key)
    return data, pts, is_key


@pytest.mark.parametrize("form", ["rgb24", "gray", "yuv444p", "nv12"])
def test_other_formats_and_odd_sizes_are_converted(form: str) -> None:
    frame = av.VideoFrame(101, 75, form)
    _, key, size = PictureEncoder(0, 500_000).encode(frame, 0, False)
    assert key
    assert size == (100, 76)


def test_rungs_halve_and_large_pictures_fit() -> None:
    assert [scaled(1280, 720, rung) for rung in range(3)] == [(1280, 720), (640, 360), (320, 180)]
    assert scaled(3840, 2160, 0) == (1920, 1080)


def test_sound_becomes_blocks_of_20_ms_with_their_times() -> None:
    encoder = SoundEncoder()
    frames = [av.AudioFrame("fltp", "mono", 1024) for _ in range(50)]
    times = []
    for number, frame in enumerate(frames):
        frame.sample_rate, frame.pts, frame.time_base = 44100, number * 1024, Fraction(1, 44100)
        times += [at for _, at in encoder.encode(frame, round(number * 1024 * 48000 / 44100))]
    assert len(times) >= 50
    assert {b - a for a, b in itertools.pairwise(times)} <= {959, 960, 961}


def test_sound_that_is_encoded_as_it_comes_and_sound_of_another_form_follow_each_other() -> None:
    encoder, times = SoundEncoder(), []
    for number in range(30):
        fits = number // 10 != 1
        frame = av.AudioFrame("s16" if fits else "fltp", "stereo" if fits else "mono", 960)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 7 if fits else None, Fraction(1, 48_000)
        for plane in frame.planes:
            plane.update(b"\x00\x40" * (plane.buffer_size // 2) if fits else bytes(plane.buffer_size))
        blocks = list(encoder.encode(frame, number * 960))
        times += [at for _, at in blocks]
        assert encoder.level == pytest.approx(0.5 if fits else 0)
        assert frame.pts == (7 if fits else None)  # others may hold the same frame
    assert times == [number * 960 for number in range(30)]
    container = av.CodecContext.create("opus", "r")
    assert container.decode(av.Packet(blocks[0][0]))[0].sample_rate == 48_000


def test_two_viewers_cost_one_encode(hub: Outgoing) -> None:
    takers = Takes(), Takes()
    viewers = [hub.viewer(taker) for taker in takers]
    feed(hub, pictures(10), *takers)
    assert hub.statistics()["encoded"] == 10
    assert hub.statistics()["rungs"] == 1
    assert decoded(takers[0].got) == decoded(takers[1].got) == list(range(10))
    for viewer in viewers:
        viewer.close()
    assert hub.statistics()["rungs"] == 0


def test_a_picture_that_comes_while_one_is_late_waits_for_the_encoder(hub: Outgoing) -> None:
    taker, busy, go = Takes(), threading.Event(), threading.Event()

    def take(coded: Coded) -> None:
        taker(coded)
        busy.set()
        assert go.wait(20)

    hub.viewer(take)
    first, *others = pictures(5)
    hub.put(first)
    assert busy.wait(20)
    for item in others:
        hub.put(item)
    go.set()
    assert decoded(taker.arrived(3)) == [0, 3, 4]  # the newest ones; the others are counted
    assert hub.statistics()["dropped"] == 2


def test_a_late_viewer_gets_the_newest_picture_at_once(hub: Outgoing) -> None:
    early, late = Takes(), Takes()
    hub.viewer(early)
    feed(hub, pictures(5), early)
    hub.viewer(late)
    assert decoded(late.arrived(1)) == [4]


def test_a_key_picture_comes_when_asked_for(hub: Outgoing) -> None:
    taker = Takes()
    viewer = hub.viewer(taker)
    items = pictures(8)
    feed(hub, items[:4], taker)
    viewer.ask_key()
    feed(hub, items[4:], taker)
    assert [n for n, coded in enumerate(taker.got) if coded.key] == [0, 4]


def test_no_picture_takes_longer_than_a_router_holds_it():
    encoder, dice, sizes = PictureEncoder(0, 400_000), np.random.default_rng(1), []
    for number in range(40):
        noise = np.concatenate([dice.integers(96, 160, (360, 640), "u1"), np.full((180, 640), 128, "u1")])
        data, _, _ = encoder.encode(av.VideoFrame.from_ndarray(noise, format="yuv420p"), number * 3000, number in (0, 20))
        sizes.append(len(data))
    assert max(sizes) * 8 <= 0.2 * 400_000


def test_who_asks_again_while_a_key_picture_is_on_its_way_gets_one(runtime: MediaRuntime) -> None:
    async def asks() -> int:
        asked: list[None] = []

        async def handle(packet: object) -> None:
            """As aiortc's sender."""

        sender = SimpleNamespace(_handle_rtcp_packet=handle)
        _listen(sender, SimpleNamespace(limit=None, ask_key=lambda: asked.append(None)))
        for _ in range(3):
            await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=2))
        return len(asked)

    assert runtime.run(asks()) == 1


def test_nothing_is_encoded_for_nobody(hub: Outgoing) -> None:
    for item in pictures(5):
        hub.put(item)
    assert hub.statistics() | {"video": 5} == {
        "video": 5, "audio": 0, "encoded": 0, "bytes": 0, "bad": 0, "dropped": 0, "viewers": 0, "rungs": 0,
    }  # fmt: skip


def test_sound_that_nobody_hears_has_a_level_and_costs_no_encode(hub: Outgoing) -> None:
    taker = Takes("audio")
    viewer = hub.viewer(taker)
    viewer.sound = False
    sound = [item for item in TestSource(size=SIZE, duration=1).items() if item.track == "audio"]
    for item in sound[:25]:
        hub.put(item)
    assert (hub.counts["bytes"], taker.got) == (0, [])
    assert hub.level == pytest.approx(0.1 / 2**0.5, rel=0.05)
    viewer.sound = True
    for item in sound[25:]:
        hub.put(item)
    assert len(taker.arrived(25)) == 25


def test_a_paused_viewer_costs_nothing_and_goes_on_with_a_key_picture(hub: Outgoing) -> None:
    taker = Takes()
    viewer = hub.viewer(taker)
    items = pictures(9)
    feed(hub, items[:3], taker)
    viewer.change(active=False)
    for item in items[3:6]:
        hub.put(item)
    assert hub.statistics()["encoded"] == 3
    viewer.change(active=True)
    taker.arrived(4)
    assert taker.got[3].key


def test_times_increase_over_runs_and_jumps(hub: Outgoing) -> None:
    taker = Takes()
    hub.viewer(taker)
    feed(hub, pictures(5), taker)
    hub.restart()
    feed(hub, pictures(5), taker)
    jump = pictures(1)[0]
    jump.pts += 100_000
    feed(hub, [jump], taker)
    times = [coded.pts for coded in taker.got]
    assert times == sorted(set(times))
    assert times[-1] < 60 * 90_000


def test_a_picture_that_cannot_be_encoded_is_counted(hub: Outgoing) -> None:
    taker = Takes()
    hub.viewer(taker)
    hub.put(Item("text", 0))
    feed(hub, pictures(2), taker)
    assert hub.statistics()["bad"] == 1
    assert "str" in hub.problem
    assert len(taker.got) == 2


def test_frames_without_pixels_or_a_rate_are_counted_and_the_next_ones_shown(hub: Outgoing) -> None:
    taker, hears = Takes(), Takes("audio")
    hub.viewer(taker)
    hub.viewer(hears)
    silent = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="stereo")
    hub.put(Item(silent, 0, Fraction(1, 48_000), "audio"))
    assert "sample_rate" in hub.problem
    hub.put(Item(av.VideoFrame(0, 0, "yuv420p"), 0, Fraction(1, 30), "video"))
    sound = [item for item in TestSource(size=SIZE, duration=1).items() if item.track == "audio"]
    feed(hub, pictures(3)[1:], taker)
    feed(hub, sound[1:3], hears)
    assert hub.statistics()["bad"] == 2


class Browser:
    """An aiortc peer in the place of a browser."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection()
        self.frames: list[av.VideoFrame] = []
        self.blocks = 0
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task] = []
        self.connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._read(track))))

    async def watch(self, hub: Outgoing) -> Peer:
        for kind in ("video", "audio"):
            self.connection.addTransceiver(kind, "recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        peer = Peer()
        attach(hub, peer.connection)
        answer = await peer.answer(self.connection.localDescription.sdp)
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return peer

    async def _read(self, track) -> None:
        while True:
            frame = await track.recv()
            if track.kind == "video":
                self.frames.append(frame)
            else:
                self.blocks += 1
            self.changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(30):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()

    async def close(self) -> None:
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def live(hub: Outgoing) -> tuple[threading.Thread, TestSource]:
    source = TestSource(size=SIZE, realtime=True)
    source.open()
    thread = threading.Thread(target=lambda: [hub.put(item) for item in source.items()], daemon=True)
    thread.start()
    return thread, source


def test_browsers_see_and_hear_it_with_one_encode(hub: Outgoing, runtime: MediaRuntime) -> None:
    thread, source = live(hub)

    async def scene() -> None:
        browsers = Browser(), Browser()
        peers = [await browser.watch(hub) for browser in browsers]
        for browser in browsers:
            await browser.until(lambda b: len(b.frames) >= 30 and b.blocks >= 30)
        shown = [[read_frame_number(frame) for frame in browser.frames] for browser in browsers]
        counts = hub.statistics()
        assert counts["viewers"] == 2
        assert counts["encoded"] <= counts["video"] + 4
        for numbers in shown:
            assert numbers == sorted(numbers)
            assert len(numbers) - len(set(numbers)) <= 2  # the newest is shown again to a new viewer
        for peer in peers:
            await peer.close()
        for browser in browsers:
            await browser.close()

    try:
        runtime.run(scene(), 60)
        assert hub.statistics()["viewers"] == 0
    finally:
        source.close()
        thread.join()


def test_twenty_viewers_come_and_go(hub: Outgoing, runtime: MediaRuntime) -> None:
    thread, source = live(hub)

    async def scene() -> None:
        for _ in range(20):
            browser = Browser()
            peer = await browser.watch(hub)
            await browser.until(lambda b: len(b.frames) >= 1)
            await peer.close()
            await browser.close()
        assert len(asyncio.all_tasks()) == 1

    try:
        runtime.run(scene(), 120)
        assert hub.statistics()["viewers"] == hub.statistics()["rungs"] == 0
        assert not [t.name for t in threading.enumerate() if t.name.startswith("avlab:encode")]
    finally:
        source.close()
        thread.join()


def test_sound_from_before_the_connection_stood_is_not_sent_in_a_burst(runtime: MediaRuntime) -> None:
    async def read() -> tuple[list[int], list[int]]:
        sound, video = LiveTrack("audio"), LiveTrack("video")
        for n in range(6):
            for track in (sound, video):
                track.push(Coded(track.kind, b"x", n, True, 0))
        await asyncio.sleep(0)
        heard, seen = [(await sound.recv()).pts], [(await video.recv()).pts for _ in range(6)]
        sound.push(Coded("audio", b"x", 6, True, 0))
        sound.push(Coded("audio", b"x", 7, True, 0))
        heard += [(await sound.recv()).pts for _ in range(2)]
        sound.stop()
        video.stop()
        return heard, seen

    assert runtime.run(read()) == ([5, 6, 7], [0, 1, 2, 3, 4, 5])
