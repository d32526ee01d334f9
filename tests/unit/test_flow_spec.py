"""Pipelines as JSON, and nodes by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core import registry
from avlab.core.errors import ConfigError, UnknownNode
from avlab.core.node import Node
from avlab.core.registry import name_of, register_node, registered, registered_nodes
from avlab.flow.graph import Pipeline, tee
from avlab.flow.structure import Tee


class Blur(Node):
    radius: float = 1.0
    mode: Any = "fast"

    def process(self, value: Any) -> Any:
        return value


class Word(Node):
    text: str

    def process(self, value: Any) -> Any:
        return value


class Make(Node):
    count: int = 3

    def items(self):
        yield from range(self.count)


class Private(Node):
    def process(self, value: Any) -> Any:
        return value


@pytest.fixture(autouse=True, scope="module")
def names():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_own", {})
        for cls in (Blur, Word, Make):
            register_node(cls)
        yield


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NODES = st.builds(Blur, radius=st.floats(0, 9), mode=JSON) | st.builds(Word, text=st.text())
ROWS = st.recursive(
    st.lists(NODES, max_size=3),
    lambda inner: st.lists(NODES | st.lists(inner, min_size=1, max_size=3).map(lambda rows: tee(*rows)), max_size=3),
    max_leaves=6,
)


def described(row):
    return [
        [described(branch) for branch in element.branches] if isinstance(element, Tee) else repr(element)
        for element in row
    ]


@given(ROWS, st.integers(1, 20))
def test_round_trip(row, capacity):
    pipeline = Pipeline([Make(count=2), *row], capacity=capacity)
    spec = json.loads(json.dumps(pipeline.to_spec()))
    again = Pipeline.from_spec(spec)
    assert described(again.row) == described(pipeline.row)
    assert again.capacity == capacity
    assert again.to_spec() == spec


def test_the_format():
    pipeline = Make(count=5) >> tee(Blur(radius=2.5), []) >> Word("x")
    assert pipeline.to_spec() == {
        "version": 1,
        "nodes": [
            {"node": "Make", "config": {"count": 5}},
            {"tee": [[{"node": "Blur", "config": {"radius": 2.5}}], []]},
            {"node": "Word", "config": {"text": "x"}},
        ],
    }


def test_paths_become_text_and_tuples_lists():
    spec = Pipeline([Make(), Word(Path("a/b.mp4")), Blur(mode=(1, 2))]).to_spec()
    assert spec["nodes"][1]["config"] == {"text": "a/b.mp4"}
    assert spec["nodes"][2]["config"] == {"mode": [1, 2]}


@pytest.mark.parametrize("value", [object(), b"x", float("nan"), {1, 2}, Blur])
def test_parameters_that_json_cannot_carry(value):
    with pytest.raises(ConfigError, match=r"parameter 'mode' of Blur is .* which JSON cannot carry"):
        Pipeline([Make(), Blur(mode=value)]).to_spec()


def test_a_parameter_that_is_not_kept():
    class Forgets(Node):
        def __init__(self, size):
            super().__init__()

        def process(self, value: Any) -> Any: ...

    register_node(Forgets)
    with pytest.raises(ConfigError, match=r"Forgets does not keep its parameter 'size': set self.size"):
        Pipeline([Make(), Forgets(3)]).to_spec()


def test_unregistered_nodes():
    with pytest.raises(UnknownNode, match="Private is not registered"):
        Pipeline([Make(), Private()]).to_spec()
    with pytest.raises(UnknownNode, match="Iterated is not registered"):
        Pipeline([[1, 2], Blur()]).to_spec()


def within_tees(levels):
    node = {"node": "Blur"}
    for _ in range(levels):
        node = {"tee": [[node]]}
    return node


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ([], ConfigError, "is a mapping"),
        ({"nodes": []}, ConfigError, "version 1, not None"),
        ({"version": 2, "nodes": []}, ConfigError, "version 1, not 2"),
        ({"version": 1, "nodes": {}}, ConfigError, "must be a list"),
        ({"version": 1, "node": []}, ConfigError, "does not take 'node'; did you mean 'nodes'"),
        ({"version": 1, "nodes": ["Blur"]}, ConfigError, r"nodes\[0\] must be"),
        ({"version": 1, "nodes": [{}]}, ConfigError, r"nodes\[0\] needs a node name"),
        (
            {"version": 1, "nodes": [{"node": "Blurr"}]},
            UnknownNode,
            "no node is registered as 'Blurr'; did you mean Blur",
        ),
        ({"version": 1, "nodes": [{"node": "Blur", "konfig": {}}]}, ConfigError, "did you mean 'config'"),
        ({"version": 1, "nodes": [{"node": "Blur", "config": {"radios": 1}}]}, ConfigError, "did you mean 'radius'"),
        ({"version": 1, "nodes": [{"node": "Word"}]}, ConfigError, "needs parameter 'text'"),
        ({"version": 1, "nodes": [{"tee": []}]}, ConfigError, "a tee is a list of branches"),
        (
            {"version": 1, "nodes": [{"tee": [{"node": "Blur"}]}]},
            ConfigError,
            r"nodes\[0\]\.tee\[0\] .* must be a list",
        ),
        ({"version": 1, "nodes": [{"tee": [[]], "node": "Blur"}]}, ConfigError, "does not take 'node'"),
        ({"version": 1, "nodes": [{"node": "Blur", "remote": 5}]}, ConfigError, "URL 5 is no text"),
        ({"version": 1, "nodes": [], "capacity": 0}, ConfigError, "capacity=0"),
        ({"version": 1, "nodes": [], 3: 4}, ConfigError, "does not take 3"),
        ({"version": 1, "nodes": [within_tees(3000)]}, ConfigError, "more than 32 levels deep"),
        ({"version": 1, "nodes": [], "capacity": "8"}, ConfigError, "capacity='8'"),
    ],
)
def test_wrong_specs(spec, error, message):
    with pytest.raises(error, match=message):
        Pipeline.from_spec(spec)


@given(JSON)
def test_any_json_is_a_pipeline_or_a_config_error(spec):
    for each in (spec, {"version": 1, "nodes": spec}, {"version": 1, "nodes": [spec]}):
        try:
            Pipeline.from_spec(each)
        except ConfigError:
            continue


def test_remote_nodes_keep_their_url_and_nothing_else_is_lost():
    from avlab import RemoteExecutorConfig

    where = RemoteExecutorConfig.from_url("grpc://127.0.0.1:7411")
    spec = Pipeline([Make(), Blur(remote=where)]).to_spec()
    assert spec["nodes"][1] == {"node": "Blur", "config": {}, "remote": "grpc://127.0.0.1:7411"}
    assert Pipeline.from_spec(spec).row[1].remote == where
    by_text = Pipeline([Make(), Blur(remote="grpc://127.0.0.1:7411")])
    assert by_text.to_spec() == spec
    limited = RemoteExecutorConfig.from_url("local:", limits={"memory": "64M"})
    with pytest.raises(ConfigError, match="a spec holds only its URL"):
        Pipeline([Make(), Blur(remote=limited)]).to_spec()


def test_the_registry():
    assert {"Blur", "Word", "Make", "Resize"} <= set(registered_nodes())
    assert registered("Blur") is Blur
    assert name_of(registered("Resize")) == "Resize"
    register_node(Private, "Special")
    assert name_of(Private) == "Special"


def test_a_registered_node_that_does_not_load(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint("Broken", "no_such_module:Broken", "avlab.nodes")
    monkeypatch.setattr(registry, "_points", lambda: {"Broken": point})
    with pytest.raises(UnknownNode, match=r"'Broken' is registered as no_such_module:Broken, which does not load"):
        registered("Broken")
