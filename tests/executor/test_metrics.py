"""Figures for Prometheus: what they count, who may read them, and that nobody can make labels of his own."""

import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
from avlab_executor.environments.policy import Policy
from avlab_executor.server import Server, ServerConfig
from avlab_executor.tenants import Quota, Tenant
from prometheus_client.parser import text_string_to_metric_families
from remote_objects import Callee
from serving import certificate, until
from wheelhouse import FOLDER

import avlab
from avlab import _pb as pb
from avlab.core.errors import ConfigError, Denied, EnvironmentFailed

LOOPBACK = ("127.0.0.1", 0)
TENANTS = (
    Tenant("alice", ("a-token",), Quota(sessions=1, bytes=1 << 30)),
    Tenant("ops", ("o-token",), operator=True),
)


def get(url: str, token: str | None = "o-token", **options) -> tuple[int, str]:
    """Status and body of a GET."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20, **options) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figures(server: Server) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    status, text = get(f"http://127.0.0.1:{server.metrics.port}/metrics")
    assert status == 200
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ServerConfig(port=0, warm=1, tenants=TENANTS, metrics=LOOPBACK)) as made:
        yield made


@pytest.fixture
def alice(server) -> Iterator[avlab.Executor]:
    with avlab.connect(f"grpc://127.0.0.1:{server.port}", auth="a-token") as executor:
        yield executor


def test_the_figures_of_a_session(server, alice) -> None:
    before = figures(server)
    with alice.open(Callee()) as session:
        assert session.call("same", bytes(1000)) == bytes(1000)
        with pytest.raises(Denied):
            alice.open(Callee())
        during = figures(server)
    assert until(lambda: figures(server)["avlab_sessions", "alice"] == 0)
    after = figures(server)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert (during["avlab_sessions", "alice"], during["avlab_sessions", "ops"]) == (1, 0)
    assert during["avlab_quota_used", "sessions", "alice"] == during["avlab_quota_limit", "sessions", "alice"] == 1
    assert grown("avlab_sessions_opened_total", "alice", server.tier) == 1
    assert (
        sum(value for key, value in after.items() if (key[0], key[-1]) == ("avlab_sessions_ended_total", "alice")) >= 1
    )
    assert grown("avlab_refused_total", "Denied", "alice") == 1
    assert grown("avlab_items_total", "in", "alice") == grown("avlab_items_total", "out", "alice") == 1
    assert grown("avlab_payload_bytes_total", "in", "alice") >= 1000
    assert grown("avlab_worker_cpu_seconds_total", "alice") > 0
    assert after["avlab_tier_available", server.tier] == 1
    assert after["avlab_sessions_capacity",] == 32
    assert after["process_open_fds",] > 0


def test_calls_are_counted_by_method_and_status(server, alice) -> None:
    alice.describe()
    with pytest.raises(Denied):
        avlab.connect(f"grpc://127.0.0.1:{server.port}", auth="wrong")
    found = figures(server)
    count = "rpc_server_call_duration_seconds_count"
    assert found[count, "avlab.v1.Executor/Describe", "OK", "grpc"] >= 1
    assert found[count, "avlab.v1.Executor/Describe", "UNAUTHENTICATED", "grpc"] >= 1


def test_environments_are_counted_where_there_may_be_any(server, tmp_path, monkeypatch) -> None:
    assert not [key for key in figures(server) if key[0].startswith("avlab_environment")]
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(FOLDER))
    policy = Policy("wheels", folder=str(tmp_path))
    with Server(ServerConfig(port=0, metrics=LOOPBACK, environments=policy)) as generous:
        before = figures(generous)
        assert (before["avlab_environments",], before["avlab_environment_builds_total", "built"]) == (0, 0)
        with avlab.connect(f"grpc://127.0.0.1:{generous.port}") as executor:
            for package in ("six==1.16.0", "six==1.16.0", "no-such-package"):
                with suppress(EnvironmentFailed):
                    executor.open(Callee(), pip=[package]).close()
        after = figures(generous)
    assert {key[1]: value for key, value in after.items() if key[0] == "avlab_environment_builds_total"} == {
        "built": 1, "failed": 1, "stopped": 0,
    }  # fmt: skip
    assert (after["avlab_environments",], after["avlab_environments_removed_total",]) == (1, 0)
    assert after["avlab_environments_bytes",] > 10_000


def test_labels_are_few_whatever_callers_send(server, alice) -> None:
    def labels() -> set[tuple[str, ...]]:
        return {key for key in figures(server) if not key[0].endswith("_bucket")}

    with pytest.raises(avlab.AvlabError):
        alice.open("first-name")
    known = labels()
    for name in ("second-name", 'x"} 1\nforged 1', "x" * 3000):
        with pytest.raises(avlab.AvlabError):
            alice.open(name, session_timeout=5)
    assert until(lambda: figures(server)["avlab_sessions", "alice"] == 0)
    methods = {f"avlab.v1.Executor/{method.name}" for method in pb.SERVICE.methods}
    assert {key[1] for key in labels() if key[0].startswith("rpc_server")} <= methods
    assert not {
        key for key in labels() - known if key[0].startswith("avlab_") and key[0] != "avlab_sessions_ended_total"
    }
    assert not any("-name" in value or "x" * 9 in value or "forged" in value for key in labels() for value in key)


@pytest.mark.parametrize("token", [None, "a-token", "wrong", ""])
def test_figures_are_for_an_operator(server, token) -> None:
    status, text = get(f"http://127.0.0.1:{server.metrics.port}/metrics", token)
    assert status == 401
    assert "avlab_" not in text


def test_nothing_else_is_served_there(server) -> None:
    assert get(f"http://127.0.0.1:{server.metrics.port}/")[0] == 404
    assert get(f"http://127.0.0.1:{server.metrics.port}/metrics?x=1")[0] == 200


def test_a_silent_connection_does_not_block_it_for_long(server, monkeypatch) -> None:
    monkeypatch.setattr("avlab_executor.metrics._Handler.timeout", 0.2)
    monkeypatch.setattr("avlab_executor.metrics._READ_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.metrics.port)) as silent:
        silent.sendall(b"GET /metr")
        assert get(f"http://127.0.0.1:{server.metrics.port}/metrics")[0] == 200


def test_a_connection_that_crawls_is_cut_off(server, monkeypatch) -> None:
    """Each of its bytes comes in time; meanwhile nobody else could ask, and the server not close."""
    monkeypatch.setattr("avlab_executor.metrics._READ_SECONDS", 0.5)
    pause, cut = threading.Event(), False
    with socket.create_connection(("127.0.0.1", server.metrics.port)) as slow:
        try:
            for byte in b"GET /" + b"x" * 200:
                slow.sendall(bytes((byte,)))
                pause.wait(0.1)
        except OSError:
            cut = True
    assert cut
    assert get(f"http://127.0.0.1:{server.metrics.port}/metrics")[0] == 200


def test_figures_over_tls_with_the_servers_certificate(tmp_path) -> None:
    cert, key = certificate(tmp_path, "own")
    config = ServerConfig(
        port=0, warm=0, token="t", certificate=cert.read_bytes(), key=key.read_bytes(), metrics=("0.0.0.0", 0)
    )
    context = ssl.create_default_context(cafile=str(cert))
    with Server(config) as server:
        url = f"https://127.0.0.1:{server.metrics.port}/metrics"
        assert get(url, None, context=context)[0] == 401
        assert get(url, "t", context=context)[0] == 200
        with pytest.raises(OSError):
            get(url.replace("https", "http"), "t")
        assert get(url, "t", context=context)[0] == 200  # whoever spoke no TLS did no harm
        with pytest.raises(ConfigError, match=r"metrics: cannot listen on 127\.0\.0\.1"):
            Server(ServerConfig(port=0, warm=0, metrics=("127.0.0.1", server.metrics.port)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"metrics": ("0.0.0.0", 0)}, "metrics: 0.0.0.0 can be reached by others"),
        ({"metrics": ("0.0.0.0", 0), "token": "t"}, "metrics: 0.0.0.0 can be reached by others"),
        ({"metrics": LOOPBACK, "tenants": (Tenant("a", ("t",)),)}, "operator = true"),
    ],
)
def test_an_address_for_figures_that_is_refused(options, text) -> None:
    with pytest.raises(ConfigError, match=text):
        ServerConfig(**options)


def test_without_the_client_of_prometheus_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "avlab_executor.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'avlab\[operation\]'"):
        Server(ServerConfig(port=0, warm=0, metrics=LOOPBACK))


def test_the_command_serves_figures() -> None:
    with socket.create_server(LOOPBACK) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0", "--metrics", f"127.0.0.1:{port}"]
    with subprocess.Popen([*command, "--warm", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("serving")
            assert "avlab_executor_info{" in get(f"http://127.0.0.1:{port}/metrics", None)[1]
        finally:
            process.terminate()
