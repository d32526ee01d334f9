"""Ctrl-C in the instant in which something has been made that nobody owns yet: none of it may stay behind."""

import itertools
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from avlab_executor.sandbox import handshake
from remote_objects import Callee, Double
from serving import until

import avlab
from avlab.remote import client
from avlab.remote import connect as connecting
from avlab.remote import session as sessions


def interrupting(function):
    """The function, with a Ctrl-C just before it."""

    def called(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    return called


def test_an_executor_that_nobody_gets_is_closed(monkeypatch) -> None:
    """Its workers are about to start."""
    made, original = [], connecting._connection

    def connection(settings):
        made.append(original(settings))
        signal.raise_signal(signal.SIGINT)
        return made[0]

    monkeypatch.setattr(connecting, "_connection", connection)
    with pytest.raises(KeyboardInterrupt):
        avlab.connect("local:")
    assert until(lambda: made[0]._closed)
    assert until(lambda: "avlab-pool" not in {thread.name for thread in threading.enumerate()})


def test_a_session_that_nobody_gets_is_closed(sandboxed, monkeypatch) -> None:
    """Its worker has begun, and the session is being made."""
    with monkeypatch.context() as patch:
        patch.setattr(client, "Session", interrupting(client.Session))
        with pytest.raises(KeyboardInterrupt):
            sandboxed.open(Callee())
    assert until(lambda: not sandboxed.status().sessions)
    with sandboxed.open(Callee()) as session:
        assert session.call("add", 1) == 2


def test_a_worker_that_nobody_gets_is_ended(monkeypatch) -> None:
    """It has been asked for, and says how it is locked."""
    with avlab.connect("local:") as executor:
        executor.open(Callee()).close()
        pool = executor._connection.pool()
        with monkeypatch.context() as patch:
            patch.setattr(handshake, "receive", interrupting(handshake.receive))
            with pytest.raises(KeyboardInterrupt):
                executor.open(Callee())
        assert until(lambda: list(pool._alive.values()) == list(pool._waiting))


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_that_nobody_gets_is_left(open_session, monkeypatch, live) -> None:
    """Its threads run, and it is being begun."""
    session = open_session(Double())
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "_begun", interrupting(sessions._begun))
        with pytest.raises(KeyboardInterrupt):
            session.stream(itertools.count(), live=live)
    assert until(lambda: not {"avlab-feed", "avlab-latest"} & {thread.name for thread in threading.enumerate()})
    assert list(session.stream(range(100))) == [2 * number for number in range(100)]


def test_an_iteration_that_nobody_gets_is_cancelled(open_session, monkeypatch) -> None:
    session = open_session(Callee())
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "_begun", interrupting(sessions._begun))
        with pytest.raises(KeyboardInterrupt):
            session.iterate("endless")
    assert session.call("add", 1) == 2


@pytest.mark.parametrize("link", ["local", "grpc"])
def test_interrupts_at_random_moments(link) -> None:
    """``python tests/links/interrupts.py`` does it for longer."""
    script = Path(__file__).with_name("interrupts.py")
    done = subprocess.run([sys.executable, script, link, "15", "5"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
