"""Fates of packets: fixed by the seed, at the rates that were asked for."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import ConfigError
from avlab.testing.fate import HELD, QUEUE, Bottleneck, Fate, Faults

SHARES = st.floats(0, 1)
FAULTS = st.builds(Faults, SHARES, st.floats(1, 20), st.floats(0, 2), st.floats(0, 1), SHARES, SHARES)


def fates(faults: Faults, seed: int | str, count: int) -> list[tuple[float, ...]]:
    fate = Fate(faults, seed)
    return [fate.next() for _ in range(count)]


@given(FAULTS, st.integers())
def test_the_same_seed_decides_the_same(faults, seed):
    assert fates(faults, seed, 50) == fates(faults, seed, 50)


@given(FAULTS, st.integers())
def test_delays_stay_within_what_was_asked_for(faults, seed):
    middle = max(faults.delay, faults.jitter)
    for copies in fates(faults, seed, 50):
        assert len(copies) <= 2
        for delay in copies:
            assert 0 <= middle - faults.jitter <= delay + 1e-9
            assert delay <= middle + faults.jitter + HELD + 1e-9


@given(FAULTS, st.integers())
def test_other_faults_do_not_change_which_packets_are_lost(faults, seed):
    alone = fates(Faults(loss=faults.loss, burst=faults.burst), seed, 50)
    assert [not each for each in alone] == [not each for each in fates(faults, seed, 50)]


def test_seeds_and_directions_differ():
    faults = Faults(loss=0.5)
    made = [[bool(each) for each in fates(faults, seed, 100)] for seed in (1, 2, "1:forth", "1:back")]
    assert all(one != other for i, one in enumerate(made) for other in made[:i])


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("burst", [1, 5])
def test_losses_come_at_their_rate_and_in_their_lengths(loss, burst):
    lost = [not each for each in fates(Faults(loss, burst), 3, 100_000)]
    assert sum(lost) / len(lost) == pytest.approx(loss, rel=0.15)
    runs = [len(list(each)) for gone, each in groupby(lost) if gone]
    assert sum(runs) / len(runs) == pytest.approx(max(burst, 1 / (1 - loss)), rel=0.1)


@given(sizes=st.lists(st.integers(1, 1500), min_size=20, max_size=100), pause=st.floats(0, 0.05), bandwidth=st.floats(1e3, 1e6))
def test_a_bottleneck_is_never_faster_than_it_may_be_and_holds_back_for_a_bounded_time(sizes, pause, bandwidth):
    bottleneck, through = Bottleneck(), []
    for number, size in enumerate(sizes):
        now = number * pause
        if (later := bottleneck.passes(now, size, bandwidth)) is not None:
            assert later <= QUEUE + 1e-6 + size / bandwidth
            through.append((now + later, size))
    for (before, _), (after, size) in pairwise(through):
        assert after - before >= size / bandwidth - 1e-6
    assert Bottleneck().passes(5.0, 1500, 0.0) == 0.0


def test_all_and_nothing():
    assert set(fates(Faults(loss=1.0), 1, 100)) == {()}
    assert set(fates(Faults(), 1, 100)) == {(0.0,)}


def test_doubles_and_late_ones_come_at_their_rate():
    made = fates(Faults(reorder=0.1, duplicate=0.2), 1, 20_000)
    assert sum(len(each) == 2 for each in made) / len(made) == pytest.approx(0.2, rel=0.1)
    assert sum(each[0] == HELD for each in made) / len(made) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"loss": -0.1}, {"duplicate": 2}, {"delay": -1}, {"jitter": float("nan")}]
)
def test_what_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Faults(**wrong)
