"""The measure itself: what it says about sound of which everything is known."""

import numpy as np
import pytest
from telling_sound import RATE, Heard, second, wrapped

BLOCK = 960


@pytest.fixture
def sound():
    return np.tile(second(), 10) / 32768


def test_sound_that_came_whole_is_whole(sound):
    heard = Heard.of(sound, start=3.25)
    late = heard.lateness()
    assert np.abs(wrapped(late[~np.isnan(late)] - 0.25)).max() < 0.001
    assert (heard.made_up(), heard.silent.mean(), heard.longest_silence()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_repeated_blocks_are_found(sound, share):
    blocks = sound.reshape(-1, BLOCK)
    repeated = np.flatnonzero(np.random.default_rng(1).random(len(blocks) - 1) < share) + 1
    for each in repeated:
        blocks[each] = blocks[each - 1]
    assert Heard.of(sound).made_up() == pytest.approx(len(repeated) / len(blocks), rel=0.5)


def test_silence_is_measured(sound):
    sound[RATE : RATE + RATE // 5] = 0
    heard = Heard.of(sound)
    assert heard.longest_silence() == pytest.approx(0.2, abs=0.03)
    assert heard.silent.mean() == pytest.approx(0.02, abs=0.003)


def test_a_buffer_that_moves_once_makes_nothing_up(sound):
    moved = np.concatenate([sound[: 5 * RATE], sound[5 * RATE - RATE // 10 :]])
    assert Heard.of(moved).made_up() <= 0.02


def test_parts_that_begin_later_are_heard_later(sound):
    starts = np.arange(10) + np.where(np.arange(10) < 5, 0.0, 0.2)
    heard = Heard.of(sound, starts)
    for begin, late in ((0.5, 0.0), (5.7, 0.2)):
        found = heard.between(begin, begin + 4).lateness()
        assert np.median(wrapped(found[~np.isnan(found)] - late)) == pytest.approx(0, abs=0.001)
