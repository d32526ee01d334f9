"""Connections that fall silent are replaced with the same tracks and times; closing is quick; nothing stays behind."""

import asyncio
import threading
import time
from pathlib import Path
from statistics import median

import pytest
from waiting import until

from avlab.core.errors import ConnectError, LinkClosed
from avlab.media.rtc import partner
from avlab.media.rtc.manager import WebRTCManager
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.reconnect import LOST, PATIENCE, STALLED, Backoff, Silence
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.server import SignalConfig, SignalServer
from avlab.media.sources import TestSource

CYCLES = 100


@pytest.fixture
def runtimes():
    runtimes = [MediaRuntime(), MediaRuntime()]
    yield runtimes
    for runtime in runtimes:
        runtime.close()


@pytest.fixture
def server(runtimes):
    with SignalServer(SignalConfig(port=0), runtime=runtimes[0]) as server:
        yield server


def swallow(lost: partner.Partner) -> None:
    """From now on this connection's packets go nowhere, as when a network cable is pulled."""

    async def swallow() -> None:
        for transport in lost._peer._transports():
            for protocol in transport.transport._connection._protocols:
                protocol.datagram_received = lambda *_: None

    lost._runtime.run(swallow(), 5)


def test_a_silent_connection_is_replaced_and_everything_goes_on(runtimes, server):
    asked = []

    def servers():
        asked.append(time.monotonic())
        return ()

    here = WebRTCManager(server.url, room="a", secret=server.secret, ice_servers=servers, runtime=runtimes[0])
    there = WebRTCManager(server.url, room="a", secret=server.secret, runtime=runtimes[1])
    first, second = here.wait(), there.wait()
    source = TestSource(size=(320, 180), realtime=True)
    source.open()
    showing = threading.Thread(target=lambda: [here.put(item) for item in source.items()])
    times, states = {"video": [], "audio": []}, []
    taking = threading.Thread(target=lambda: [times[item.track].append(item.time) for item in second.frames()])
    showing.start()
    taking.start()
    try:
        assert until(lambda: len(times["video"]) > 10 and len(times["audio"]) > 10)
        before = len(asked)
        swallow(first)
        swallow(second)
        cut = time.monotonic()
        while not second.reconnections and not first.reconnections and time.monotonic() < cut + 40:
            for state in (second.state,):
                if not states or states[-1] != state:
                    states.append(state)
            threading.Event().wait(0.01)
        healed = time.monotonic() - cut
        counts = {track: len(heard) for track, heard in times.items()}
        assert until(lambda: all(len(times[track]) > counts[track] + 20 for track in times))
        assert [s for s in states if s in ("stalled", "reconnecting")] == ["stalled", "reconnecting"]
        assert healed >= LOST - STALLED
        assert len(asked) > before  # credentials that live for minutes are asked for anew
        for heard in times.values():
            assert heard == sorted(set(heard)), "times go on increasing"
        second.send("over the new connection")
        assert first.receive(20).value == "over the new connection"
        assert first.state == second.state == "connected"
    finally:
        source.close()
        showing.join(10)
        here.close()
        there.close()
        taking.join(10)


@pytest.mark.parametrize("side", ["offers", "answers"])
def test_credentials_that_are_not_to_be_had_for_a_moment_end_nothing(runtimes, server, monkeypatch, side):
    monkeypatch.setattr(partner, "CONNECTING", 1.0)
    tries = []

    def servers():
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise OSError("the service that gives them is being restarted")
        return ()

    room = {"room": "a", "secret": server.secret, "media": False}
    options = [{"ice_servers": servers}, {}][:: 1 if side == "answers" else -1]  # who comes last makes the offer
    here, there = (WebRTCManager(server.url, runtime=r, **room, **o) for r, o in zip(runtimes, options, strict=True))
    try:
        here.wait().send("it works")
        assert there.wait().receive(20).value == "it works"
        assert len(tries) >= 2
    finally:
        here.close()
        there.close()


