"""How the embedded executor starts: its zygote first, and nothing of it stays when the rest fails."""

import os
import subprocess
import sys

import pytest
from avlab_executor import connection, embedded, pool, spawner
from avlab_executor.connection import Embedded

import avlab

STARTED_BEFORE = """
import subprocess, sys
import avlab
start = subprocess.Popen
def noted(*args, **kwargs):
    print("avlab_executor.connection" in sys.modules, "avlab.remote.client" in sys.modules)
    return start(*args, **kwargs)
subprocess.Popen = noted
avlab.connect("local:").close()
"""


@pytest.fixture
def started(monkeypatch) -> list[spawner.Spawner]:
    """Every spawner that is made."""
    made: list[spawner.Spawner] = []

    class Noted(spawner.Spawner):
        def __init__(self, recipe: spawner.Recipe) -> None:
            super().__init__(recipe)
            made.append(self)

    monkeypatch.setattr(embedded, "Spawner", Noted)
    monkeypatch.setattr(pool, "Spawner", Noted)
    return made


def test_the_zygote_starts_before_the_rest_is_imported() -> None:
    told = subprocess.run([sys.executable, "-c", STARTED_BEFORE], capture_output=True, check=True, text=True).stdout
    assert told.split() == ["False", "False"]


def test_there_is_one_zygote_and_it_ends_with_the_executor(started) -> None:
    with avlab.connect("local:") as executor, executor.open(len) as session:
        assert session.call("__call__", "four") == 4
    (only,) = started
    assert only._process.returncode is not None
    assert not os.path.exists(only.folder)


def test_a_zygote_that_nobody_asked_for_a_tier_ends_too(started, monkeypatch) -> None:
    monkeypatch.setattr(Embedded, "_start", lambda self: None)
    avlab.connect("local:").close()
    (only,) = started
    assert only._process.returncode is not None


def test_a_zygote_ends_when_the_rest_cannot_be_imported(started, monkeypatch) -> None:
    def fails(**_: object) -> None:
        raise ImportError("half an installation")

    monkeypatch.setattr(connection, "Embedded", fails)
    with pytest.raises(ImportError, match="half"):
        avlab.connect("local:")
    (only,) = started
    assert only._process.returncode is not None


def test_a_process_that_had_no_room_for_it_when_it_connected_gets_one_later(monkeypatch) -> None:
    def none(recipe: spawner.Recipe) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(embedded, "Spawner", none)
    with avlab.connect("local:") as executor, executor.open(len) as session:  # there is room again
        assert session.call("__call__", "four") == 4
