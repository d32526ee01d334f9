"""The receiver behind two real aiortc peers in this process, and a network that spoils their packets by a seed."""

import asyncio
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise

import aiortc
import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from lossy_pair import FLASH, RATE, Network, connect, peers

from avlab.core.errors import ConfigError, MediaError
from avlab.media.rtc import tap
from avlab.media.rtc.delay import EARLY, LATE
from avlab.media.rtc.receive import Receiver
from avlab.media.rtc.tap import begins_key
from avlab.media.runtime import MediaRuntime


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


class Taken:
    """The items of a receiver as they come."""

    def __init__(self, receiver: Receiver) -> None:
        self.items: dict[str, list] = {"audio": [], "video": []}
        self._came = asyncio.Event()
        self._task = asyncio.create_task(self._take(receiver))

    async def _take(self, receiver: Receiver) -> None:
        async for item in receiver.items():
            self.items[item.track].append(item)
            self._came.set()

    async def until(self, track: str, seconds: float) -> None:
        """Wait until the track's time has come so far."""
        while not self.items[track] or self.items[track][-1].time < seconds:
            self._came.clear()
            await self._came.wait()

    async def end(self) -> None:
        await self._task

    def times(self, track: str) -> list[Fraction]:
        return [item.pts * item.time_base for item in self.items[track]]

    def flashes(self) -> list[float]:
        lit = [item.value.to_ndarray(format="gray").mean() > 150 for item in self.items["video"]]
        return [
            float(time)
            for time, now, before in zip(self.times("video"), lit, [True, *lit], strict=False)
            if now > before
        ]

    def beeps(self) -> list[float]:
        begun, quiet = [], 0.0
        for item in self.items["audio"]:
            loud = np.abs(item.value.to_ndarray().reshape(-1, 2)[:, 0].astype(int)) > 6000
            if loud.any():
                if quiet > 0.2:
                    begun.append(item.time + int(loud.argmax()) / RATE)
                quiet = 0.0
            else:
                quiet += item.value.samples / RATE
        return begun


@asynccontextmanager
async def session(forth: Network, back: Network, **options):
    """A receiver of flashes and beeps through a network each way."""
    async with peers() as (sender, there):
        receiver = Receiver(there, **options)
        taken = Taken(receiver)
        try:
            await connect(sender, there, forth, back)
            yield receiver, taken, sender
        finally:
            await receiver.close()
            await taken.end()


@pytest.mark.parametrize(
    ("loss", "jitter", "sync"),
    [(0, 0, "low-latency"), (0.01, 0, "lips"), (0.05, 0, "lips"), (0.1, 0, "lips"), (0.01, 0.1, "lips")],
    ids=["clean", "1 %", "5 %", "10 %", "1 % and ±50 ms"],
)
def test_sound_and_pictures_survive_the_network(runtime, loss, jitter, sync, record_property):
    seconds, forth, back = 8, Network(1, loss, jitter), Network(2, loss, jitter)

    async def scenario():
        async with session(forth, back, sync=sync) as (receiver, taken, _):
            await taken.until("audio", seconds)
            return taken, receiver.statistics()

    taken, statistics = runtime.run(scenario(), 60)
    sound, picture = statistics.tracks["audio"], statistics.tracks["video"]
    assert bool(forth.lost) == bool(loss)
    times = taken.times("audio")
    played = len(times) * 0.02 / float(times[-1] - times[0] + Fraction(1, 50))
    concealed = sound.counts.concealed / len(times)
    skews = [min(taken.beeps(), key=lambda beep: abs(beep - flash)) - flash for flash in taken.flashes()[1:-1]]
    record_property("audio played", f"{played:.1%}, concealed {concealed:.1%}")
    record_property("skew by pts in ms", [round(skew * 1e3) for skew in skews])
    record_property("skew at delivery in ms", round(statistics.skew * 1e3))
    assert played >= 0.99
    assert max(b - a for a, b in pairwise(times)) <= Fraction(60, 1000)
    assert concealed <= 1.6 * loss + 0.02
    assert all(b > a for track in ("audio", "video") for a, b in pairwise(taken.times(track)))
    assert len(skews) >= seconds - 4
    # By pts; positive: sound late. The sender's pictures are sent up to 33 ms after they begin, its sound after 20 ms.
    assert all(-EARLY <= skew <= LATE for skew in skews)
    if sync == "lips":
        assert -LATE <= statistics.skew <= EARLY
    assert len(taken.items["video"]) >= 0.9 * 30 * seconds
    assert sound.errors == picture.errors == picture.overrun == 0
    assert all(isinstance(item.value, av.AudioFrame) and item.value.samples == 960 for item in taken.items["audio"])
    numbers = {track: [item.seq for item in items] for track, items in taken.items.items()}
    assert all(b > a for each in numbers.values() for a, b in pairwise(each))
    assert statistics.dropped <= 0.02 * sum(map(len, numbers.values()))


def test_h264_survives_loss_as_well(runtime):
    async def scenario():
        async with peers(audio=False, codec="H264") as (sender, there):
            receiver = Receiver(there)
            taken = Taken(receiver)
            await connect(sender, there, Network(5, 0.05), Network(6, 0.05))
            await taken.until("video", 4)
            statistics = receiver.statistics()
            await receiver.close()
            await taken.end()
            return taken, statistics

    taken, statistics = runtime.run(scenario(), 60)
    times = taken.times("video")
    assert len(times) >= 0.85 * 30 * 4
    assert all(b > a for a, b in pairwise(times))
    assert statistics.tracks["video"].errors == 0
    assert len(taken.flashes()) >= 3


