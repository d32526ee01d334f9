"""Two managers: hand-carried offers, a room, items both ways, back-pressure, pictures and sound."""

import asyncio
import json
import threading
import time
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from waiting import until

from avlab.core.errors import CodecError, ConfigError, Denied, LinkClosed, MediaError, TimedOut
from avlab.core.item import Item
from avlab.media.rtc.channel import CHUNK, WINDOW, MessageChannel
from avlab.media.rtc.manager import WebRTCManager, _unpack
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.address import Address
from avlab.media.signaling.client import Joined, Left, Received, SignalClient
from avlab.media.signaling.server import SignalConfig, SignalServer
from avlab.media.sources import TestSource


@pytest.fixture
def make():
    """Managers, each on a runtime of its own as in another process."""
    made = []

    def make(*arguments, **options) -> WebRTCManager:
        runtime = MediaRuntime()
        made.append((None, runtime))
        manager = WebRTCManager(*arguments, runtime=runtime, **options)
        made[-1] = (manager, runtime)
        return manager

    yield make
    for manager, runtime in made:
        if manager is not None:
            manager.close()
        runtime.close()


@pytest.fixture
def pair(make):
    first, second = make(media=False), make(media=False)
    first.accept(second.answer(first.offer()))
    return first.wait(), second.wait()


def test_items_of_every_kind_travel_both_ways(pair):
    here, there = pair
    values = [b"", b"x" * 5, "grüß Gott", 3, None, [1, {"a": (2.5, None)}], np.arange(12.0).reshape(3, 4)]
    for number, value in enumerate(values):
        here.send(Item(value, number * 10, Fraction(1, 90000), "data", number))
        item = there.receive(10)
        assert (item.pts, item.time_base, item.track, item.seq) == (number * 10, Fraction(1, 90000), "data", number)
        assert np.array_equal(item.value, value) if isinstance(value, np.ndarray) else item.value == value
        there.send(item)
        assert here.receive(10).seq == number


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 2 * WINDOW + 7])
def test_large_items_go_in_chunks(pair, size):
    here, there = pair
    array = np.random.default_rng(size).integers(0, 255, size, np.uint8)
    here.send(array)
    assert np.array_equal(there.receive(30).value, array)


def test_a_slow_reader_holds_up_the_writer_and_loses_nothing(pair):
    here, there = pair
    block, count = np.zeros(1 << 20, np.uint8), 24
    sent = []

    def write():
        for number in range(count):
            here.send(Item(block, number))
            sent.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    assert there.receive(10).pts == 0
    writer.join(1.0)
    # What is under way and what waits are bounded by two windows, one message, and the transport's own megabyte.
    assert writer.is_alive() and len(sent) <= 2 * WINDOW // len(block) + 4
    assert [there.receive(10).pts for _ in range(count - 1)] == list(range(1, count))
    writer.join(10)


def test_the_end_is_heard_on_the_other_side(pair):
    here, there = pair
    with pytest.raises(TimedOut):
        there.receive(0.05)
    rest = []
    waiting = threading.Thread(target=lambda: rest.extend([list(there), "ended"]))
    waiting.start()
    here.close()
    waiting.join(5)
    assert rest == [[], "ended"]
    with pytest.raises(LinkClosed):
        there.receive(5)
    with pytest.raises(LinkClosed):
        there.send(1)
    with pytest.raises(LinkClosed):
        here.send(1)
    assert here.state == there.state == "closed"


def test_values_that_cannot_travel_are_refused_where_they_are_sent(pair):
    with pytest.raises(CodecError, match="cannot travel"):
        pair[0].send(threading.Lock())
    pair[0].send("still works")
    assert pair[1].receive(10).value == "still works"


@pytest.mark.parametrize("text", ["", "hello", "avlab-rtc:!!!", "avlab-rtc:aGFsbG8=", "v=0\nm=nothing", None])
def test_carried_text_that_is_none_is_refused(make, text):
    manager = make(media=False)
    with pytest.raises(MediaError):
        manager.answer(text)
    with pytest.raises(MediaError, match="offer"):
        manager.accept(text)
    manager.offer()
    with pytest.raises(MediaError):
        manager.accept(text)