def test_a_new_offer_that_makes_no_sense_costs_its_sender_a_connection_and_no_more(runtimes, server):
    room = {"room": "a", "secret": server.secret, "media": False}
    here, there = (WebRTCManager(server.url, runtime=runtime, **room) for runtime in runtimes)
    try:
        first, second = here.wait(), there.wait()  # the second made the offer
        nonsense = {"kind": "offer", "generation": second._generation + 1, "sdp": "v=0\r\nm=video"}
        second._generation += 1
        runtimes[1].run(second._signal(nonsense), 5)
        assert until(lambda: second.reconnections == 1 and first.state == second.state == "connected")
        first.send("still here")
        assert second.receive(20).value == "still here"
    finally:
        here.close()
        there.close()


def test_signalling_that_fails_while_a_connection_is_to_be_renewed_is_tried_again(runtimes):
    failing = [ConnectError("not now"), LinkClosed("not yet")]
    asked, heard = [], asyncio.Event()

    async def signal(message):
        if failing:
            raise failing.pop()
        asked.append(message)
        heard.set()

    async def scenario():
        lost = partner.Partner("x", "script", runtimes[0], Peer, outgoing=None, sync="lips", signal=signal, offers=False)
        lost._peer = Peer()
        lost._lost(lost._peer, "The connection is lost.")
        async with asyncio.timeout(10):
            await heard.wait()
        await lost.aclose()

    runtimes[0].run(scenario(), 20)
    assert asked[0]["kind"] == "renew"


def test_without_a_server_a_lost_connection_ends_and_says_so(runtimes):
    here, there = (WebRTCManager(media=False, runtime=runtime) for runtime in runtimes)
    here.accept(there.answer(here.offer()))
    first, second = here.wait(), there.wait()
    first.send("here")
    assert second.receive(10).value == "here"  # its channels stand: before that only ICE notices a silence, after 30 s
    swallow(first)
    swallow(second)
    with pytest.raises(LinkClosed):
        first.receive(20)
    assert until(lambda: first.state == "closed" and "signalling server" in first.reason)
    here.close()
    there.close()


def test_closing_takes_half_a_second_at_most_on_both_sides(runtimes):
    def closing() -> tuple[float, float]:
        here, there = (WebRTCManager(runtime=runtime) for runtime in runtimes)
        here.accept(there.answer(here.offer()))
        first, second = here.wait(), there.wait()
        start = time.monotonic()
        first.close()
        closed = time.monotonic() - start
        assert until(lambda: second.state == "closed", 5)
        heard = time.monotonic() - start
        assert second.reason == "The other side has ended the connection."
        there.close()
        ended = time.monotonic() - start
        here.close()
        return closed, max(heard, ended)

    # A wait that is built in shows in each of them, what else the machine has to do only in some.
    here, there = (median(each) for each in zip(*(closing() for _ in range(5)), strict=True))
    print(f"closed after {here:.3f} s here, {there:.3f} s there")
    assert here <= 0.5 and there <= 0.5


def held(runtimes) -> tuple[int, int, int]:
    """Threads, descriptors, and tasks of the media loops."""

    async def tasks() -> int:
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - 1

    return (
        threading.active_count(),
        len(list(Path("/proc/self/fd").iterdir())),
        sum(runtime.run(tasks(), 5) for runtime in runtimes),
    )


def test_nothing_stays_behind(runtimes):
    def cycle() -> None:
        here, there = (WebRTCManager(runtime=runtime) for runtime in runtimes)
        try:
            here.accept(there.answer(here.offer()))
            here.wait().send("hello")
            assert there.wait().receive(20).value == "hello"
        finally:
            here.close()
            there.close()

    for _ in range(3):
        cycle()
    before = held(runtimes)
    for _ in range(CYCLES):
        cycle()
    assert until(
        lambda: held(runtimes) <= before or all(a <= b for a, b in zip(held(runtimes), before, strict=True)), 10
    ), (
        before,
        held(runtimes),
    )


def test_silence_counts_from_the_last_packet():
    silence = Silence(0.0)
    assert silence.seen(1.0, 5) == 0.0
    assert silence.seen(2.5, 5) == 1.5
    assert silence.seen(3.0, 6) == 0.0


def test_pauses_grow_and_end():
    backoff, now, pauses = Backoff(0.0), 0.0, []
    while (pause := backoff.pause(now)) is not None:
        pauses.append(pause)
        now += pause
    assert pauses[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert max(pauses) == 8.0 and now >= PATIENCE
