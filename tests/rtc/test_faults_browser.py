"""From Python to Chromium and from Chromium to Python through bad networks. What came is judged, not what counters say.

Bounds are wide enough for a busy machine of two cores; `fault_figures.py` measures.
"""

import time

import pytest
from fault_camera import filmed
from fault_lab import Lab, outage, phase, viewed

NETWORKS = {"clean": {}, "10 %": {"loss": 0.1}, "±50 ms": {"jitter": 0.05}}


@pytest.fixture(scope="module")
def lab():
    lab = Lab()
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def seen(lab):
    """What a view has shown, the stretches of each network, the moment the outage was healed, and how many packets were lost before."""
    with viewed(lab) as (view, relay):
        spans = {name: phase(view, relay, faults, 4.0) for name, faults in NETWORKS.items()}
        lost = sum(each.forth.lost + each.back.lost for each in relay.statistics().values())
        healed = outage(view, relay, 10.0, 5.0)
        yield view.record(), spans, healed, lost


def test_a_clean_network_loses_nothing(seen):
    record, spans, _, _ = seen
    found = record.figures(*spans["clean"])
    assert found.pictures >= 0.8 and found.audio >= 0.97 and found.made_up <= 0.05, found


def test_ten_percent_loss_is_hidden(seen):
    record, spans, _, lost = seen
    assert lost > 20, "the relay was not on the way"
    found = record.figures(*spans["10 %"])
    assert found.pictures >= 0.6 and found.frozen <= 0.2 and found.audio >= 0.95 and found.made_up <= 0.08, found


def test_jitter_leaves_the_sound_whole(seen):
    record, spans, _, _ = seen
    found = record.figures(*spans["±50 ms"])
    assert found.audio >= 0.95 and found.pictures >= 0.5, found


def test_media_comes_back_after_an_outage(seen):
    record, _, healed, _ = seen
    assert record.back(healed) <= 5.0  # 3 s are the aim, on a machine with nothing else to do


def test_the_encoder_follows_a_network_that_becomes_narrow(lab):
    def sent(seconds: float) -> float:
        """Bits per second that the encoders make."""
        before, begin = view.outgoing.counts["bytes"], time.monotonic()
        view.wait(seconds)
        return (view.outgoing.counts["bytes"] - before) * 8 / (time.monotonic() - begin)

    def packets() -> tuple[int, int]:
        ways = [way for each in relay.statistics().values() for way in (each.forth, each.back)]
        return sum(way.lost for way in ways), sum(way.received for way in ways)

    with viewed(lab, noise=True) as (view, relay):
        view.wait(2)
        wide = sent(2)
        relay.change(bandwidth=50_000)
        view.wait(6)
        (before, all_before), begin = packets(), time.monotonic()
        narrow = sent(3)
        found = view.record().figures(begin, time.monotonic())
        lost, came = packets()
    assert before > 0, "the network was not too narrow"
    assert lost - before < 0.2 * (came - all_before), "it still is"
    assert narrow < 400_000 < wide, (narrow, wide)
    assert found.pictures >= 0.6 and found.frozen <= 0.3 and found.gap <= 0.2, found


def test_a_browser_offers_the_repair_of_sound_and_its_camera_comes_whole_at_ten_percent_loss(lab):
    with filmed(lab) as (camera, relay):
        begin, end = phase(camera, relay, {"loss": 0.1}, 5.0)
        lost = sum(each.forth.lost + each.back.lost for each in relay.statistics().values())
        record = camera.record()
    sound = camera.offer.partition("m=audio")[2].splitlines()
    opus = next(line for line in sound if "opus/48000" in line).split()[0].removeprefix("a=rtpmap:")
    assert {f"a=rtcp-fb:{opus} nack", f"a=rtcp-fb:{opus} rrtr"} <= set(sound)
    assert lost > 20, "the relay was not on the way"
    found = record.figures(begin, end)
    assert found.pictures >= 0.6 and found.frozen <= 0.3 and found.audio >= 0.95 and found.made_up <= 0.08, found
