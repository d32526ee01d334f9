"""Damaged signalling messages, on both sides and between peers: refused with avlab's errors, in bounded memory."""

import asyncio
import base64
import json
import logging
import zlib
from types import SimpleNamespace

import pytest
from aiohttp import WSMsgType
from aiortc.sdp import SessionDescription
from mutation import CASES, as_text, damaged, dice, grown, strange, twisted

from avlab.core.errors import AvlabError, ConfigError, Denied, MediaError
from avlab.media.rtc.manager import _unpack
from avlab.media.rtc.partner import Partner
from avlab.media.rtc.peer import Peer, read
from avlab.media.rtc.policy import MAX_DESCRIPTION, MAX_SECTIONS, allowed
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.address import Address
from avlab.media.signaling.client import SignalClient
from avlab.media.signaling.rooms import Bounds, Rooms
from avlab.media.signaling.server import SignalServer, _read

MIB = 1 << 20


def text_message(value: object, of) -> SimpleNamespace:
    """A WebSocket message as aiohttp gives it: mostly JSON, mostly text."""
    text = as_text(value)
    if of.randrange(5) == 0:
        text = damaged(text.encode(), of).decode("utf-8", "replace")
    return SimpleNamespace(type=of.choice((*[WSMsgType.TEXT] * 20, WSMsgType.BINARY, WSMsgType.ERROR)), data=text)


def test_what_members_send_to_the_server() -> None:
    """Hello, resume and messages: whoever is let in is counted, and nothing piles up."""
    of, clock = dice("server"), SimpleNamespace(now=0)
    bounds = Bounds(rooms=4, members=4, invitations=8, waiting=8)
    rooms = Rooms(bounds, lambda: clock.now)
    server = SignalServer.__new__(SignalServer)  # the part of it that reads, without its socket
    server._rooms = rooms
    members, told = [], []
    heard: list[dict] = []

    def work() -> None:
        for number in range(CASES):
            clock.now += of.choice((0, 1_000_000, 2_000_000_000))
            del heard[:]
            try:
                if number % 3 == 0:
                    token = rooms.invite(of.choice(("a", "b", "c", "d", "e"))) if of.randrange(2) else "none"
                    hello = of.choice(
                        ({"join": "a", "token": token, "role": "camera"}, {"resume": of.choice([*told, "x"])})
                    )
                    member, welcome = server._admit(_read(text_message(twisted(hello, of), of)))
                    rooms.enter(member, lambda message: heard.append(message) or bool(of.randrange(9)))
                    members.append(member)
                    told.append(welcome["key"])
                elif members:
                    to = of.choice(members).id
                    good = {"to": to, "data": {"kind": "offer", "sdp": "v=0"}}
                    rooms.route(of.choice(members), _read(text_message(twisted(good, of), of)))
                if members and of.randrange(6) == 0:
                    rooms.leave(members.pop(of.randrange(len(members))))
                elif members and of.randrange(6) == 0:
                    rooms.away(of.choice(members))
            except (Denied, ConfigError):
                continue
            there, count = rooms.count
            assert there <= bounds.rooms and count <= bounds.rooms * bounds.members
            assert all(len(member.waiting) <= bounds.waiting for member in members)

    assert grown(work) < 100 * MIB


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "\0", "é", "a/b", None, 1, True, [], {}, ["a"]], ids=repr)
def test_names_of_rooms(name) -> None:
    with pytest.raises(ConfigError):
        Rooms(Bounds()).invite(name)


class Scripted:
    """The client's socket to a server that sends whatever the test likes."""

    def __init__(self, messages: list[SimpleNamespace]) -> None:
        self._messages, self.close_code = iter(messages), 1000

    async def receive(self) -> SimpleNamespace:
        return next(self._messages, SimpleNamespace(type=WSMsgType.CLOSED, data=None, extra=""))

    def __aiter__(self) -> "Scripted":
        return self

    async def __anext__(self) -> SimpleNamespace:
        try:
            return next(self._messages)
        except StopIteration:
            raise StopAsyncIteration from None

    async def send_str(self, text: str) -> None: ...

    async def close(self) -> None: ...


