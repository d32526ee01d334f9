"""Every attempt of sandbox_attempts, from inside a real worker of each tier, gets the errno that the table says."""

import socket
import sys

import pytest
from avlab_executor.pool import Pool
from sandbox_attempts import ATTEMPTS, main, refuse_unless_confined
from sandbox_host import EVERY_TIER, HERE, Conversation, targets


@pytest.fixture(scope="module", params=EVERY_TIER)
def prisoner(request, tmp_path_factory):
    """A worker that tries what it is told, and facts about the host that it can aim at."""
    with Pool(request.param, entry="sandbox_attempts:main", paths=[HERE]) as pool:
        conversation = Conversation(pool.acquire())
        facts = targets(tmp_path_factory.mktemp("host"), conversation.worker)
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
