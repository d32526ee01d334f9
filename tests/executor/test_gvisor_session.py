"""A session under gVisor, from the outside: the same calls, frames through shared memory, and no weaker tier instead."""

import numpy as np
import pytest

import avlab
from avlab.core.errors import TierUnavailable


class Doubling:
    def process(self, picture: np.ndarray) -> np.ndarray:
        return picture * 2

    def fail(self) -> None:
        raise ValueError("as it must")


@pytest.fixture(scope="module")
def executor():
    with avlab.connect("local:", tier="gvisor") as made:
        yield made


def test_frames_travel_through_shared_memory(executor):
    picture = np.arange(720 * 1280 * 3, dtype=np.uint8).reshape(720, 1280, 3)
    with executor.open(Doubling()) as session:
        assert session.tier == "gvisor"
        assert np.array_equal(session.call("process", picture), picture * 2)
        results = list(session.stream([picture] * 20))
        assert len(results) == 20
        assert all(np.array_equal(item, picture * 2) for item in results)
        with pytest.raises(ValueError, match="as it must"):
            session.call("fail")


def test_the_executor_says_that_it_can(executor):
    about = executor.describe()
    assert about.tier == "gvisor"
    assert next(tier for tier in about.tiers if tier.name == "gvisor").available


def test_nothing_weaker_is_given(executor):
    with pytest.raises(TierUnavailable, match="weaker than the minimum"):
        executor.open(Doubling(), tier="namespaces")
