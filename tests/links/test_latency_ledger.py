"""The latency ledger, beside pipelines whose truth is known: figures per hop, stamps of items, and who sets the pace."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from serving import served

import avlab
from avlab.flow.statistics import Result
from avlab.remote.config import RemoteExecutorConfig

NAP = 20.0  # ms
COUNT = 40


class Numbers(avlab.Node):
    def items(self) -> Iterator[int]:
        yield from range(COUNT)


class Plus(avlab.Node):
    def process(self, value: int) -> int:
        return value + 1


class Nap(avlab.Node):
    def process(self, value: int) -> int:
        time.sleep(NAP / 1000)
        return value


class NapSink(avlab.Node):
    produces = ()

    def process(self, value: int) -> None:
        time.sleep(NAP / 1000)


@pytest.fixture(scope="module", params=["local", "grpc"])
def where(request: pytest.FixtureRequest) -> Iterator[RemoteExecutorConfig]:
    if request.param == "local":
        yield RemoteExecutorConfig.from_url("local:")
        return
    with served() as (url, _):
        yield RemoteExecutorConfig.from_url(url)


def run(*nodes: Any) -> Result:
    return avlab.Pipeline([*nodes]).run(progress=False)


def rounded(milliseconds: float) -> float:
    """The least that a histogram may say of so many milliseconds: it is right to within an eighth."""
    return milliseconds * 7 / 8


def test_a_slow_node_is_named_and_items_wait_for_it_and_for_nothing_else() -> None:
    result = run(Numbers(), Plus(), Nap(), avlab.Collect())
    figures = result.statistics
    assert figures.bottleneck == "Nap"
    assert figures["Nap"].p50 >= rounded(NAP) and figures["Nap"].load > 0.8
    # The queue of 8 is full: whatever comes waits for eight naps. Plus shares the thread, whose queue it is.
    assert figures["Plus"].parts["waiting"][0] > 6 * NAP > 2 * figures["Collect"].parts["waiting"][0]
    hops = [stamp.hop for stamp in result["Collect"].items[-1].stamps]
    assert hops == ["Numbers", "Plus", "Nap"]
    for item in result["Collect"].items:
        times = [stamp.ns / 1e6 for stamp in item.stamps]
        assert times == sorted(times) and times[2] - times[1] >= NAP


def test_a_slow_sink_is_named_and_the_delay_lies_in_the_queue_before_it() -> None:
    figures = run(Numbers(), Plus(), NapSink()).statistics
    assert figures.bottleneck == "NapSink"
    waited = figures["Plus"].parts["waiting"][0] + figures["NapSink"].parts["waiting"][0]
    assert figures.latency[0] == pytest.approx(waited + NAP, rel=0.4)


def test_of_two_branches_the_slow_one_is_named() -> None:
    slow, quick = avlab.Collect(), avlab.Collect()
    result = (Numbers() >> avlab.tee(Nap() >> slow, Plus() >> quick)).run(progress=False)
    assert result.statistics.bottleneck == "Nap"
    assert [stamp.hop for stamp in slow.items[0].stamps] == ["Numbers", "Nap"]  # each branch has stamps of its own
    assert [stamp.hop for stamp in quick.items[0].stamps] == ["Numbers", "Plus"]


def test_what_waits_for_a_busy_worker_waits_there_and_is_not_on_its_way(where: RemoteExecutorConfig) -> None:
    result = run(Numbers(), Plus(), Nap().on(where), avlab.Collect())
    figures = result.statistics
    assert figures.bottleneck == "Nap"
    parts = figures["Nap"].parts
    assert parts["process"][0] >= NAP
    # All is sent at once, and each waits until those before it had their nap; only what is left is the way there and back.
    assert parts["queue"][0] == pytest.approx((COUNT - 1) / 2 * parts["process"][0], rel=0.4)
    assert parts["transfer"][0] < NAP / 2, parts
    for item in result["Collect"].items:
        hops = [stamp.hop for stamp in item.stamps]
        assert hops == ["Numbers", "Plus", *(f"Nap.{hop}" for hop in ("sent", "received", "started", "finished", "arrived"))]
        times = [stamp.ns / 1e6 for stamp in item.stamps]
        assert times[5] - times[4] >= NAP
        assert all(later >= earlier - 1 for earlier, later in pairwise(times)), times


def test_items_that_pass_a_slow_node_by_wait_there_too() -> None:
    class Slow(avlab.Node):
        def process(self, value: str) -> str:
            time.sleep(NAP / 1000)
            return value

    class Mixed(avlab.Node):
        def items(self) -> Iterator[avlab.Item]:
            for number in range(COUNT):
                yield avlab.Item(str(number), number, track="text", seq=number)
                yield avlab.Item(number, number, track="number", seq=number)

    result = run(Mixed(), Slow(), avlab.Collect())
    waited = {node: result.statistics[node].parts["waiting"][0] for node in ("Slow", "Collect")}
    assert waited["Slow"] > 2 * NAP and waited["Collect"] < waited["Slow"] / 2, waited
    assert [stamp.hop for stamp in result["Collect"].items[-1].stamps] == ["Mixed", "Slow"]
