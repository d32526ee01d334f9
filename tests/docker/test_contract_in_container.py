"""The contract of every link (tests/links), kept by an executor in a container."""

from collections.abc import Callable, Iterator

import pytest
import test_contract
from conftest import up

import avlab

pytestmark = pytest.mark.usefixtures("current_image")


@pytest.fixture(scope="module")
def executor() -> Iterator[avlab.Executor]:
    """In place of the links of the other suite."""
    with up("contract") as url, avlab.connect(url) as made:
        yield made


@pytest.fixture
def open_session(executor: avlab.Executor) -> Iterator[Callable[..., avlab.Session]]:
    """Opens sessions and closes them after the test."""
    opened = []

    def open_session(target: object, **options: object) -> avlab.Session:
        opened.append(executor.open(target, **options))
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()


gate = test_contract.gate
globals().update({name: test for name, test in vars(test_contract).items() if name.startswith("test_")})
