"""RTP time over wraps, new senders, jumps and drift."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avlab.media.rtc.jitter import AudioBuffer, Packet
from avlab.media.rtc.timeline import ALIGN, Drift, Origin, Timeline, Unwrapper, align

STEPS = st.lists(st.integers(-300, 20_000), min_size=1, max_size=200)


@given(bits=st.sampled_from([16, 32]), start=st.integers(0, (1 << 32) - 1), steps=STEPS)
def test_numbers_that_wrap_are_unwrapped(bits, start, steps):
    size, unwrap = 1 << bits, Unwrapper(bits)
    true = start % size
    assert unwrap(true) == true
    highest = true
    for step in steps:
        true = highest + step
        highest = max(highest, true)
        assert unwrap(true % size) == true


@given(sequence=st.integers(0, 65535), timestamp=st.integers(0, (1 << 32) - 1), seed=st.integers(0, 99))
def test_time_goes_on_over_wraps_reordering_and_duplicates(sequence, timestamp, seed):
    line, chance = Timeline(48000, Origin()), random.Random(seed)
    numbers = sorted(range(400), key=lambda number: number + chance.random() * 4)
    numbers = [number for number in numbers for _ in range(1 + (chance.random() < 0.1))]
    first = numbers[0]
    for at, number in enumerate(numbers):
        place = line.place(1, (sequence + number) & 0xFFFF, (timestamp + number * 960) & 0xFFFFFFFF, 5 + at * 0.02)
        assert place.segment == 0
        assert place.ticks == (number - first) * 960
        assert place.sequence - sequence == number - (0 if sequence + first < 65536 else 65536)


@given(changes=st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.floats(0, 30)), min_size=1, max_size=5))
def test_a_new_sender_carries_on_after_all_that_came_before_and_as_late_as_it_arrives(changes):
    line, arrival, last = Timeline(90000, Origin()), 100.0 - changes[0][1], -1
    for ssrc, (timestamp, pause) in enumerate(changes):
        arrival += pause
        for number in range(10):
            place = line.place(ssrc, number, (timestamp + number * 3000) & 0xFFFFFFFF, arrival)
            assert place.segment == ssrc
            assert place.ticks > last
            last = place.ticks
            arrival += 1 / 30
        assert abs(last / 90000 - (arrival - 1 / 30 - 100.0)) < 0.001


SENDER = st.tuples(
    st.sampled_from([0, 1, (1 << 32) - 1]),  # SSRC, perhaps that of the one before
    st.sampled_from([0, 65_500, 65_535]),  # sequence number: some wrap
    st.sampled_from([0, (1 << 32) - 9600, (1 << 32) - 1]) | st.integers(0, (1 << 32) - 1),  # timestamp
    st.floats(0, 12),  # seconds without anything before it
)


@settings(max_examples=50)
@given(senders=st.lists(SENDER, min_size=1, max_size=4), seed=st.integers(0, 999), loss=st.sampled_from([0, 0.1]))
def test_times_of_sound_only_increase_over_wraps_new_senders_loss_and_reordering(senders, seed, loss):
    line, buffer, chance, now = Timeline(48000, Origin()), AudioBuffer(48000), random.Random(seed), 50.0
    out, packets = [], []
    for ssrc, sequence, timestamp, pause in senders:
        now += pause
        for number in range(50):
            place = ssrc, (sequence + number) & 0xFFFF, (timestamp + 960 * number) & 0xFFFFFFFF
            packets += [(now + chance.random() * 0.05, *place)] * (chance.random() >= loss)
            now += 0.02
    for arrival, ssrc, sequence, timestamp in sorted(packets):
        out += buffer.pop(arrival - packets[0][0])
        if (place := line.place(ssrc, sequence, timestamp, arrival)) is not None:
            buffer.add(Packet(*place, b".", arrival - line._origin.arrival, 960))
    out += buffer.pop(1e6)
    assert all(b.ticks - a.ticks >= 480 for a, b in pairwise(out))  # where another sender begins, half a frame may be heard twice
    assert buffer.counts.played >= 30


def test_stragglers_of_the_former_sender_are_dropped():
    line = Timeline(48000, Origin())
    line.place(1, 0, 0, 0.0)
    line.place(2, 0, 7_000_000, 0.02)
    assert line.place(1, 1, 960, 0.03) is None
    assert line.place(2, 1, 7_000_960, 0.04).ticks == 960 * 2


def test_timestamps_that_jump_are_a_new_beginning():
    line = Timeline(48000, Origin())
    line.place(1, 0, 0, 0.0)
    jumped = line.place(1, 1, 480_000_000, 0.02)
    assert (jumped.segment, jumped.ticks) == (1, 960)
    # A sender that paused, and whose timestamps did not, is as late as it was.
    paused = line.place(1, 2, 480_000_960, 10.02)
    assert (paused.segment, paused.ticks) == (2, 480_960)


def test_an_outage_is_a_hole_in_time_and_nothing_else():
    line = Timeline(48000, Origin())
    line.place(1, 0, 0, 0.0)
    back = line.place(1, 500, 480_000, 10.0)
    assert (back.segment, back.sequence, back.ticks) == (0, 500, 480_000)
    asked_for_again = line.place(1, 1, 960, 10.01)
    assert (asked_for_again.segment, asked_for_again.sequence, asked_for_again.ticks) == (0, 1, 960)
    started_over = line.place(1, 40_000, 960, 10.02)
    assert (started_over.segment, started_over.ticks) == (1, 480_960)


def ntp(seconds: float) -> int:
    return int(seconds * (1 << 32))


@given(behind=st.floats(-2, 2), epoch=st.floats(10, 4e9))
def test_what_was_captured_together_gets_one_time(behind, epoch):
    origin = Origin()
    sound, picture = Timeline(48000, origin), Timeline(90000, origin)
    sound.place(1, 0, 1000, 10.0)
    picture.place(2, 0, 5000, 10.0 + max(0.0, behind))
    sound.report(1, ntp(epoch), 1000)
    assert align(sound, [picture]) == {}  # the picture was not reported yet
    picture.report(2, ntp(epoch + behind), 5000)
    assert sound.place(1, 1, 1960, 10.02).ticks == 960
    align(sound, [picture])
    assert abs(picture.capture - sound.capture) <= ALIGN + 1e-4
    moved = picture.place(2, 1, 8000, 10.1 + max(0.0, behind))
    assert abs(moved.ticks / 90000 - (behind + 3000 / 90000)) <= ALIGN + 1e-4


def test_reports_that_say_nothing_or_cannot_be_of_one_clock_move_nothing():
    origin = Origin()
    sound, picture = Timeline(48000, origin), Timeline(90000, origin)
    sound.place(1, 0, 0, 0.0)
    picture.place(2, 0, 0, 0.0)
    sound.report(1, 0, 0)
    assert sound.capture is None
    sound.report(1, ntp(1000), 0)
    picture.report(3, ntp(1000), 0)  # of nobody
    picture.report(2, ntp(5000), 0)
    assert align(sound, [picture]) == {}


def test_a_sender_whose_wall_clock_is_set_is_believed_at_once():
    line = Timeline(48000, Origin())
    line.place(1, 0, 0, 0.0)
    for second in range(5):
        line.report(1, ntp(1000 + second), second * 48000)
    assert line.capture == pytest.approx(1000)
    line.report(1, ntp(9000 + 5), 5 * 48000)
    assert line.capture == pytest.approx(9000)


@pytest.mark.parametrize("ppm", [-200, -50, 0, 50, 200])
@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.1])
def test_drift_is_told_from_jitter(ppm, jitter):
    drift, chance = Drift(), random.Random(3)
    for number in range(60 * 50):
        media = number * 0.02
        arrival = media / (1 + ppm * 1e-6) + chance.random() * jitter
        drift.add(arrival, arrival - media)
        if number < 9 * 50:
            assert drift.ppm is None
    assert drift.ppm == pytest.approx(ppm, abs=0.1 + 500 * jitter)
