"""Every attempt of sandbox_attempts, from inside a real worker of each tier, gets the errno that the table says."""

import os
import socket
import sys
from pathlib import Path

import pytest
from avlab_executor.pool import Pool
from sandbox_attempts import ATTEMPTS, main, refuse_unless_confined
from sandbox_host import HERE, TIERS, Conversation


@pytest.fixture(scope="module", params=TIERS)
def prisoner(request, tmp_path_factory):
    """A worker that tries what it is told, and facts about the host that it can aim at."""
    folder = tmp_path_factory.mktemp("host")
    secret, open_folder = folder / "secret", folder / "open"
    secret.write_text("a secret of the host")
    secret.chmod(0o644)
    open_folder.mkdir(mode=0o777)
    with Pool(request.param, entry="sandbox_attempts:main", paths=[HERE]) as pool:
        conversation = Conversation(pool.acquire())
        with open(f"/proc/{conversation.worker.pid}/stat") as stat:
            zygote = int(stat.read().rpartition(")")[2].split()[1])
        facts = {
            "host": os.getpid(),
            "zygote": zygote,
            "secret": str(secret),
            "open_folder": str(open_folder),
            "home": str(Path.home()),
            "checkout": str(Path(__file__).parents[2]),
        }
        yield conversation, facts
        conversation.close()


def test_the_table_is_long_enough_and_names_are_unique():
    names = [attempt.name for attempt in ATTEMPTS]
    assert len(set(names)) == len(names) >= 100


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_attempt(prisoner, attempt):
    conversation, facts = prisoner
    outcome = conversation.ask(attempt=attempt.name, facts=facts)["outcome"]
    assert outcome in attempt.expected[conversation.worker.tier].split("|")


def test_attack_code_refuses_to_run_outside_of_a_sandbox():
    with pytest.raises(SystemExit):
        refuse_unless_confined()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(SystemExit):
        main(type("Fds", (), {"session": theirs.fileno()}))
    assert "linux" in sys.platform
