"""A short soak; ``make soak`` is the long one."""

import os

from soak import soak

SECONDS = float(os.environ.get("AVLAB_SOAK", "60"))


def test_a_minute_of_trouble_loses_doubles_and_reorders_nothing() -> None:
    tallies, grown, faults = soak(SECONDS, seed=11)
    for tally in tallies:
        assert tally.errors == []
        assert (tally.lost, tally.duplicated, tally.reordered) == (0, 0, 0)
        assert tally.results
    assert sum(faults.values()) > SECONDS / 10
    assert grown < 1024  # KiB a second: one forgotten frame in each stream would be more
