"""Lost sound that is asked for again: which packets, until when, and what comes of it between real peers."""

import asyncio
import random
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossy_pair import Flashes, Network, Start, connect, peers
from simulated_network import SOUND, Fault, simulate

from avlab.media.rtc.jitter import CONCEALED, AudioBuffer, Packet
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.receive import Receiver
from avlab.media.rtc.repair import REACH, RETRIES, Repairs
from avlab.media.rtc.view_track import Resent
from avlab.media.runtime import MediaRuntime

STEP = 960
MOST = 0.15  # seconds that waiting for repairs may make sound later


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


def sound(number: int, arrival: float) -> Packet:
    return Packet(0, number, number * STEP, number * STEP, bytes([number % 256]), arrival, STEP)


def repairing() -> AudioBuffer:
    buffer = AudioBuffer(SOUND)
    buffer.repairs = Repairs()
    return buffer


def test_what_is_missing_is_asked_for_a_bounded_number_of_times_and_only_while_it_can_come_in_time():
    buffer = repairing()
    buffer.add(sound(0, 0.0))
    buffer.add(sound(2, 0.04))
    asked, now = [], 0.04
    while (due := buffer.repairs.due()) is not None:
        now = max(now, due)
        asked += [(number, now) for number in buffer.missing(now)]
    assert asked and len(asked) <= RETRIES and {number for number, _ in asked} == {1}
    assert all(at <= 0.02 + REACH for _, at in asked)
    assert buffer.counts.requests == len(asked)


def test_a_packet_that_was_only_overtaken_is_not_asked_for():
    buffer = repairing()
    for number in range(40):  # every other packet takes 30 ms longer
        buffer.add(sound(number, number * 0.02 + 0.03 * (number % 2)))
    assert buffer.delay.jitter > 0.02
    buffer.add(sound(41, 0.82))
    assert buffer.missing(0.82) == []
    buffer.add(sound(40, 0.83))
    assert buffer.missing(0.9) == [] and buffer.counts.requests == buffer.counts.repaired == 0


def test_repairs_that_take_too_long_are_not_waited_for_and_no_longer_asked_for():
    sound_, _ = simulate(Fault(loss=0.1, trip=0.25), 60)
    counts = sound_.buffer.counts
    assert sound_.buffer.delay.added <= 0.05
    assert counts.requests <= 0.3 * counts.lost


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("trip", [0.005, 0.05, 0.1])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
def test_repair_hides_loss_at_a_bounded_delay(loss, trip, jitter, record_property):
    heard, _ = simulate(Fault(loss=loss, trip=trip, jitter=jitter), 60)
    counts = heard.buffer.counts
    made_up = counts.concealed - int(CONCEALED * SOUND / STEP)  # after the last packet nothing comes: that is no loss
    concealed = made_up / (made_up + counts.played)
    record_property("concealed", f"{concealed:.1%}")
    record_property("added", f"{heard.buffer.delay.added * 1e3:.0f} ms")
    assert heard.buffer.delay.added <= MOST
    # Sound this far out of order leaves no time for repairs within the bound.
    assert concealed <= (1.5 * loss + 0.002 if jitter else max(0.02, 0.4 * loss))


def test_without_an_agreement_nothing_is_asked_for():
    buffer = AudioBuffer(SOUND)
    for number in (0, 1, 3, 4):
        buffer.add(sound(number, number * 0.02))
    assert buffer.missing(1.0) == [] and buffer.counts.requests == 0


def test_a_repair_that_was_the_late_packet_itself_is_waited_for_next_time():
    buffer = repairing()
    buffer.add(sound(0, 0.0))
    buffer.add(sound(2, 0.04))
    assert buffer.missing(0.04) == [1]
    buffer.add(sound(1, 0.4))
    before = buffer.delay.value
    buffer.add(sound(1, 0.42))  # the answer to the request
    assert buffer.delay.value > before + 0.2


