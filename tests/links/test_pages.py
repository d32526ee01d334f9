"""A caller's process keeps the memory of frames once it has seen one, unless its environment says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import FAULTS, served

CALLER = """
import sys
sys.path.append(sys.argv[2])
import avlab
from remote_objects import Callee

with avlab.connect(sys.argv[1]) as executor, executor.open(Callee()) as session:
    {use}
""" + FAULTS
ALL = 5 * (6 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def url():
    with served() as (address, _):
        yield address


def faults(url: str, use: str, **environment: str) -> int:
    """Pages that the system had to give again for frames that follow the session."""
    command = [sys.executable, "-c", CALLER.format(use=use), url, str(Path(__file__).parent)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment).stdout
    return int(told)


@pytest.mark.parametrize("use", ["session.call('length', bytes(2 << 20))", "session.call('sized', 2 << 20)"])
def test_frames_are_made_of_memory_that_is_there(url, use) -> None:
    assert faults(url, use) < ALL / 10


@pytest.mark.parametrize(
    ("use", "environment"),
    [("session.call('length', bytes(2 << 10))", {}), ("session.call('length', bytes(2 << 20))", {"MALLOC_TRIM_THRESHOLD_": "131072"})],
)
def test_nothing_is_kept_for_small_messages_and_against_the_environment(url, use, environment) -> None:
    assert faults(url, use, **environment) > ALL / 2
