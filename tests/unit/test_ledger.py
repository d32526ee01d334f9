"""Where time goes: stamps of remote nodes on the clock here, the parts of a node, and who sets the pace."""

import random
import time
from typing import Any

import pytest

import avlab
from avlab.core.message import ItemMessage
from avlab.remote.statistics import Meter, percentile


class Network:
    """Trips to a worker whose clock is ahead, over a way whose delay varies."""

    def __init__(self, ahead: int, seed: int = 1) -> None:
        self.now, self.ahead, self.random = 10**9, ahead, random.Random(seed)
        self.meter = Meter(lambda: self.now)

    def trip(self, number: int) -> tuple[int, ...]:
        message = ItemMessage(input=number, codec="json")
        self.meter.sent(message)
        begun = self.now
        times = [begun]
        for delay in (self.way(), 1_000, 50_000, self.way()):
            self.now += delay
            times.append(self.now)
        output = ItemMessage(input=number, k=1, last=True, codec="json")
        output.stamps = tuple(t + self.ahead for t in times[1:4])
        self.meter.received(output)
        assert (output.stamps[0], output.stamps[4]) == (times[0], times[4])
        return tuple(shown - true for shown, true in zip(output.stamps, times, strict=True))

    def way(self) -> int:
        return 100_000 + int(self.random.expovariate(1 / 2_000_000))


@pytest.mark.parametrize("ahead", [0, 5 * 10**12, -7 * 10**9])
def test_stamps_of_a_worker_are_told_on_the_clock_here(ahead: int) -> None:
    network = Network(ahead)
    errors = [max(map(abs, network.trip(n))) for n in range(1, 200)]
    assert max(errors[20:]) < 1_500_000  # half the shortest of sixteen transfers, not half of any
    assert network.meter.busy == 199 * 50_000
    assert set(network.meter.hops()) == {"transfer", "queue", "process"}


def test_a_busy_worker_that_cannot_say_when_an_input_came_makes_no_transfer_of_its_work() -> None:
    network = Network(ahead=10**9)
    for number in range(1, 9):
        network.trip(number)
    offset, times = network.meter.offset, []
    for number in range(9, 99):
        message = ItemMessage(input=number, codec="json")
        network.meter.sent(message)
        started = network.now + 20_000_000  # the worker has other work for so long
        network.now = started + 50_000 + 100_000
        output = ItemMessage(input=number, k=1, last=True, codec="json")
        output.stamps = (started + network.ahead, started + 50_000 + network.ahead)
        network.meter.received(output)
        times.append(output.stamps)
    assert abs(network.meter.offset - offset) < 100_000
    assert all(list(each) == sorted(each) for each in times)
    hops = network.meter.hops()
    assert hops["queue"].p50 > 17 and hops["transfer"].p50 < 3


class Slow(avlab.Node):
    def process(self, value: int) -> int:
        end = time.monotonic() + 0.004
        while time.monotonic() < end:
            pass
        return value


class Quick(avlab.Node):
    def process(self, value: int) -> int:
        return value


class Numbers(avlab.Node):
    def items(self) -> Any:
        yield from range(20)


@pytest.mark.parametrize("nodes", [[Quick(), Slow()], [Slow(), Quick()]])
def test_statistics_name_the_node_that_sets_the_pace(nodes: list[Any]) -> None:
    result = avlab.Pipeline([Numbers(), *nodes, avlab.Collect()]).run(progress=False)
    assert result.statistics.bottleneck == "Slow"
    assert result.statistics["Slow"].load > result.statistics["Quick"].load
    assert "Slow sets the pace" in str(result)


def test_a_remote_node_shows_its_parts_and_stamps_its_items() -> None:
    pipeline = avlab.Pipeline([Numbers(), Quick().on("inproc:"), avlab.Collect()])
    result = pipeline.run(progress=False)
    assert set(result.statistics["Quick"].parts) == {"waiting", "transfer", "queue", "process"}
    assert "· process" in str(result)
    for item in result["Collect"].items:
        hops, times = zip(*item.stamps, strict=True)
        assert hops == ("Numbers", *(f"Quick.{hop}" for hop in ("sent", "received", "started", "finished", "arrived")))
        assert times[1] <= times[5]


def test_nothing_sets_the_pace_of_a_run_without_items() -> None:
    class Nothing(avlab.Node):
        def items(self) -> Any:
            return iter(())

    assert avlab.Pipeline([Nothing(), avlab.Collect()]).run(progress=False).statistics["Collect"].load == 0


@pytest.mark.parametrize(
    ("count", "fraction", "rank"), [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (20, 0.95, 19), (21, 0.95, 20), (100, 0.95, 95), (5, 1.0, 5)]
)
def test_a_percentile_is_the_value_of_its_nearest_rank(count, fraction, rank) -> None:
    assert percentile([*range(count, 0, -1)], fraction) == rank