@pytest.fixture
def server():
    runtime = MediaRuntime()
    with SignalServer(SignalConfig(port=0), runtime=runtime) as server:
        yield server
    runtime.close()


def test_members_of_a_room_find_each_other(make, server):
    first = make(server.url, room="studio", secret=server.secret, media=False)
    second = make(str(server.invite("studio")), media=False)
    third = make(str(first.invite()), media=False)
    partners = [second.wait(), second.wait(), first.wait(), first.wait(), third.wait(), third.wait()]
    third.send("to all")
    assert [p.receive(10).value for p in partners[:4] if p.id == third._client.id] == ["to all"] * 2
    assert {p.state for p in partners} == {"connected"} and {p.path for p in partners} == {"direct"}
    third.close()
    for partner in partners[:4]:
        if partner.id == third._client.id:
            with pytest.raises(LinkClosed):
                partner.receive(5)
    gone = next(partner for partner in partners[2:4] if partner.id == third._client.id)
    first._runtime.run(gone._over.wait(), 10)
    assert len(first.partners) == 1


def test_a_room_needs_an_invitation(make, server):
    with pytest.raises(Denied):
        make(f"{server.url}/#room=studio&token=wrong")
    with pytest.raises(ConfigError, match="invitation"):
        make(server.url, room="studio")
    with pytest.raises(ConfigError, match="secret"):
        make(str(server.invite("studio")), media=False).invite()


def test_pictures_and_sound_arrive_with_their_times(make):
    first, second = make(), make()
    first.accept(second.answer(first.offer()))
    there = second.wait()
    source = TestSource(size=(320, 240), duration=None, realtime=True)
    source.open()

    def show():
        for item in source.items():
            first.put(item)

    showing = threading.Thread(target=show)
    showing.start()
    try:
        items = list(islice(there.frames(), 60))
    finally:
        source.close()
        showing.join(10)
    tracks = {item.track for item in items}
    assert tracks == {"video", "audio"}
    for track in tracks:
        times = [item.time for item in items if item.track == track]
        assert times == sorted(times) and len(times) >= 5
    assert {(i.value.width, i.value.height) for i in items if i.track == "video"} == {(320, 240)}


@pytest.mark.parametrize("kinds", [{"video", "audio"}, {"video"}, {"audio", "application"}, {"application"}, {"vp8", "audio"}])
def test_offers_of_others_need_not_have_everything(make, kinds):
    manager = make()

    async def stranger():
        other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        if "application" in kinds:
            other.createDataChannel("avlab.items", negotiated=True, id=2)
        if "audio" in kinds:
            other.addTrack(AudioStreamTrack())
        if kinds & {"video", "vp8"}:
            camera = other.addTransceiver(VideoStreamTrack(), "sendonly")
            wanted = "video/VP8" if "vp8" in kinds else "video/H264"
            codecs = RTCRtpSender.getCapabilities("video").codecs
            camera.setCodecPreferences([codec for codec in codecs if codec.mimeType == wanted])
        await other.setLocalDescription(await other.createOffer())
        answer = _unpack(await manager.aanswer(other.localDescription.sdp))
        await other.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        partner = manager.partners[0]
        assert await manager.await_partner(15) is partner
        media = kinds - {"application"}
        expected = {"video" if kind == "vp8" else kind for kind in media}
        heard = set()
        if media:
            for item in await asyncio.to_thread(lambda: list(islice(partner.frames(), 60))):
                heard.add("video" if isinstance(item.value, av.VideoFrame) else "audio")
        assert heard == expected
        if "application" in kinds:
            await partner.asend(1)
        else:
            with pytest.raises(LinkClosed, match="no DataChannel"):
                await partner.asend(1)
            with pytest.raises(LinkClosed, match="no DataChannel"):
                await partner.areceive(1)
        await other.close()

    asyncio.run(stranger())


