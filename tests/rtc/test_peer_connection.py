"""Two peers of this process: they connect, carry data, and both are closed at once."""

import asyncio
import time
from statistics import median

import pytest
from aioice.ice import get_host_addresses

from avlab.core.errors import ConnectError, MediaError
from avlab.media.rtc.peer import Peer
from avlab.media.runtime import MediaRuntime


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


async def pair(**options) -> tuple[Peer, Peer]:
    first, second = Peer(**options), Peer(**options)
    channel = first.connection.createDataChannel("talk")
    await first.accept(await second.answer(await first.offer()))
    await asyncio.gather(first.connected(), second.connected())
    assert channel.label == "talk"
    return first, second


def test_two_peers_connect_directly_and_close_on_both_sides_within_half_a_second(runtime):
    async def scenario():
        first, second = await pair()
        assert (first.state, first.path, first.reason) == ("connected", "direct", "Connected directly.")
        start = time.monotonic()
        await first.close()
        closed_here = time.monotonic() - start
        await second.closed()
        closed_there = time.monotonic() - start
        assert (first.state, second.state) == ("closed", "closed")
        await second.close()
        await first.close()
        return closed_here, closed_there

    closings = [runtime.run(scenario(), 20) for _ in range(5)]
    here, there = (median(each) for each in zip(*closings, strict=True))  # a loaded machine may be late now and then
    assert here <= 0.5 and there <= 0.5


def test_a_runtime_that_ends_before_a_peer_has_closed_leaves_no_socket(runtime, monkeypatch):
    async def scenario():
        first, second = await pair()
        monkeypatch.setattr(first.connection.sctp, "stop", asyncio.Event().wait)  # takes longer than anybody waits
        await first.close()
        await second.close()
        return [p.transport for each in first._transports() for p in each.transport._connection._protocols]

    sockets = runtime.run(scenario(), 20)
    assert sockets and not any(each.is_closing() for each in sockets)
    runtime.close()
    assert all(each.is_closing() for each in sockets)


def test_a_peer_that_waits_in_vain_says_so(runtime):
    async def scenario():
        peer = Peer()
        peer.connection.createDataChannel("talk")
        await peer.offer()
        try:
            with pytest.raises(ConnectError, match="Waiting for the other side"):
                await peer.connected(0.1)
        finally:
            await peer.close()

    runtime.run(scenario(), 20)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "v=0",
        "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF x\r\n",
        "v=0\r\n" + "a=candidate:" * 70,
        "v=0" * 100_000,
        None,
    ],
)
def test_a_description_that_is_none_is_an_error_of_ours(runtime, text):
    async def scenario():
        peer = Peer()
        try:
            with pytest.raises(MediaError):
                await peer.answer(text)
        finally:
            await peer.close()

    runtime.run(scenario(), 20)


def test_candidates_may_come_later_and_refused_ones_are_ignored(runtime):
    async def scenario():
        first, second = Peer(), Peer()
        first.connection.createDataChannel("talk")
        offer = await first.offer()
        lines = offer.split("\r\n")
        late = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate")]
        bare = [line for line in lines if not line.startswith(("a=candidate", "a=end-of-candidates"))]
        answer = await second.answer("\r\n".join(bare))
        await second.add_candidate({"candidate": "candidate:1 1 udp 1 abc.local 9 typ host", "sdpMLineIndex": 0})
        await second.add_candidate({"candidate": "candidate:1 1 udp 1 169.254.169.254 9 typ host", "sdpMLineIndex": 0})
        for text in late:
            await second.add_candidate({"candidate": text, "sdpMLineIndex": 0})
        await second.add_candidate(None)
        with pytest.raises(MediaError, match="candidate"):
            await second.add_candidate({"candidate": 5})
        await first.accept("\r\n".join(line for line in answer.split("\r\n") if "candidate" not in line))
        await asyncio.gather(first.connected(), second.connected())
        await asyncio.gather(first.close(), second.close())

    runtime.run(scenario(), 20)


def test_no_packet_goes_to_this_machine_itself_unless_that_is_allowed(runtime):
    """However the other side spells it, in its description or later: judged by who is knocked at."""

    async def scenario(loopback: bool) -> list[bool]:
        loop = asyncio.get_running_loop()
        own = next(each for each in get_host_addresses(use_ipv4=True, use_ipv6=False) if not each.startswith("127."))
        knocks = [Knocks() for _ in range(3)]
        for each, host in zip(knocks, (own, "127.0.0.1", "::1"), strict=True):
            await loop.create_datagram_endpoint(lambda each=each: each, local_addr=(host, 0))
        honest, four, six = (each.port for each in knocks)
        spellings = ["127.0.0.1", "::ffff:127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "0.0.0.0"]
        hostile = [f"candidate:9 1 udp 2130706431 {host} {four} typ host" for host in spellings]
        hostile += [f"candidate:9 1 udp 2130706430 {host} {six} typ host" for host in ("::1", "0:0:0:0:0:0:0:1", "::")]
        candidates = [*hostile, f"candidate:1 1 udp 1 {own} {honest} typ host"]  # it has the lowest priority: the last that is asked
        first, second = Peer(), Peer(loopback=loopback)
        first.connection.createDataChannel("talk")
        lines = [line for line in (await first.offer()).split("\r\n") if "candidate" not in line]
        await second.answer("\r\n".join([*lines[:-1], *(f"a={each}" for each in candidates[::2]), ""]))
        for each in candidates[1::2]:
            await second.add_candidate({"candidate": each, "sdpMLineIndex": 0})
        async with asyncio.timeout(10):
            await knocks[0].came.wait()
        for each in knocks:
            each.transport.close()
        await asyncio.gather(first.close(), second.close())
        return [each.came.is_set() for each in knocks]

    assert runtime.run(scenario(False), 20) == [True, False, False]
    assert runtime.run(scenario(True), 20)[:2] == [True, True]


class Knocks(asyncio.DatagramProtocol):
    """Whether anything has come to a socket."""

    def __init__(self) -> None:
        self.came = asyncio.Event()

    def connection_made(self, transport) -> None:
        self.transport, self.port = transport, transport.get_extra_info("sockname")[1]

    def datagram_received(self, data, addr) -> None:
        self.came.set()


def test_an_offer_has_all_candidates_and_no_public_server_is_ever_asked(runtime, monkeypatch):
    from aiortc import rtcicetransport

    def refuse(*_):
        raise AssertionError("a public STUN server would be asked")

    monkeypatch.setattr(rtcicetransport.RTCIceGatherer, "getDefaultIceServers", refuse)

    async def scenario():
        for options in ({}, {"ice_servers": []}, {"ice_servers": ()}):
            peer = Peer(**options)
            peer.connection.createDataChannel("talk")
            offer = await peer.offer()
            assert "typ host" in offer and "srflx" not in offer
            await peer.close()

    runtime.run(scenario(), 20)
