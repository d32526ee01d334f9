"""Traces: one from the cell over the client and the executor to the worker, and none where nobody wants them."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from avlab_executor.exporting import export_traces
from avlab_executor.server import Server, ServerConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from remote_objects import Callee
from serving import served, until

import avlab
from avlab.core.errors import ConfigError, Denied
from avlab.remote import tracing

DESCRIBE, STREAM, EXECUTE = (f"avlab.v1.Executor/{name}" for name in ("Describe", "StreamObject", "ExecuteObject"))
KEPT = InMemorySpanExporter()


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """This process's own; OpenTelemetry lets it be set once."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(KEPT))
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider):
    """The spans that have ended since, by name."""
    KEPT.clear()

    def ended(name: str, count: int = 1) -> list[ReadableSpan]:
        assert until(lambda: len([s for s in KEPT.get_finished_spans() if s.name == name]) >= count), name
        return [s for s in KEPT.get_finished_spans() if s.name == name]

    return ended


@pytest.fixture(scope="module")
def server(provider) -> Iterator[Server]:
    with Server(ServerConfig(port=0, warm=1, token="the-token")) as made:
        yield made


@pytest.fixture
def executor(server) -> Iterator[avlab.Executor]:
    with avlab.connect(f"grpc://127.0.0.1:{server.port}", auth="the-token") as made:
        yield made


def of_kind(found: list[ReadableSpan], kind: str) -> ReadableSpan:
    (one,) = [span for span in found if span.kind is getattr(trace.SpanKind, kind)]
    return one


def test_a_session_is_one_trace_from_the_cell_to_the_worker(executor, server, spans) -> None:
    with trace.get_tracer("test").start_as_current_span("cell") as cell, executor.open(Callee()) as session:
        assert session.call("same", b"payload") == b"payload"
    (worker,), (call,) = spans("avlab.worker"), spans("avlab.call")
    client, far = (of_kind(spans(STREAM, 2), kind) for kind in ("CLIENT", "SERVER"))
    chain = [cell, client, far, worker]
    assert len({span.get_span_context().trace_id for span in (*chain, call)}) == 1
    assert [span.parent.span_id for span in (*chain[1:], call)] == [
        span.get_span_context().span_id for span in (*chain[:-1], cell)
    ]
    assert client.attributes["rpc.system.name"] == far.attributes["rpc.system.name"] == "grpc"
    assert client.attributes["rpc.method"] == STREAM
    assert (client.attributes["server.address"], client.attributes["server.port"]) == ("127.0.0.1", server.port)
    assert far.attributes["avlab.tenant"] == "default"
    assert worker.attributes["avlab.session"] == call.attributes["avlab.session"] == session.label
    assert worker.attributes["avlab.tier"] == server.tier
    assert (worker.attributes["avlab.items.in"], worker.attributes["avlab.items.out"]) == (1, 1)
    assert worker.attributes["avlab.cpu_seconds"] > 0
    assert all(span.status.is_ok or span.status.is_unset for span in chain)


def test_a_call_of_one_round_trip_is_traced_too(executor, spans) -> None:
    assert executor.execute(Callee(), "add", 1) == 2
    client, far = (of_kind(spans(EXECUTE, 2), kind) for kind in ("CLIENT", "SERVER"))
    assert far.parent.span_id == client.get_span_context().span_id
    assert client.attributes["rpc.response.status_code"] == far.attributes["rpc.response.status_code"] == "OK"
    assert spans("avlab.worker")[0].parent.span_id == far.get_span_context().span_id


def test_errors_are_named_and_nothing_secret_is_shown(server, executor, spans) -> None:
    with pytest.raises(Denied):
        avlab.connect(f"grpc://127.0.0.1:{server.port}", auth="a-guess")
    client, far = (of_kind(spans(DESCRIBE, 2), kind) for kind in ("CLIENT", "SERVER"))
    assert (client.status.status_code, client.attributes["error.type"]) == (trace.StatusCode.ERROR, "Denied")
    assert far.attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert far.status.status_code is trace.StatusCode.UNSET  # the caller's fault, not the server's
    with executor.open(Callee()) as session, pytest.raises(ValueError):
        session.call("fail", "ValueError", "a secret text")
    assert spans("avlab.call")[0].attributes["error.type"] == "RemoteError"
    spans("avlab.worker")
    shown = " ".join(span.to_json() for span in KEPT.get_finished_spans())
    for secret in ("a secret text", "the-token", "a-guess", session._opened.session):
        assert secret not in shown


@pytest.mark.parametrize("told", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "1" * 5000])
def test_what_is_no_parent_is_ignored(spans, told) -> None:
    made = tracing.start("it", "SERVER", headers={"traceparent": told, "tracestate": "x" * 5000})
    made.end()
    made.end()
    (span,) = spans("it")
    assert span.parent is None


def test_texts_of_attributes_are_bounded(spans) -> None:
    made = tracing.start("it")
    made.note(avlab__text="x" * 10_000)
    made.end()
    assert len(spans("it")[0].attributes["avlab.text"]) == 512


NOBODY = """
import sys
import avlab
with avlab.connect() as executor:
    executor.open(len).close()
assert "opentelemetry" not in sys.modules, "it is loaded though nobody asked for it"
"""


IMPORTED = """
import opentelemetry.trace
from avlab.remote import tracing
assert not tracing.enabled()
assert tracing.start("it") is None
with tracing.tracing("it") as trace:
    assert trace is None
"""


def test_who_has_imported_it_and_set_nothing_up_pays_nothing() -> None:
    subprocess.run([sys.executable, "-c", IMPORTED], check=True, timeout=60)


def test_who_does_not_use_it_does_not_load_it() -> None:
    subprocess.run([sys.executable, "-c", NOBODY], check=True, timeout=60)


def test_a_server_exports_what_the_standard_variable_says() -> None:
    with served(OTEL_TRACES_EXPORTER="console") as (url, process):
        with avlab.connect(url) as executor:
            assert executor.execute(Callee(), "add", 1) == 2
        process.terminate()
        shown = process.stdout.read()
    found = [json.loads(part) for part in _objects(shown)]
    assert {"avlab.worker", DESCRIBE, EXECUTE} <= {span["name"] for span in found}
    assert {span["resource"]["attributes"]["service.name"] for span in found} == {"avlab-executor"}


def _objects(text: str) -> Iterator[str]:
    """The JSON objects that follow one another."""
    decoder, rest = json.JSONDecoder(), text[text.index("{") :]
    while rest.startswith("{"):
        _, end = decoder.raw_decode(rest)
        yield rest[:end]
        rest = rest[end:].lstrip()


def test_an_exporter_that_is_missing_is_named(monkeypatch) -> None:
    export_traces({})()
    export_traces({"OTEL_TRACES_EXPORTER": "none"})()
    with pytest.raises(ConfigError, match="OTEL_TRACES_EXPORTER=unheard: no such exporter"):
        export_traces({"OTEL_TRACES_EXPORTER": "unheard"})
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'avlab\[operation\]'"):
        export_traces({"OTEL_TRACES_EXPORTER": "console"})