def test_an_idle_peer_of_another_make_is_not_given_up(make, monkeypatch):
    monkeypatch.setattr("avlab.media.rtc.partner.STALLED", 0.1)
    monkeypatch.setattr("avlab.media.rtc.partner.LOST", 0.2)
    manager = make()

    async def stranger():
        other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        heard = asyncio.Event()
        control = other.createDataChannel("avlab.control", negotiated=True, id=0)
        other.createDataChannel("avlab.items", negotiated=True, id=2).on("message", lambda _: heard.set())
        await other.setLocalDescription(await other.createOffer())
        answer = _unpack(await manager.aanswer(other.localDescription.sdp))
        await other.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        partner = await manager.await_partner(15)
        control.close()  # as libdatachannel does with what it does not know
        await asyncio.sleep(2)  # four beats
        await partner.asend(1)
        await asyncio.wait_for(heard.wait(), 10)
        assert partner.state == "connected"
        await other.close()

    asyncio.run(stranger())


def test_an_answer_may_take_as_long_to_be_carried_as_a_person_needs(make, monkeypatch):
    monkeypatch.setattr("avlab.media.rtc.partner.CONNECTING", 1.0)
    first, second = make(media=False), make(media=False)
    answer = second.answer(first.offer())
    with pytest.raises(TimedOut):
        second.wait(2.0)
    monkeypatch.setattr("avlab.media.rtc.partner.CONNECTING", 15.0)
    first.accept(answer)
    assert first.wait(15).state == second.wait(15).state == "connected"


def test_an_answer_that_nobody_carries_is_given_up(make, monkeypatch):
    monkeypatch.setattr("avlab.media.rtc.partner.CONNECTING", 0.5)
    monkeypatch.setattr("avlab.media.rtc.partner.CARRIED", 2.0)
    first, second = make(media=False), make(media=False)
    second.answer(first.offer())
    (waiting,) = second.partners
    assert until(lambda: waiting.reason.startswith("Waiting until the answer is carried to the other side; if it has been: the peers did not"))
    assert until(lambda: waiting.state == "closed")
    assert waiting.reason.endswith("make another offer.")


def test_what_is_for_all_reaches_all_who_can_take_it(make, monkeypatch):
    manager, second, third = make(media=False), make(media=False), make(media=False)
    for other in (second, third):
        other.accept(manager.answer(other.offer()))
    deaf, gone = manager.wait(), manager.wait()
    last = make(media=False)
    last.accept(manager.answer(last.offer()))
    manager.wait()
    monkeypatch.setattr(deaf, "_items", None)  # as of a peer whose offer had no DataChannel
    gone._items.close()
    manager.send("to whom it may concern")
    assert last.wait().receive(10).value == "to whom it may concern"


def test_who_has_gone_again_is_not_given_as_a_partner_and_not_kept(make):
    manager, other = make(media=False), make(media=False)
    for _ in range(3):
        other.accept(manager.answer(other.offer()))
        other.wait().close()
        assert until(lambda: not manager.partners)
    with pytest.raises(TimedOut):
        manager.wait(0.2)
    other.accept(manager.answer(other.offer()))
    assert manager.wait().state == "connected"
    assert len(manager._fresh) == 0


def test_a_lost_connection_is_waited_for_without_turning_round(pair):
    """A connection whose channel has ended, and which is not yet replaced."""
    here, _ = pair

    async def lose() -> None:
        here._signal = None
        here._set("reconnecting", "lost")
        here._signal, here._offers = _nowhere, False
        here._lost(here._peer, "lost")
        here._items.end()

    here._runtime.run(lose(), 5)
    begun = time.thread_time()
    with pytest.raises(TimedOut):
        here.receive(0.5)
    assert time.thread_time() - begun < 0.2


async def _nowhere(message: dict) -> None:
    raise LinkClosed("there is no signalling server now")


def test_a_member_that_takes_long_does_not_hold_up_the_next_one(make, server):
    held, entered = threading.Event(), threading.Event()

    def servers():
        if not entered.is_set():
            entered.set()
            held.wait(30)
        return ()

    room = {"room": "a", "secret": server.secret, "media": False}
    manager = make(server.url, ice_servers=servers, **room)
    make(server.url, **room)  # its offer is being answered for as long as `held` holds
    assert entered.wait(15)
    quick = make(server.url, **room)
    try:
        assert {quick.wait(15).state} == {"connected"}
        assert manager.wait(15).state == "connected"
    finally:
        held.set()


