"""From Python to Chromium through bad networks. What came is judged, not what counters say.

Bounds are wide enough for a busy machine of two cores; `fault_figures.py` measures.
"""

import pytest
from fault_lab import Lab, outage, phase, viewed

NETWORKS = {"clean": {}, "5 %": {"loss": 0.05}, "±50 ms": {"jitter": 0.05}}


@pytest.fixture(scope="module")
def seen():
    """What came, the stretches of each network, the moment the outage was healed, and how many packets were lost before."""
    lab = Lab()
    try:
        with viewed(lab) as (view, relay):
            spans = {name: phase(view, relay, faults, 4.0) for name, faults in NETWORKS.items()}
            lost = sum(each.forth.lost + each.back.lost for each in relay.statistics().values())
            healed = outage(view, relay, 10.0, 6.0)
            yield view.record(), spans, healed, lost
    finally:
        lab.close()


def test_a_clean_network_loses_nothing(seen):
    record, spans, _, _ = seen
    found = record.figures(*spans["clean"])
    assert found.pictures >= 0.8 and found.audio >= 0.97 and found.made_up <= 0.05, found


def test_five_percent_loss_is_hidden(seen):
    record, spans, _, lost = seen
    assert lost > 10, "the relay was not on the way"
    found = record.figures(*spans["5 %"])
    assert found.pictures >= 0.6 and found.frozen <= 0.3 and found.audio >= 0.95, found


def test_jitter_leaves_the_sound_whole(seen):
    record, spans, _, _ = seen
    found = record.figures(*spans["±50 ms"])
    assert found.audio >= 0.95 and found.pictures >= 0.5, found


def test_media_comes_back_after_an_outage(seen):
    record, _, healed, _ = seen
    assert record.back(healed) <= 5.0  # 3 s are the aim, on a machine with nothing else to do