@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 0, 2]), st.floats(0, 0.3)), min_size=1, max_size=120),
    st.integers(0, 9),
)
def test_repairs_keep_sound_in_order_whole_and_bounded(fate, seed):
    chance, buffer, out = random.Random(seed), repairing(), []
    events = sorted((n * 0.02 + late, n) for n, (times, late) in enumerate(fate) for _ in range(times))
    asked: dict[int, int] = {}
    while events:
        now, number = events.pop(0)
        out += buffer.pop(now)
        buffer.add(sound(number, now))
        for each in buffer.missing(now):
            asked[each] = asked.get(each, 0) + 1
            if chance.random() < 0.8:
                events = sorted([*events, (now + chance.random() * 0.2, each)])
    out += buffer.pop(1e6)
    assert all(later.ticks - earlier.ticks >= STEP for earlier, later in pairwise(out))
    assert all(frame.data is None or frame.data == bytes([frame.ticks // STEP % 256]) for frame in out)
    assert max(asked.values(), default=0) <= RETRIES
    assert sum(asked.values()) == buffer.counts.requests >= buffer.counts.repaired


async def heard(loss: float, repair: bool, seconds: float):
    """The statistics of sound between real peers."""
    async with peers(video=False) as (sender, there):
        receiver, passed = Receiver(there), asyncio.Event()
        await connect(sender, there, Network(1, loss), Network(2, loss), repair)
        asyncio.get_running_loop().call_later(seconds, passed.set)
        async for _ in receiver.items():
            if passed.is_set():
                break
        await receiver.close()
        return receiver.statistics().tracks["audio"]


@pytest.mark.parametrize(("loss", "most"), [(0.05, 0.04), (0.1, 0.08)])
def test_lost_sound_is_sent_again(runtime, loss, most, record_property):
    found = runtime.run(heard(loss, True, 8), 60)
    concealed = found.counts.concealed / (found.counts.concealed + found.counts.played)
    record_property("concealed", f"{concealed:.1%}")
    assert concealed <= most
    assert found.counts.repaired > 0 and found.delay <= MOST


def test_a_sender_that_does_not_agree_is_not_asked(runtime):
    found = runtime.run(heard(0.1, False, 2), 60)
    assert found.counts.lost > 0
    assert found.counts.requests == found.counts.repaired == 0


def test_offers_and_answers_agree_to_send_opus_again_where_the_other_side_does(runtime):
    async def scenario(strip: bool):
        first, second = Peer(), Peer()
        try:
            first.connection.addTransceiver("audio")
            offer = await first.offer()
            answer = await second.answer(offer.replace("a=rtcp-fb:96 nack\r\n", "") if strip else offer)
            return "a=rtcp-fb:96 nack\r\n" in offer, "a=rtcp-fb:96 nack\r\n" in answer
        finally:
            await first.close()
            await second.close()

    assert runtime.run(scenario(False), 30) == (True, True)
    assert runtime.run(scenario(True), 30) == (True, False)


def test_sound_is_heard_to_its_end(runtime):
    """What waits in the jitter buffer when the sender says goodbye is played, and then nothing is made up."""

    async def scenario():
        async with peers(video=False) as (sender, there):
            receiver, items = Receiver(there), []
            await connect(sender, there, Network(1), Network(2))
            async for item in receiver.items():
                items.append(item)
                if len(items) == 50:
                    await sender.close()  # the items end by themselves
            counts = receiver.statistics().tracks["audio"].counts
            await receiver.close()
            return items, counts

    items, counts = runtime.run(scenario(), 30)
    assert len(items) == counts.played + counts.concealed
    assert counts.received == counts.played + counts.late  # on a busy machine one may come after its time, and be made up then
    assert counts.concealed <= counts.late
    assert all(isinstance(item.value, av.AudioFrame) for item in items)
    assert np.abs(items[-1].value.to_ndarray()).max() > 0


def test_the_second_track_of_a_kind_is_received_between_peers(runtime):
    async def scenario():
        first, second = Peer(), Peer()
        start, seen = Start(), set()
        try:
            for _ in range(2):
                first.connection.addTrack(Flashes(start))
            receiver = Receiver(second.connection)
            await first.accept(await second.answer(await first.offer()))
            async for item in receiver.items():
                seen.add(item.track)
                if len(seen) == 2:
                    break
            await receiver.close()
            return seen
        finally:
            await first.close()
            await second.close()

    assert runtime.run(scenario(), 30) == {"video", "video2"}


@given(asked=st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 60)), max_size=60), limit=st.integers(0, 3_000_000))
def test_what_is_sent_again_in_any_second_is_a_share_of_what_the_other_side_can_take(asked, limit):
    resent, now, times = Resent(), 0.0, []
    for pause, count in asked:
        now += pause
        room = max(Resent.LEAST, int(limit * Resent.SHARE / Resent.PACKET)) - sum(time > now - 1 for time in times)
        granted = resent.within(limit, list(range(count)), now)
        assert granted == list(range(min(count, max(0, room))))
        times += [now] * len(granted)
