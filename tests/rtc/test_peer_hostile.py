"""Descriptions from a hostile side: each is answered or refused, soon, and leaves nothing behind."""

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avlab.core.errors import MediaError
from avlab.media.rtc.peer import Peer
from avlab.media.runtime import MediaRuntime


@pytest.fixture(scope="module")
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def offer(runtime) -> list[str]:
    """The lines of a real offer with pictures, sound and a channel."""

    async def make() -> str:
        peer = Peer()
        peer.connection.addTransceiver("video")
        peer.connection.addTransceiver("audio")
        peer.connection.createDataChannel("talk")
        text = await peer.offer()
        await peer.close()
        return text

    return runtime.run(make(), 20).split("\r\n")


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """aiortc's own tasks complain in the log of the nonsense that they are given."""
    log = logging.getLogger("asyncio")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


async def answered(text: str) -> bool:
    peer = Peer(loopback=False)
    try:
        async with asyncio.timeout(5):
            return bool(await peer.answer(text))
    except MediaError:
        return False
    finally:
        await peer.close()


change = st.tuples(
    st.sampled_from(["drop", "double", "cut", "swap", "number", "text"]), st.integers(0, 400), st.text(max_size=20)
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(change, min_size=1, max_size=4))
def test_damaged_descriptions_are_answered_or_refused(runtime, offer, changes):
    lines = list(offer)
    for kind, place, text in changes:
        at = place % len(lines)
        if kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "cut":
            lines[at] = lines[at][: place % (len(lines[at]) + 1)]
        elif kind == "swap":
            lines[at], lines[-1] = lines[-1], lines[at]
        elif kind == "number":
            lines[at] = lines[at].replace("1", str(place * 10**9)).replace("0", "-")
        else:
            lines[at] += text
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # aiortc's own tasks complain of the nonsense they are given
    runtime.run(answered("\r\n".join(lines)), 20)


def test_a_whole_offer_is_answered(runtime, offer):
    assert runtime.run(answered("\r\n".join(offer)), 20)
