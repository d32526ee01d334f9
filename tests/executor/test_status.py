"""``avlab executor status``: once, live, as JSON, and with words of an executor that means no good."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from avlab_executor import status
from avlab_executor.server import Server, ServerConfig
from avlab_executor.tenants import Quota, Tenant
from remote_objects import Callee

import avlab
from avlab.cli import main
from avlab.core.status import QuotaStatus, SessionStatus, Status
from avlab.core.units import size, span
from avlab.remote.link import Description, Layer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    tenants = (
        Tenant("alice", ("a-token",), Quota(sessions=3, bytes=1 << 20)),
        Tenant("bob", ("b-token",), operator=True),
    )
    with Server(ServerConfig(port=0, warm=1, tenants=tenants)) as made:
        yield made


@pytest.fixture
def url(server) -> str:
    return f"grpc://127.0.0.1:{server.port}"


def test_a_table_of_sessions_and_quotas(server, url, tmp_path, capsys) -> None:
    (tmp_path / "token").write_text("alice a-token\n")
    with avlab.connect(url, auth="a-token") as executor, executor.open("VideoConvert", {"format": "gray"}) as session:
        assert main(["executor", "status", "--url", url, "--token-file", str(tmp_path / "token")]) == 0
        shown = capsys.readouterr().out
        assert session.label in shown
        assert "a-token" not in shown
    assert f"isolation tier {server.tier}" in shown
    assert "sessions 1 of 3" in shown
    assert re.search(rf"{session.label} +alice +VideoConvert +{server.tier} ", shown)
    assert re.search(r"alice +bytes +0 bytes +1 MiB +59 min", shown)
    assert "bob" not in shown


def test_an_operator_sees_the_sessions_of_all_as_json(url, monkeypatch, capsys) -> None:
    monkeypatch.setenv("AVLAB_TOKEN", "b-token")
    with avlab.connect(url, auth="a-token") as executor, executor.open(Callee()):
        assert main(["executor", "status", url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert found["operator"]
    assert [each["tenant"] for each in found["sessions"]] == ["alice"]


def test_on_a_terminal_it_is_drawn_again_until_it_is_interrupted(url) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "avlab", "executor", "status", url, "--every", "0.1"]
    process = subprocess.Popen(command, stdout=theirs, env={**os.environ, "AVLAB_TOKEN": "b-token"})
    os.close(theirs)
    seen = b""
    try:
        while seen.count(status._CLEAR.encode()) < 3:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert seen.count(b"tenant bob") >= 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--every", "0"], "--every 0"),
        (["--token-file", "/nonexistent/token"], "/nonexistent/token"),
        (["--tls-cert", "c"], "come together"),
    ],
)
def test_options_that_cannot_be(url, options, text, capsys) -> None:
    assert main(["executor", "status", url, *options]) == 2
    assert text in capsys.readouterr().err


def test_words_of_an_executor_steer_no_terminal_and_are_bounded() -> None:
    evil = "\x1b[2J\x9b1A\u202e\nnew line\r" + "x" * 100_000
    session = SessionStatus(evil, evil, evil, evil, 1e18, 1 << 63, 1, 1, 1, 1, 1e18)
    quota = QuotaStatus(evil, evil, 1.0, 2.0, 3.0)
    about = Description(url="grpc://x:1", version=evil, python=evil, tier=evil, tiers=[Layer(evil, True, evil)] * 1000)
    found = Status(evil, True, 1e18, evil, (session,) * 1000, (quota,) * 1000)
    shown = list(status.lines(about, found))
    text = "\n".join(shown)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 600_000
    assert len(text.split("\n")) < 1000
    assert len(list(status.lines(about, replace(found, sessions=(), quotas=())))) < 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (86400, "1 d"), (90061, "1 d 1 h"), (-1, "0 s")],
)
def test_spans(seconds, text) -> None:
    assert span(seconds) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1 << 29, 1 << 60)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "512 MiB",
        "1.049e+06 TiB",
    ]
