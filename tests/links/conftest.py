"""Every link there is, each to a real executor: in memory, embedded, a server in a process of its own, and another peer."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from avlab_executor.server import Server

import avlab
from avlab.testing.faults import TcpRelay

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)  # what the tests run on the other bank lies beside them

from serving import PEER_TOKEN, peer, served  # noqa: E402  it lies there

LINKS = ("inproc", "local", "grpc", "datachannel")


@contextmanager
def connected(link: str) -> Iterator[avlab.Executor]:
    """An executor at the other end of a link of this kind."""
    if link == "grpc":
        with served() as (url, _), avlab.connect(url) as executor:
            yield executor
    elif link == "datachannel":
        with peer() as partner, avlab.connect(partner, auth=PEER_TOKEN) as executor:
            yield executor
    else:
        with avlab.connect(f"{link}:") as executor:
            yield executor


@pytest.fixture(scope="module", params=LINKS)
def executor(request: pytest.FixtureRequest) -> Iterator[avlab.Executor]:
    """An executor over each link in turn."""
    with connected(request.param) as made:
        yield made


@pytest.fixture(scope="module", params=("local", "grpc", "datachannel"))
def sandboxed(request: pytest.FixtureRequest) -> Iterator[avlab.Executor]:
    """An executor with real workers."""
    with connected(request.param) as made:
        yield made


@pytest.fixture
def relay(server: Server) -> Iterator[TcpRelay]:
    """The way to the module's server, which can be cut, healed and silenced."""
    with TcpRelay(("127.0.0.1", server.port)) as made:
        yield made


@pytest.fixture
def open_session(executor: avlab.Executor) -> Iterator[Callable[..., avlab.Session]]:
    """Opens sessions and closes them after the test."""
    yield from _opening(executor)


@pytest.fixture
def open_sandbox(sandboxed: avlab.Executor) -> Iterator[Callable[..., avlab.Session]]:
    """Opens sessions on real workers and closes them after the test."""
    yield from _opening(sandboxed)


def _opening(executor: avlab.Executor) -> Iterator[Callable[..., avlab.Session]]:
    opened = []

    def open_session(target: object, **options: object) -> avlab.Session:
        opened.append(executor.open(target, **options))
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()
