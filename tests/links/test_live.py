"""Live delivery: the newest items, two under way, and every drop counted."""

import threading
import time
from collections.abc import Iterator

import pytest

import avlab
from avlab.core.errors import ConfigError
from avlab.core.item import Item
from avlab.remote.nodes import RemoteObjectExecutionNode

COUNT = 150


class Slow:
    """Takes five times as long as an item lasts."""

    def process(self, value: int) -> int:
        time.sleep(0.01)
        return value

    def twice(self, value: int) -> int:
        return 2 * value


class Source:
    """A camera, so to say."""

    live = True

    def __init__(self, count: int = COUNT) -> None:
        self.count = count

    def items(self) -> Iterator[int]:
        for number in range(self.count):
            time.sleep(0.002)
            yield number


def test_the_newest_item_is_next_and_drops_are_counted(executor) -> None:
    under_way = []
    with executor.open(Slow()) as session:

        def items() -> Iterator[int]:
            for number in Source().items():
                figures = session.statistics()
                under_way.append(figures.inputs - figures.outputs)
                yield number

        results = list(session.stream(items(), live=True))
        figures = session.statistics()
    assert results == sorted(set(results))
    assert results[-1] == COUNT - 1  # the last one is the newest for ever
    assert max(under_way) <= 2
    assert figures.dropped > 0
    assert len(results) + figures.dropped == COUNT
    assert figures.inputs == len(results) + 1  # and the end


def test_a_session_is_live_when_its_config_says_so(executor) -> None:
    with avlab.connect("inproc:", delivery="live") as live, live.open(Slow()) as session:
        assert len(list(session.stream(Source().items()))) + session.statistics().dropped == COUNT
        assert session.statistics().dropped > 0
        assert session.call("twice", 2) == 4  # calls are not dropped
        assert list(session.stream(list(range(20)), live=False)) == list(range(20))


def test_a_picture_never_drops_a_sound(executor) -> None:
    def items() -> Iterator[Item]:
        for number in range(60):
            time.sleep(0.002)
            yield Item(number, track="video" if number % 2 else "audio", seq=number)

    with executor.open(Slow()) as session:
        results = [(item.track, item.value) for item in session.stream(items(), live={"audio": 50})]
        assert [value for track, value in results if track == "audio"] == list(range(0, 60, 2))
        assert len(results) + session.statistics().dropped == 60


def test_what_the_source_raises_comes_after_what_came_before(executor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("unplugged")

    with executor.open(Slow()) as session:
        results = session.stream(items(), live=True)
        assert next(results) == 1
        with pytest.raises(RuntimeError, match="unplugged"):
            next(results)


def test_leaving_a_live_stream_ends_its_source(executor) -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from Source(100_000).items()
        finally:
            ended.set()

    with executor.open(Slow()) as session:
        results = session.stream(items(), live=True)
        next(results)
        results.close()
        assert ended.wait(20)
        assert session.call("twice", 2) == 4


def test_a_remote_node_behind_a_live_source_is_live() -> None:
    node = RemoteObjectExecutionNode(Slow(), "inproc:")
    assert node.live is None
    result = avlab.Pipeline([Source(), node, avlab.Collect()]).run()
    assert node.live is True
    hop = result.statistics["Slow"]
    values = result["Collect"].values
    assert values == sorted(set(values))
    assert hop.dropped > 0
    assert len(values) + hop.dropped == COUNT


def test_a_node_or_its_config_may_say_otherwise() -> None:
    reliable = avlab.RemoteExecutorConfig(protocol="inproc", delivery="reliable")
    assert RemoteObjectExecutionNode(Slow(), reliable).live is False
    assert RemoteObjectExecutionNode(Slow(), reliable, delivery="live").live is True
    with pytest.raises(ConfigError, match="delivery='maybe'"):
        RemoteObjectExecutionNode(Slow(), delivery="maybe")
    with pytest.raises(ConfigError, match="delivery='maybe'"):
        avlab.RemoteExecutorConfig(delivery="maybe")
