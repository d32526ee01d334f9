"""Remote nodes in real pipelines, over the embedded executor and gRPC."""

import threading
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
import remote_objects as far
from serving import served

import avlab
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.nodes import RemoteExecutionNode, RemoteObjectExecutionNode, SerializedClassExecutorNode


@pytest.fixture(scope="module", params=["local", "grpc"])
def where(request) -> Iterator[RemoteExecutorConfig]:
    """Where the nodes run."""
    if request.param == "local":
        yield RemoteExecutorConfig.from_url("local:")
        return
    with served() as (url, _):
        yield RemoteExecutorConfig.from_url(url)


def run(*nodes: object) -> list[Item]:
    sink = avlab.Collect()
    avlab.Pipeline([*nodes, sink]).run(progress=False)
    return sink.items


def frames(count: int, width: int = 64, height: int = 48) -> list[Item]:
    made = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), number, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
        made.append(Item(frame, frame.pts, frame.time_base, "video", number))
    return made


def test_an_object_in_a_pipeline(where) -> None:
    items = run(range(200), RemoteObjectExecutionNode(far.Double(), where))
    assert [item.value for item in items] == [2 * n for n in range(200)]


def test_between_local_nodes_and_behind_another(where) -> None:
    class Add(Node):
        def process(self, value: int) -> int:
            return value + 1

    items = run(range(50), Add(), RemoteObjectExecutionNode(far.Double(), where), Add(),
                RemoteObjectExecutionNode(far.FailsAt(-1), where))  # fmt: skip
    assert [item.value for item in items] == [2 * (n + 1) + 1 for n in range(50)]


def test_node_on(where) -> None:
    class Scale(Node):
        factor: int = 3

        def process(self, value: int) -> int:
            return value * self.factor

    assert [item.value for item in run(range(9), Scale(factor=5).on(where))] == [5 * n for n in range(9)]


def test_frames_keep_their_time_and_other_types_flow_past(where) -> None:
    pictures = frames(30)
    sounds = [Item(f"sound {n}", n, Fraction(1, 25), "audio", n) for n in range(30)]
    mixed = [item for pair in zip(pictures, sounds, strict=True) for item in pair]

    class Mirror(far.Frames):
        def process(self, frame: av.VideoFrame) -> av.VideoFrame:
            return super().process(frame)

    items = run(mixed, RemoteObjectExecutionNode(Mirror(), where))
    video = [item for item in items if item.track == "video"]
    assert [(item.pts, item.time_base, item.seq) for item in video] == [(i.pts, i.time_base, i.seq) for i in pictures]
    assert [int(item.value.to_ndarray()[0, 0, 0]) for item in video] == list(range(30))
    assert [item.value for item in items if item.track == "audio"] == [item.value for item in sounds]


def test_a_registered_node_by_name(where) -> None:
    node = RemoteExecutionNode("Resize", {"width": 32}, where)
    items = run(frames(20), node)
    assert [(item.value.width, item.value.height, item.pts) for item in items] == [
        (32, 24, number * 3600) for number in range(20)
    ]
    assert node.tier
    assert node.statistics().outputs == 20
    with pytest.raises(avlab.ConfigError, match="widht"):
        run(frames(1), RemoteExecutionNode("Resize", {"widht": 32}, where))
    with pytest.raises(avlab.UnknownNode, match="Resize"):
        RemoteExecutionNode("Resise", {}, where)


def test_one_method_for_each_item(where) -> None:
    node = SerializedClassExecutorNode(far.Callee(), "increase_by", where)
    items = run([1, 2, 3], node)
    assert [item.value for item in items] == [1, 2, 3]  # each sees the object as it was packed
    with pytest.raises(ValueError, match="no 2"):
        run([1, 2, 3], SerializedClassExecutorNode(far.FailsAt(2), config=where))


def test_an_error_ends_the_pipeline_after_what_came_before(where) -> None:
    sink = avlab.Collect()
    with pytest.raises(ValueError, match="no 20") as caught:
        avlab.Pipeline([range(100), RemoteObjectExecutionNode(far.FailsAt(20), where), sink]).run(progress=False)
    assert [item.value for item in sink.items] == list(range(20))
    assert isinstance(caught.value, avlab.RemoteError)
    assert "item 20" in caught.value.remote_traceback


def test_a_death_ends_the_pipeline(where) -> None:
    sink = avlab.Collect()
    with pytest.raises(avlab.WorkerDied, match="exit code 7") as caught:
        avlab.Pipeline([range(100), RemoteObjectExecutionNode(far.Dies(), where), sink]).run(progress=False)
    assert [item.value for item in sink.items] == [0, 1, 2]
    assert caught.value.first_undelivered == 4


def test_limits_of_a_node(where) -> None:
    node = RemoteObjectExecutionNode(far.Sleeper(), where, item_timeout=0.4)
    with pytest.raises(avlab.LimitExceeded, match=r"limit of 0\.4 s"):
        run([0.0, 30.0], node)


def test_held_back_results_come_at_the_end(where) -> None:
    assert [item.value for item in run(range(10), RemoteObjectExecutionNode(far.Sum(), where))] == [45, "end"]


def test_an_endless_source_is_stopped(where) -> None:
    def numbers():
        number = 0
        while True:
            yield number
            number += 1

    reached = threading.Event()

    class Watch(Node):
        def process(self, value: int) -> None:
            if value >= 200:
                reached.set()

    running = avlab.Pipeline([numbers(), RemoteObjectExecutionNode(far.Double(), where), Watch()]).start()
    assert reached.wait(20)
    running.stop()


def test_a_parameter_changes_while_it_runs(where) -> None:
    go_on = threading.Event()

    def numbers():
        yield 1
        assert go_on.wait(20)
        yield 1

    node = RemoteObjectExecutionNode(far.Double(), where)
    first = threading.Event()
    values = []

    class Watch(Node):
        def process(self, value: int) -> None:
            values.append(value)
            first.set()

    running = avlab.Pipeline([numbers(), node, Watch()]).start()
    assert first.wait(20)
    node.set(factor=7)
    go_on.set()
    running.wait()
    assert values == [2, 7]


def test_a_node_runs_again(where) -> None:
    node = RemoteObjectExecutionNode(far.Counting(), where)
    for _ in range(3):
        assert [item.value for item in run(range(5), node)] == list(range(5))


def test_the_same_place_is_one_executor(where) -> None:
    from avlab.remote.connect import shared

    executor = shared(where)
    run(range(3), RemoteObjectExecutionNode(far.Double(), where), RemoteObjectExecutionNode(far.Double(), where))
    assert shared(where) is executor
    assert executor.describe().sessions == 0