def test_what_a_server_sends_to_its_clients() -> None:
    of = dice("client")
    welcome = {"welcome": "m1", "key": "k", "members": [{"id": "m2", "role": "view"}]}
    news = [{"from": "m2", "data": {"kind": "offer"}}, {"joined": "m3", "role": "camera"}, {"left": "m2"}]
    entered = 0

    async def one() -> bool:
        client = SignalClient(Address("http://127.0.0.1:1", "room", "token"))
        count = of.randrange(6)
        first = welcome if count else twisted(welcome, of)
        said = [text_message(first, of), *(text_message(twisted(of.choice(news), of), of) for _ in range(count))]
        socket = Scripted(said)

        async def connect(*_: object, **__: object) -> Scripted:
            return socket

        client._http = SimpleNamespace(ws_connect=connect)
        try:
            await client._enter({"join": "room"})
            await client._listen()
        except AvlabError:
            return False
        return True

    async def all_of_them() -> None:
        nonlocal entered
        for _ in range(CASES):
            entered += await one()

    assert grown(lambda: asyncio.run(all_of_them())) < 100 * MIB
    assert 0 < entered < CASES


def test_a_server_cannot_fill_a_client_with_members() -> None:
    async def flood() -> None:
        client = SignalClient(Address("http://127.0.0.1:1", "room", "token"))
        news = (
            SimpleNamespace(type=WSMsgType.TEXT, data=json.dumps({"joined": f"m{n}", "role": "view"}))
            for n in range(1 << 20)
        )
        client._socket = Scripted(news)
        reader = asyncio.create_task(client._listen())
        try:
            while True:
                getter = asyncio.create_task(client.next())
                await asyncio.wait({reader, getter}, return_when=asyncio.FIRST_COMPLETED)
                if reader.done():
                    getter.cancel()
                    return await reader
        finally:
            reader.cancel()

    with pytest.raises(AvlabError, match="members"):
        asyncio.run(flood())


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """aiortc and its tasks complain in the log of the nonsense that they are given."""
    logs = [logging.getLogger(name) for name in ("asyncio", "aiortc")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    yield
    for log, level in zip(logs, levels, strict=True):
        log.setLevel(level)


@pytest.fixture(scope="module")
def runtime():
    made = MediaRuntime()
    yield made
    made.close()


def test_what_peers_send_to_each_other(runtime) -> None:
    """Everything but whole descriptions."""
    of = dice("peers")
    good = [
        {"kind": "offer", "generation": 0, "sdp": "v=0"},
        {"kind": "answer", "generation": 0, "sdp": "v=0"},
        {
            "kind": "candidate",
            "generation": 0,
            "candidate": {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0},
        },
        {"kind": "renew", "generation": 0},
    ]
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # aiortc's own tasks complain of the nonsense they are given

    async def signal(_: dict) -> None: ...

    async def work() -> None:
        partner = Partner("m", "script", runtime, Peer, outgoing=None, sync="off", signal=signal, offers=True)
        partner.call = lambda **_: None
        partner._peer = Peer()
        partner._peer.connection.createDataChannel("x")
        other = Peer()
        await partner._peer.accept(await other.answer(await partner._peer.offer()))
        for number in range(CASES):
            if number % 500 == 0:
                partner._peer._trickled = 0
            message = json.loads(as_text(twisted(of.choice(good), of)))
            if isinstance(message, dict) and message.get("kind") == "offer":
                message["generation"] = of.choice((0, -1, 1 << 31, "0", None))  # not newer: it is looked at and left
            try:
                await partner.heard(message)
            except MediaError:
                continue
        await partner._peer.close()
        await other.close()

    runtime.run(work(), 120 + CASES / 50)


@pytest.fixture(scope="module")
def description(runtime) -> str:
    """A real offer with pictures, sound and a channel, and candidates of which some must not be used."""

    async def make() -> str:
        peer = Peer()
        peer.connection.addTransceiver("video")
        peer.connection.addTransceiver("audio")
        peer.connection.createDataChannel("talk")
        text = await peer.offer()
        await peer.close()
        return text

    more = [f"a={CANDIDATE.replace('192.0.2.1', address)}" for address in ("127.0.0.1", "169.254.169.254", "x.local", "::1")]
    return runtime.run(make(), 20) + "\r\n".join([*more, "a=ssrc-group:FID 1 2", "a=ssrc:1 cname:x", ""])


def test_damaged_descriptions(description) -> None:
    """What is accepted names no address that is not allowed; the rest is refused before a connection hears of it."""
    of, accepted = dice("descriptions"), 0
    given, whole = description.split("\r\n"), description.encode()

    def work() -> None:
        nonlocal accepted
        for _ in range(CASES):
            text = disturbed(given, of)
            if of.randrange(3) == 0:
                text = damaged(text.encode("utf-8", "replace"), of, [whole]).decode("utf-8", "replace")
            try:
                parsed = SessionDescription.parse(read(text, loopback=False))
            except MediaError:
                continue
            accepted += 1
            for each in parsed.media:
                assert all(
                    allowed(candidate.ip, loopback=False) and candidate.port >= 1024 for candidate in each.ice_candidates
                )
            assert len(parsed.media) <= MAX_SECTIONS

    assert grown(work) < 50 * MIB
    assert CASES // 50 < accepted < CASES - CASES // 50


def test_a_peer_answers_or_refuses_damaged_descriptions(runtime, description) -> None:
    """Soon, whatever aiortc makes of it, and without anything left behind."""
    of, given = dice("answers"), description.split("\r\n")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # as above

    async def answered(text: str) -> bool:
        peer = Peer()
        try:
            async with asyncio.timeout(5):
                return bool(await peer.answer(text))
        except MediaError:
            return False
        finally:
            await peer.close()

    async def work() -> None:
        assert await answered(description)
        answers = [await answered(disturbed(given, of)) for _ in range(40 + CASES // 100)]
        assert any(answers) and not all(answers)

    runtime.run(work(), 60 + CASES / 10)


def disturbed(lines: list[str], of) -> str:
    """The lines with one to four faults: left out, doubled many times, cut, moved, with other numbers, or with others mixed in."""
    out = list(lines)
    for _ in range(of.choice((1, 1, 2, 4))):
        at = of.randrange(len(out))
        match of.randrange(6):
            case 0 if len(out) > 1:
                del out[at]
            case 1:
                out[at:at] = [out[at]] * of.choice((1, 1, 2, 2, 70) if of.randrange(40) else (2000,))
            case 2:
                out[at] = out[at][: of.randrange(len(out[at]) + 1)]
            case 3:
                out.insert(of.randrange(len(out)), out.pop(at))
            case 4:
                out[at] = out[at].replace(of.choice("0123456789"), str(strange(of)))
            case _:
                out[at] += of.choice(out)
    return of.choice(("\r\n",) * 9 + ("\n", "\x0b", "\u2028")).join(out)


@pytest.mark.parametrize(
    "lines",
    [
        ["a=rtpmap:1 a/1"] * 4000 + ["a=rtcp-fb:1 a"] * 4000,
        [f"a=rtpmap:{n} a/1" for n in range(3000)] + ["a=fmtp:2999 a=1"] * 3000,
        [f"a=ssrc:{n} a:" for n in range(7000)],
    ],
)
def test_a_description_that_would_keep_the_parser_busy_is_refused_before(description, lines) -> None:
    text = description + "\r\n".join([*lines, ""])
    assert len(text) < MAX_DESCRIPTION
    with pytest.raises(MediaError, match="too many codecs or sources"):
        read(text, loopback=False)


CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"


def test_damaged_carried_texts() -> None:
    of = dice("carried")
    good = [b"avlab-rtc:" + base64.urlsafe_b64encode(zlib.compress(b"v=0\r\n" * n)) for n in (0, 1, 1000)]
    bomb = b"avlab-rtc:" + base64.urlsafe_b64encode(zlib.compress(bytes(64 * MIB)))

    def work() -> None:
        for _ in range(CASES):
            text = damaged(of.choice([*good, bomb] if of.randrange(50) == 0 else good), of, good)
            try:
                _unpack(text.decode("utf-8", "replace"))
            except MediaError:
                continue

    assert grown(work) < 50 * MIB
