"""Two WebRTC peers whose packets all go through relays."""

import asyncio

import pytest

from avlab.media.rtc.peer import Peer
from avlab.testing.between import PeerRelay

PATIENCE = 20.0  # seconds


async def joined(relay, expose_both):
    """Two connected peers with a DataChannel, and what the second one hears."""
    first, second = Peer(), Peer()
    channel = first.connection.createDataChannel("words")
    heard, opened = asyncio.Queue(100), asyncio.Event()
    channel.on("open", opened.set)
    second.connection.on("datachannel", lambda made: made.on("message", heard.put_nowait))
    offer = relay.expose(await first.offer())
    answer = await second.answer(offer)
    await first.accept(relay.expose(answer) if expose_both else relay.hide(answer))
    await asyncio.gather(first.connected(PATIENCE), second.connected(PATIENCE))
    async with asyncio.timeout(PATIENCE):
        await opened.wait()
    return first, second, channel, heard


def addresses(peer):
    """Where a peer itself can be reached."""
    lines = [line.split() for line in peer.connection.localDescription.sdp.splitlines() if "a=candidate" in line]
    return {(words[4], int(words[5])) for words in lines}


@pytest.mark.parametrize("expose_both", [True, False])
def test_all_packets_go_through_the_relay(expose_both):
    async def main():
        with PeerRelay(seed=1, loss=0.02) as relay:
            first, second, channel, heard = await joined(relay, expose_both)
            try:
                for number in range(100):
                    channel.send(str(number))
                async with asyncio.timeout(PATIENCE):
                    assert [int(await heard.get()) for _ in range(100)] == list(range(100))
                remote = {pair.remote_addr for peer in (first, second) for pair in peer._pairs()}
                assert remote and not remote & (addresses(first) | addresses(second))
                relay.cut()
                channel.send("through")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await heard.get()
                relay.heal()
                async with asyncio.timeout(PATIENCE):
                    assert await heard.get() == "through"
                assert sum(each.forth.cut + each.back.cut for each in relay.statistics().values()) > 0
            finally:
                await asyncio.gather(first.close(), second.close())

    asyncio.run(main())