def test_media_comes_back_after_an_outage_and_time_goes_on(runtime):
    forth, back = Network(3), Network(4)

    async def scenario():
        async with session(forth, back) as (receiver, taken, _):
            await taken.until("audio", 2)
            forth.cut = back.cut = True
            healed = asyncio.Event()
            asyncio.get_running_loop().call_later(3, healed.set)
            await healed.wait()
            silent = receiver.statistics().tracks["audio"].silent
            forth.cut = back.cut = False
            before = len(taken.items["video"])
            await taken.until("audio", 5.5)
            await taken.until("video", 7)
            return taken, silent, before

    taken, silent, before = runtime.run(scenario(), 60)
    assert silent > 2
    for track in ("audio", "video"):
        steps = [b - a for a, b in pairwise(taken.times(track))]
        assert min(steps) > 0
        assert 2.5 < max(steps) < 4.5
    assert taken.times("video")[before] < 7


def test_a_second_connection_carries_on_the_tracks_of_the_first(runtime):
    async def scenario():
        receiver = Receiver(lasting=True)
        taken = Taken(receiver)
        for until in (1.5, 4):
            async with peers() as (sender, there):
                receiver.attach(there)
                await connect(sender, there, Network(1), Network(2))
                await taken.until("audio", until)
                await taken.until("video", until)
        await receiver.close()
        await taken.end()
        return taken, receiver.statistics()

    taken, statistics = runtime.run(scenario(), 60)
    assert set(statistics.tracks) == {"audio", "video"}
    for track in ("audio", "video"):
        assert all(b > a for a, b in pairwise(taken.times(track)))
        assert all(b.seq > a.seq for a, b in pairwise(taken.items[track]))
    assert len(taken.flashes()) >= 2 and FLASH == 1


def test_the_items_end_with_the_tracks(runtime):
    async def scenario():
        async with peers(video=False) as (sender, there):
            receiver = Receiver(there)
            taken = Taken(receiver)
            await connect(sender, there, Network(1), Network(2))
            await taken.until("audio", 0.5)
            await sender.close()
            await taken.end()
            await receiver.close()
            await receiver.close()

    runtime.run(scenario(), 30)


def test_two_tracks_of_a_kind_have_names_of_their_own(runtime):
    async def scenario():
        async with peers() as (sender, there), peers(audio=False) as (other, _):
            sender.addTrack(other.getSenders()[0].track)
            receiver = Receiver(there)
            await connect(sender, there, Network(1), Network(2))
            await receiver.close()
            return set(receiver.statistics().tracks)

    assert runtime.run(scenario(), 30) == {"audio", "video", "video2"}


def test_a_thread_can_take_the_items(runtime):
    async def begin():
        pair = peers(video=False)
        sender, there = await pair.__aenter__()
        receiver = Receiver(there)
        await connect(sender, there, Network(1), Network(2))
        return pair, receiver

    pair, receiver = runtime.run(begin(), 30)
    first = [item.track for item, _ in zip(receiver, range(5), strict=False)]

    async def end():
        await receiver.close()
        await pair.__aexit__(None, None, None)

    runtime.run(end(), 30)
    assert first == ["audio"] * 5
    assert list(receiver) == []


def test_an_aiortc_that_changed_inside_is_refused_by_name(runtime, monkeypatch):
    async def scenario():
        connection = RTCPeerConnection()
        connection.addTransceiver("audio")
        (receiver,) = connection.getReceivers()
        tap.Tap(receiver, lambda *_: None, lambda *_: None).remove()
        try:
            for name in (tap.BUFFER, tap.CODECS):
                with (
                    monkeypatch.context() as patch,
                    pytest.raises(MediaError, match=f"aiortc {aiortc.__version__}.*1.16"),
                ):
                    patch.delattr(receiver, name)
                    tap.Tap(receiver, lambda *_: None, lambda *_: None)
            for name in tap.METHODS:
                with monkeypatch.context() as patch, pytest.raises(MediaError, match="install aiortc"):
                    patch.delattr(type(receiver), name)
                    tap.Tap(receiver, lambda *_: None, lambda *_: None)
        finally:
            await connection.close()

    runtime.run(scenario(), 10)


def test_an_unknown_sync_is_refused():
    with pytest.raises(ConfigError, match=r"low-latency.*lips"):
        Receiver(sync="fast")


@pytest.mark.parametrize(
    ("codec", "payload", "key"),
    [
        ("VP8", b"\x10\x00rest", True),
        ("VP8", b"\x10\x01rest", False),
        ("VP8", b"\x00\x00rest", False),
        ("VP8", b"\x90\x80", False),
        ("VP8", b"", False),
        ("H264", b"\x67abc", True),
        ("H264", b"\x65abc", False),
        ("H264", b"\x18\x00\x02\x67a\x00\x02\x68b", True),
        ("H264", b"\x18\x00\x02\x41a\x00\x09\x68", False),
        ("opus", b"\x67", False),
    ],
)
def test_where_a_key_picture_begins(codec, payload, key):
    assert begins_key(codec, payload) is key