def test_a_member_with_a_name_of_ours_reaches_nobody_else(make, server):
    """Names come from the server: one that is no friend may give any."""
    room = {"room": "a", "secret": server.secret, "media": False}
    manager = make(server.url, **room)
    by_hand = make(media=False)
    by_hand.accept(manager.answer(by_hand.offer()))
    carried = manager.wait()

    async def spoof() -> None:
        for event in (Received(carried.id, {"kind": "offer", "generation": 1, "sdp": ""}), Joined(carried.id, "script"), Left(carried.id)):
            await manager._client._events.put(event)

    manager._runtime.run(spoof(), 5)
    other = make(server.url, **room)
    assert other.wait(15).state == manager.wait(15).state == "connected"
    carried.send("still here")
    assert by_hand.wait().receive(10).value == "still here"


@pytest.mark.parametrize(("name", "value"), [("sync", "x"), ("ice_servers", "stun:x"), ("room", "a")])
def test_a_manager_refuses_what_it_could_not_use(name, value):
    with pytest.raises(ConfigError, match=name):
        WebRTCManager(**{name: value})


def test_who_waits_in_vain_or_shows_what_cannot_be_shown_is_told_so(make):
    manager = make()
    with pytest.raises(TimedOut, match=r"no partner within 0\.1 s"):
        manager.wait(0.1)
    for wrong in ("text", Item("text")):
        with pytest.raises(MediaError, match=r"not a str: send\(\)"):
            manager.put(wrong)


STUN = {"urls": ["stun:relay.example:3478"]}
FOR_EVER = {"urls": ["turn:relay.example:3478"], "username": "me", "credential": "for-ever"}
PASSING = {"urls": ["turn:relay.example:3478"], "username": "1900000000:me", "credential": "ends"}


@pytest.mark.parametrize(
    ("given", "named", "told"),
    [
        ([], [STUN, FOR_EVER, PASSING], [STUN, PASSING]),
        ([], [], []),
        ([FOR_EVER], [PASSING], [FOR_EVER]),
        (lambda: [FOR_EVER], [], [FOR_EVER]),
    ],
)
def test_a_page_learns_no_lasting_credentials_of_the_environment(make, server, monkeypatch, given, named, told):
    monkeypatch.setenv("AVLAB_ICE_SERVERS", json.dumps(named))
    room = {"room": "a", "secret": server.secret, "media": False}
    manager = make(server.url, ice_servers=given, **room)
    invitation, page = manager.invite("view"), make()

    async def ask() -> object:
        client = SignalClient(Address.parse(invitation.url), role="view")
        try:
            await client.open()
            script = await client.next()
            await client.send(script.member, {"kind": "servers"})
            while not isinstance(event := await client.next(), Received) or event.data.get("kind") != "servers":
                pass
            return event.data["servers"]
        finally:
            await client.close()

    assert page._runtime.run(ask(), 15) == told


class Wire:
    """A DataChannel without a connection."""

    label, readyState, bufferedAmount = "test", "open", 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def on(self, event: str, handler: object) -> None:
        pass

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.readyState = "closed"


@pytest.mark.parametrize("size", [0, 1, 2])
def test_many_small_messages_count_for_what_they_take(monkeypatch, size):
    """What waits here is bounded, also where messages are smaller than the objects that hold them."""
    monkeypatch.setattr("avlab.media.rtc.channel.WINDOW", 1 << 14)
    runtime = MediaRuntime()

    async def flood() -> MessageChannel:
        channel = MessageChannel(Wire(), runtime, 1 << 14)
        for _ in range(1 << 17):
            channel._take(b"\x01" + b"x" * size)
        return channel

    try:
        channel = runtime.run(flood(), 60)
    finally:
        runtime.close()
    assert not channel.open, "who sends on, though nothing is taken, is cut off"
    assert channel.recv() == b"x" * size
