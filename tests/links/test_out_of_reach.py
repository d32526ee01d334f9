"""What a person learns while an executor is out of reach, and when that is over."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from avlab_executor.server import Server, ServerConfig
from counted import Counted
from serving import served, until
from test_hostile_server import Impostor

import avlab
from avlab.core.errors import ConnectError, SessionLost
from avlab.core.message import Bundle, BundleKind, Credit, Log, Message, Open, Opened, Resumed
from avlab.core.wire import encode_batch
from avlab.remote.links.resuming import NOTICE_SECONDS, Broken, ResumingLink
from avlab.testing.faults import TcpRelay


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ServerConfig(port=0, sessions=6)) as made:
        yield made


def test_a_call_that_waits_for_its_network_says_so_and_that_it_goes_on(server) -> None:
    lines: list[str] = []

    def heard(log: Log) -> None:
        lines.append(log.data.decode())
        relay.heal()

    with (
        TcpRelay(("127.0.0.1", server.port)) as relay,
        avlab.connect("grpc://{}:{}".format(*relay.address)) as executor,
        executor.open(Counted(), on_log=heard) as session,
    ):
        pid = session.call("pid")
        relay.cut()
        assert session.call("pid") == pid
    lost, again = lines
    assert lost.startswith(f"avlab: the connection to {executor.url} was lost (")
    assert lost.endswith("s more\n")
    assert again == f"avlab: {executor.url} answers again\n"


def test_an_executor_that_is_gone_is_told_from_a_network_that_broke() -> None:
    lines: list[str] = []
    with ExitStack() as running:
        url, process = running.enter_context(served())
        executor = running.enter_context(avlab.connect(url, grace=3))
        session = executor.open(Counted(), on_log=lambda log: lines.append(log.data.decode()))
        assert session.call("pid")
        process.kill()
        process.wait()
        with pytest.raises(SessionLost, match=r"did not come back within 3 s \(nothing listens there\)"):
            session.call("pid")
        session.close()
    assert [line for line in lines if "was lost (nothing listens there): trying for" in line]


@pytest.mark.parametrize("grace", [0, 30])
def test_opening_waits_no_longer_than_its_timeout_for_an_executor_that_takes_the_call_and_says_nothing(grace) -> None:
    silent = threading.Event()

    def stream(requests: Iterator[bytes]) -> Iterator[bytes]:
        next(requests)
        silent.wait(30)
        yield from ()

    with closing(Impostor()) as impostor:
        impostor.stream = stream
        lines: list[str] = []
        try:
            with avlab.connect(f"grpc://127.0.0.1:{impostor.port}", timeout=NOTICE_SECONDS + 1, grace=grace) as executor:
                began = time.monotonic()
                with pytest.raises(ConnectError, match=r"has not answered within 2 s \(something takes connections there, but"):
                    executor.open(Counted(), on_log=lambda log: lines.append(log.data.decode()))
                assert time.monotonic() - began < 20
        finally:
            silent.set()
        assert [line for line in lines if "does not answer (something takes connections" in line]


def test_connecting_waits_no_longer_than_its_timeout_for_what_is_no_executor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ear, pytest.raises(ConnectError, match="no executor answers"):
        avlab.connect(f"grpc://127.0.0.1:{ear.getsockname()[1]}", timeout=1)


class Calls:
    """A dial whose first call opens and breaks, and whose second one resumes when it may."""

    def __init__(self) -> None:
        self.cut, self.healed = threading.Event(), threading.Event()
        self._answers = iter([self._opened(), self._resumed()])

    def __call__(self, requests: Iterator[bytes], wait: bool) -> "Calls":
        self.requests = requests
        return self

    def __iter__(self) -> Iterator[bytes]:
        next(self.requests)
        yield from next(self._answers)

    def _opened(self) -> Iterator[bytes]:
        yield encode_batch([Opened()])
        self.cut.wait(10)
        raise Broken(ConnectError("cut"))

    def _resumed(self) -> Iterator[bytes]:
        self.healed.wait(10)
        yield encode_batch([Resumed(1, 1), Credit(granted=7)])
        self.healed.clear()
        self.healed.wait(10)

    def cancel(self) -> None:
        self.healed.set()


def taken(link: ResumingLink) -> list[Message]:
    messages = [link.recv(10)]
    while not isinstance(messages[-1], Credit):
        messages.append(link.recv(10))
    return messages


@pytest.mark.parametrize("seen", [True, False])
def test_a_cut_that_nobody_has_waited_through_is_not_told_of(seen) -> None:
    calls = Calls()
    link = ResumingLink(calls, "grpc://x:1", "a" * 32, 30, 10, lambda: "why")
    link.send(Open(Bundle(BundleKind.NODE, "Resize"), session="a" * 32, grace=30))
    assert isinstance(link.recv(10), Opened)
    calls.cut.set()
    assert until(lambda: link._told is not None)
    before = link.recv(10) if seen else None
    calls.healed.set()
    assert until(lambda: link._told is None)
    told = [bytes(m.data) for m in taken(link) if isinstance(m, Log)]
    assert told == ([b"avlab: grpc://x:1 answers again\n"] if seen else [])
    if seen:
        assert isinstance(before, Log) and b"was lost (why): trying for" in before.data
    link.close()
