"""Pools of real workers, one per tier; a tier that does not work here makes its tests fail."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # the support modules beside the tests

from avlab_executor.pool import Pool
from sandbox_host import HERE, TIERS, Conversation

from avlab.remote.limits import Limits


@pytest.fixture(scope="module", params=TIERS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool whose workers run the errands of sandbox_errands."""
    os.environ["AVLAB_TEST_TOKEN"] = "a secret of the host"
    with Pool(request.param, entry="sandbox_errands:main", paths=[HERE]) as made:
        yield made
    del os.environ["AVLAB_TEST_TOKEN"]


@pytest.fixture
def start(pool: Pool) -> Iterator[Callable[..., Conversation]]:
    """Acquires workers with limits, and closes them after the test."""
    started = []

    def acquire(**limits: object) -> Conversation:
        started.append(Conversation(pool.acquire(Limits(**limits))))
        return started[-1]

    yield acquire
    for conversation in started:
        conversation.close()
