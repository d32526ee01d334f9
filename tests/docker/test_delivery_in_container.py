"""The promise of delivery (tests/links/test_cuts.py, test_resume.py), kept by an executor in a container behind a network that breaks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import test_cuts
import test_resume
from avlab_executor.container.engine import Door, engine
from conftest import up

import avlab
from avlab.testing.faults import TcpRelay

pytestmark = pytest.mark.usefixtures("current_image", "through_the_door")


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """The way into a container of this module's own."""
    with up("delivery") as url:
        with engine() as made:
            found = made.door(made.running(url.removeprefix("docker:")))
        yield found


@pytest.fixture
def relay(door: Door) -> Iterator[TcpRelay]:
    """In place of the other suite's: stands before the container's port."""
    with TcpRelay(("127.0.0.1", door.port)) as made:
        yield made


@pytest.fixture
def connected(door: Door, tmp_path: Path) -> Callable[..., AbstractContextManager[avlab.Executor]]:
    """In place of the other suites': connects with what the container's server made for itself."""
    authority = tmp_path / "certificate.pem"
    authority.write_bytes(door.certificate)

    @contextmanager
    def connect(relay: TcpRelay, grace: float = 30.0, **options: object) -> Iterator[avlab.Executor]:
        url = "grpcs://{}:{}".format(*relay.address)
        with avlab.connect(url, auth=door.token, tls=str(authority), grace=grace, **options) as executor:
            yield executor

    return connect


@pytest.fixture
def through_the_door(connected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_resume, "connected", connected)


test_a_cut_inside_a_blob = test_cuts.test_a_cut_inside_a_blob
test_many_cuts_in_one_session = test_cuts.test_many_cuts_in_one_session
test_what_was_printed_comes_once_and_in_order = test_cuts.test_what_was_printed_comes_once_and_in_order
test_a_call_waits_through_a_cut = test_resume.test_a_call_waits_through_a_cut
test_a_silent_network = test_resume.test_a_silent_network_is_noticed_and_the_session_goes_on_when_it_speaks_again
