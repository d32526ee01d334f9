"""One trace from a notebook's cell to the worker, over a server in a process of its own."""

import json
import os
import re
import subprocess
import sys

PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
"""
SPANS = "import json\nprint(json.dumps([json.loads(span.to_json()) for span in kept.get_finished_spans()]))"


def test_a_cell_its_client_the_executor_and_the_worker_are_one_trace(fresh_kernel):
    kernel = fresh_kernel
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0", "--warm", "1"]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            url = re.search(r"grpc://[\d.]+:\d+", server.stdout.readline())[0]
            kernel.run(PROVIDER, ok=True)
            kernel.run(f"%%remote --on {url}\ndef twice(x): return 2 * x", ok=True)
            kernel.run("kept.clear()\ntwice(1)", ok=True)
            kernel.run("1 / 0")
            kernel.run("%avlab stop", ok=True)
            near = json.loads(kernel.run(SPANS, ok=True).text())
        finally:
            server.terminate()
        far = objects(server.stdout.read())

    def ids(span):
        return span["context"]["trace_id"], span["context"]["span_id"]

    first = next(span for span in near if span["name"] == "avlab.call")
    cell = next(span for span in near if span["context"]["span_id"] == first["parent_id"])
    client = next(span for span in near if span["name"].endswith("/StreamObject"))
    server_side = next(span for span in far if span["parent_id"] == client["context"]["span_id"])
    worker = next(span for span in far if span["name"] == "avlab.worker")
    assert (cell["name"], cell["parent_id"]) == ("avlab.cell", None)
    assert client["parent_id"] == cell["context"]["span_id"]
    assert worker["parent_id"] == server_side["context"]["span_id"]
    assert {ids(span)[0] for span in (cell, first, client, server_side, worker)} == {ids(cell)[0]}
    failed = next(span for span in near if span["attributes"].get("error.type") == "ZeroDivisionError")
    assert failed["name"] == "avlab.cell"
    assert ids(failed)[0] != ids(cell)[0]


def objects(text: str) -> list[dict]:
    """The JSON objects that follow one another."""
    decoder, rest, found = json.JSONDecoder(), text[text.find("{") :], []
    while rest.startswith("{"):
        made, end = decoder.raw_decode(rest)
        found.append(made)
        rest = rest[end:].lstrip()
    return found
