"""Jitter buffers against every order of packets there is, and against networks that exist only as numbers."""

import random
from dataclasses import replace
from itertools import pairwise
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_network import SOUND, Fault, simulate

from avlab.media.rtc.delay import EARLY, LATE, Delay, in_step
from avlab.media.rtc.jitter import CONCEALED, MOST, AudioBuffer, Packet
from avlab.media.rtc.pictures import RETRIES, VideoBuffer

STEP = 960
SECONDS = 60
# For each packet of a stream: how often it comes (0: lost), and by how much it is late.
FATE = st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 0, 2]), st.floats(0, 0.3)), min_size=1, max_size=120)


def sound(number: int, arrival: float, segment: int = 0) -> Packet:
    return Packet(segment, number, number * STEP, number * STEP, bytes([number % 256]), arrival, STEP)


def part(sequence: int, picture: int, arrival: float, marker: bool, key: bool, data: bytes = b".") -> Packet:
    return Packet(0, sequence, picture, picture * 3000, data, arrival, 0, marker, key)


@given(FATE)
def test_sound_comes_in_order_without_overlap_and_nothing_is_played_twice(fate):
    buffer = AudioBuffer(SOUND)
    arrivals = sorted((n * 0.02 + late, n) for n, (times, late) in enumerate(fate) for _ in range(times))
    out = []
    for now, number in arrivals:
        out += buffer.pop(now)
        buffer.add(sound(number, now))
    out += buffer.pop(1e6)
    ticks = [frame.ticks for frame in out]
    assert all(later - earlier >= STEP for earlier, later in pairwise(ticks))
    assert all(frame.data is None or frame.data == bytes([frame.ticks // STEP % 256]) for frame in out)
    run = longest = 0
    for frame in out:
        run = run + 1 if frame.data is None else 0
        longest = max(longest, run)
    assert longest <= CONCEALED * SOUND / STEP
    counts, came = buffer.counts, {number for _, number in arrivals}
    assert counts.received == len(arrivals) == len(came) + counts.duplicates
    assert counts.played == sum(frame.data is not None for frame in out) <= len(came)
    assert counts.played + counts.late == len(came)
    assert counts.lost == (max(came) - min(came) + 1 - len(came) if came else 0)


@given(FATE)
def test_due_says_when_there_is_something_to_do(fate):
    buffer = AudioBuffer(SOUND)
    for now, number in sorted((n * 0.02 + late, n) for n, (times, late) in enumerate(fate) if times):
        while (due := buffer.due()) is not None and due <= now:
            before = buffer.counts.played + buffer.counts.concealed + buffer.counts.skipped, due
            buffer.pop(due)
            after = buffer.counts.played + buffer.counts.concealed + buffer.counts.skipped, buffer.due()
            assert before != after
        late = buffer.counts.late
        buffer.add(sound(number, now))
        assert buffer.due() is not None or buffer.counts.late > late


def test_silence_that_the_sender_did_not_send_is_not_lost():
    buffer = AudioBuffer(SOUND)
    buffer.add(sound(0, 0.0))
    buffer.add(Packet(0, 1, 48000, 48000, b"x", 0.01, STEP))  # the next packet, a second later in time
    assert [frame.ticks for frame in buffer.pop(1e6)][:2] == [0, 48000]


@st.composite
def streams(draw):
    """Parts of pictures with what happens to them: (arrival, packet)."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=40))
    keys = draw(st.sets(st.integers(0, len(sizes) - 1))) | {0}
    chance = random.Random(draw(st.integers(0, 999)))
    loss, late, sequence, made = draw(st.sampled_from([0, 0.02, 0.2])), draw(st.sampled_from([0, 0.05, 0.4])), 0, []
    for picture, size in enumerate(sizes):
        for index in range(size):
            arrival = picture / 30 + chance.random() * late
            packet = part(
                sequence, picture, arrival, index == size - 1, index == 0 and picture in keys, bytes([picture, index])
            )
            sequence += 1
            made += [packet] * (0 if chance.random() < loss else 1 + (chance.random() < 0.05))
    return sizes, keys, sorted(made, key=lambda packet: packet.arrival)


@given(streams())
def test_pictures_are_whole_in_order_and_never_after_a_hole_unless_key(stream):
    sizes, keys, packets = stream
    buffer, out = VideoBuffer(90000), []
    for packet in packets:
        out += buffer.pop(packet.arrival)
        buffer.add(packet)
        out += buffer.pop(packet.arrival)
    out += buffer.pop(packets[-1].arrival + 10 if packets else 0)
    numbers = [frame.data[0] for frame in out]
    assert numbers == sorted(set(numbers))
    for previous, number, frame in zip([-1, *numbers], numbers, out, strict=False):
        assert frame.data == bytes(value for index in range(sizes[number]) for value in (number, index))
        assert number == previous + 1 or number in keys
    ticks = [frame.ticks for frame in out]
    assert ticks == sorted(set(ticks))


def test_a_lost_part_is_asked_for_again_and_then_a_key_picture_is():
    buffer = VideoBuffer(90000)
    buffer.add(part(0, 0, 0.0, True, True))
    assert len(buffer.pop(0.0)) == 1
    buffer.add(part(2, 2, 0.05, True, False))
    asked, now = 0, 0.05
    while not buffer.wants_key(now):
        assert buffer.pop(now) == []
        asked += len(buffer.missing(now))
        now = buffer.due()
        assert now is not None and now < 2
    assert 1 <= asked <= RETRIES
    assert not buffer.wants_key(now + 0.1)
    assert buffer.wants_key(now + 0.5)  # it did not come: once more
    buffer.add(part(3, 3, now + 0.6, True, False))
    assert buffer.pop(now + 0.6) == []
    buffer.add(part(4, 4, now + 0.7, True, True))
    assert [frame.ticks for frame in buffer.pop(now + 0.7)] == [4 * 3000]
    assert buffer.counts.skipped == 1


def test_a_part_that_comes_in_time_repairs_the_picture():
    buffer = VideoBuffer(90000)
    buffer.add(part(0, 0, 0.0, False, True))
    buffer.add(part(2, 0, 0.0, True, False))
    assert buffer.pop(0.0) == []
    buffer.add(part(1, 0, 0.1, False, False))
    assert len(buffer.pop(0.1)) == 1
    assert not buffer.wants_key(0.1)


def test_repairs_over_a_long_way_are_waited_for_once_it_is_known_to_be_long():
    buffer, trip, out = VideoBuffer(90000), 0.25, []
    packets = [(n / 30 + (1 / 30 + trip if n % 15 == 7 else 0), part(n, n, 0.0, True, n % 30 == 0)) for n in range(300)]
    for now, packet in sorted(packets, key=lambda each: each[0]):
        while (due := buffer.due()) is not None and due < now:
            out += buffer.pop(due)
            buffer.missing(due)
            buffer.wants_key(due)
        buffer.add(replace(packet, arrival=now))
        out += buffer.pop(now)
    given = [frame.ticks // 3000 for frame in out]
    assert given[-200:] == list(range(100, 300))
    assert buffer.counts.skipped <= 3


def test_padding_fills_the_line_and_makes_no_picture():
    buffer = VideoBuffer(90000)
    buffer.add(part(0, 0, 0.0, True, True))
    buffer.add(part(1, 0, 0.0, False, False, b""))
    buffer.add(part(2, 1, 0.03, True, False))
    assert [frame.ticks for frame in buffer.pop(0.03)] == [0, 3000]


def test_lips_hold_back_the_earlier_track_and_only_as_far_as_is_noticed():
    assert in_step(0.05, 0.06) == (0.05, 0.06)
    sound_delay, picture_delay = in_step(0.05, 0.4)
    assert picture_delay == 0.4 and 0 < picture_delay - sound_delay < EARLY
    sound_delay, picture_delay = in_step(0.4, 0.05)
    assert sound_delay == 0.4 and 0 < sound_delay - picture_delay < LATE


def test_the_delay_rises_at_once_and_falls_slowly():
    delay = Delay()
    for number in range(500):
        delay.add(0.0, number * 0.02)
    calm = delay.value
    for number in range(20):
        delay.add(0.2, 10 + number * 0.02)
    assert delay.value >= calm + 0.2
    high = delay.value
    for number in range(1000):
        before = delay.value
        delay.add(0.0, 10.4 + number * 0.02)
        assert delay.value >= before - 0.02 * 0.02 - 1e-9
    assert delay.value == pytest.approx(calm) and high > calm


def skew(sound, picture) -> list[float]:
    """For each picture after 10 s, how much earlier the sound of the same moment was released, in seconds."""
    released = {frame.ticks // STEP: now - frame.ticks / SOUND for now, frame in sound.frames}
    pairs = [(now, frame.ticks / 90000) for now, frame in picture.frames if now > 10]
    return [now - time - released[at] for now, time in pairs if (at := int(time * SOUND) // STEP) in released]


NETWORKS = {
    "clean": Fault(),
    "1 % loss": Fault(loss=0.01),
    "5 % loss": Fault(loss=0.05),
    "10 % loss": Fault(loss=0.1),
    "30 ms jitter": Fault(jitter=0.03),
    "±50 ms jitter": Fault(jitter=0.1),
    "1 % loss, 30 ms jitter": Fault(loss=0.01, jitter=0.03),
    "bursts of 200 ms": Fault(burst=0.2),
    "+200 ppm": Fault(ppm=200, loss=0.01),
    "-200 ppm": Fault(ppm=-200, loss=0.01),
    "pictures 300 ms late": Fault(lag=0.3, jitter=0.03),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_figures_of_simulated_networks(name, record_property):
    fault = NETWORKS[name]
    heard, seen = simulate(fault, SECONDS, lips=True)
    counts, whole = heard.buffer.counts, SECONDS * SOUND // STEP
    made_up = counts.concealed - int(CONCEALED * SOUND / STEP)  # after the last packet nothing comes: that is no loss
    played = (counts.played + made_up) / whole
    steps = quantiles(skew(heard, seen), n=40)
    record_property("audio played", f"{played:.1%}, concealed {made_up / whole:.1%}")
    record_property("skew p2.5/p97.5 in ms", f"{steps[0] * 1e3:.0f}/{steps[-1] * 1e3:.0f}")
    record_property("added delay in ms", f"{heard.buffer.delay.added * 1e3:.0f}")
    assert played >= 0.99
    assert made_up / whole <= fault.loss * 1.5 + (0.03 if fault.burst else 0.002)
    assert steps[0] >= -LATE and steps[-1] <= EARLY
    assert seen.buffer.counts.played >= 0.99 * SECONDS * 30
    assert heard.buffer.delay.added <= 0.05 + 1.3 * fault.jitter + fault.burst
    if heard.line.drift.ppm is not None:
        assert heard.line.drift.ppm == pytest.approx(fault.ppm, abs=50)


@pytest.mark.parametrize("ppm", [200, -200])
def test_ten_minutes_of_clocks_that_differ_cost_nothing(ppm):
    heard, seen = simulate(Fault(ppm=ppm, jitter=0.02), 600, lips=True)
    counts, late = heard.buffer.counts, heard.lateness(after=10)
    assert (counts.played, counts.late, counts.lost, counts.skipped) == (600 * SOUND // STEP, 0, 0, 0)
    assert counts.concealed <= CONCEALED * SOUND / STEP  # after the last packet
    assert {b.ticks - a.ticks for (_, a), (_, b) in pairwise(heard.frames)} == {STEP}
    assert late[-1] - late[0] == pytest.approx(-590 * ppm * 1e-6, abs=0.03)  # delivery keeps the sender's pace
    assert heard.buffer.delay.added <= 0.06
    assert heard.line.drift.ppm == pytest.approx(ppm, abs=20)
    steps = quantiles(skew(heard, seen), n=40)
    assert steps[0] >= -LATE and steps[-1] <= EARLY


def test_packets_of_sound_that_overlap_are_not_played_twice():
    buffer = AudioBuffer(SOUND)
    for number in range(5):  # one time, five numbers: a broken sender, or a hostile one
        buffer.add(Packet(0, number, 0, 0, b".", 0.0, STEP))
    buffer.add(Packet(0, 5, STEP + 10, STEP + 10, b".", 0.0, STEP))
    ticks = [frame.ticks for frame in buffer.pop(0.08)]
    assert ticks == [0, STEP + 10]
    assert (buffer.counts.played, buffer.counts.late) == (2, 4)


def test_packets_of_one_moment_do_not_pile_up():
    buffer = AudioBuffer(SOUND)
    for number in range(10_000):
        buffer.add(Packet(0, number, SOUND, SOUND, b".", 0.0, STEP))
    assert len(buffer._waiting) <= MOST
    assert buffer.counts.late >= 10_000 - MOST


def looked_at(packets: list[Packet]) -> int:
    """How many packets a buffer looks at to find out that there is no whole picture."""

    class Counting(dict[int, Packet]):
        count = 0

        def get(self, key: int, default: object = None) -> object:
            self.count += 1
            return dict.get(self, key, default)

    buffer = VideoBuffer(90_000)
    buffer._packets = counting = Counting()
    for packet in packets:
        buffer.add(packet)
    counting.count = 0
    assert buffer.pop(1.0) == []
    return counting.count


def test_a_picture_that_begins_again_and_again_is_looked_through_once():
    endless = [part(number, 0, 0.0, marker=False, key=True) for number in range(1000)]
    assert looked_at(endless) <= 5000


def test_holes_that_a_sender_makes_up_are_not_kept():
    buffer = VideoBuffer(90_000)
    buffer.add(part(0, 0, 0.0, marker=True, key=True))
    asked = 0
    for number in range(1, 40):
        buffer.add(part(number * 500, 0, 0.0, marker=False, key=False))
        asked += len(buffer.missing(0.1))
    assert len(buffer._missing) <= 512
    assert asked <= 40 * 512
