"""Cuts of a connection at any byte, with and without TLS: nothing is lost, doubled or out of order, and the worker stays."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from avlab_executor.server import Server, ServerConfig
from counted import Counted
from serving import at_work, certificate, until

import avlab
from avlab.core.message import Log
from avlab.testing.faults import TcpRelay, check_history

ITEMS = 50
HEALED = 0.1  # seconds after a cut
EXPECTED = [(value, k) for value in range(ITEMS) for k in range(value % 4)] + [(-1, 0)]


@pytest.fixture(scope="module", params=["grpc", "grpcs"])
def scheme(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def files(scheme, tmp_path_factory) -> dict[str, str]:
    """The server's certificate and key, if it has any."""
    if scheme == "grpc":
        return {}
    return dict(zip(("certificate", "key"), map(str, certificate(tmp_path_factory.mktemp("own"), "own")), strict=True))


@pytest.fixture(scope="module")
def server(files) -> Iterator[Server]:
    contents = {name: Path(path).read_bytes() for name, path in files.items()}
    with Server(ServerConfig(port=0, sessions=6, **contents)) as made:
        yield made


@pytest.fixture(scope="module")
def connected(scheme, files) -> Callable[..., avlab.Executor]:
    """Connects through a relay."""

    def connect(relay: TcpRelay, grace: float = 30.0) -> avlab.Executor:
        host, port = relay.address
        return avlab.connect(f"{scheme}://{host}:{port}", grace=grace, tls=files.get("certificate", False))

    return connect


@contextmanager
def healing(relay: TcpRelay) -> Iterator[None]:
    """Heals the network a moment after each cut."""
    done = threading.Event()

    def heal() -> None:
        while not done.is_set():
            if relay.wait_until_cut(0.05):
                done.wait(HEALED)
                relay.heal()

    thread = threading.Thread(target=heal)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run(executor: avlab.Executor, ballast: bytes = b"") -> None:
    """The session of 50 items, and what must be true of it."""
    with executor.open(Counted(ballast)) as session:
        pid = session.call("pid")
        results = list(session.stream(iter(range(ITEMS))))
        assert check_history(EXPECTED, [(value, k) for value, k, _, _ in results]) == (0, 0, 0)
        assert {process for *_, process in results} == {pid}
        assert results[-1][2] == len(EXPECTED) - 1
        assert session.call("pid") == pid


@pytest.fixture(scope="module")
def stretches(server, connected) -> dict[str, tuple[int, int, int]]:
    """Bytes that each direction carries: until connected, while opening, and from there to the end."""
    with TcpRelay(("127.0.0.1", server.port)) as relay, connected(relay) as executor:
        connecting = relay.statistics()
        with executor.open(Counted(b"1")) as session:
            opening = relay.statistics()
            session.call("pid")
            list(session.stream(iter(range(ITEMS))))
            working = relay.statistics()
        return {
            way: tuple(getattr(figures, way) for figures in (connecting, opening, working)) for way in ("forth", "back")
        }


@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("number", range(8))
def test_a_cut_inside_a_blob(relay, connected, direction, number) -> None:
    """Blobs are sent with their own calls before the Open; the answers to these are short."""
    ballast = random.Random(number).randbytes(200_000)
    at = random.Random(f"{direction}{number}").randrange(190_000 if direction == "forth" else 60)
    with healing(relay), connected(relay) as executor:
        relay.cut_after(at, direction)
        run(executor, ballast)
        assert relay.statistics().cut == 1


@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("number", range(8))
def test_a_cut_while_the_session_opens(relay, connected, stretches, direction, number) -> None:
    begin, end, _ = stretches[direction]
    at = (end - begin) * (number + 1) // 9  # from the question for blobs to Opened
    with healing(relay), connected(relay) as executor:
        relay.cut_after(at, direction)
        run(executor, number.to_bytes(1, "big"))
        assert relay.statistics().cut == 1


@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("number", range(16))
def test_a_cut_inside_items_and_acknowledgements(relay, connected, stretches, direction, number) -> None:
    begin, end = stretches[direction][1:]
    at = random.Random(f"{direction}{number}").randrange(
        (end - begin) * number // 16, (end - begin) * (number + 1) // 16
    )
    with healing(relay), connected(relay) as executor, executor.open(Counted()) as session:
        pid = session.call("pid")
        relay.cut_after(at, direction)
        results = list(session.stream(iter(range(ITEMS))))
        assert check_history(EXPECTED, [(value, k) for value, k, _, _ in results]) == (0, 0, 0)
        assert {process for *_, process in results} == {pid}
        assert results[-1][2] == len(EXPECTED) - 1
        relay.cut_after(0, direction)  # in case that it has not come, as batches are not the same in every run
        assert session.call("pid") == pid
        assert relay.statistics().cut >= 1


@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("at", [0, 5, 12, 20])
def test_a_cut_inside_the_end(server, relay, connected, files, direction, at) -> None:
    with connected(relay, grace=0.25) as executor:  # that the worker stays after the cut
        session = executor.open(Counted())
        results = list(session.stream(iter(range(ITEMS))))
        assert check_history(EXPECTED, [(value, k) for value, k, _, _ in results]) == (0, 0, 0)
        relay.cut_after(at, direction)
        session.close()
        relay.heal()
        assert until(lambda: at_work(server, files.get("certificate", False)) == 0)


def test_many_cuts_in_one_session(relay, connected) -> None:
    """Also such that come before the session has been resumed after the one before."""
    dice = random.Random(7)
    sent: list[int] = []

    def items() -> Iterator[int]:
        for number in range(200):
            if number % 10 == 5:
                relay.cut_after(dice.randrange(400), dice.choice(["forth", "back"]))
            sent.append(number)
            yield number

    with healing(relay), connected(relay) as executor, executor.open(Counted()) as session:
        results = list(session.stream(items()))
        expected = [(value, k) for value in sent for k in range(value % 4)] + [(-1, 0)]
        assert check_history(expected, [(value, k) for value, k, _, _ in results]) == (0, 0, 0)
        assert len({process for *_, process in results}) == 1
        assert relay.statistics().cut >= 5


def test_large_items_come_through_a_slow_network_that_breaks(server, connected) -> None:
    class Echo:
        def process(self, value: bytes) -> bytes:
            return value

    items = [random.Random(number).randbytes(700_000) for number in range(12)]
    with (
        TcpRelay(("127.0.0.1", server.port), bandwidth=12e6, jitter=0.002, slicer=60_000, seed=5) as relay,
        healing(relay),
        connected(relay) as executor,
        executor.open(Echo()) as session,
    ):
        results = []
        for number, result in enumerate(session.stream(iter(items))):
            results.append(result)
            if number in (1, 6):
                relay.cut_after(300_000, "forth" if number == 1 else "back")
        assert check_history(items, results) == (0, 0, 0)
        assert relay.statistics().cut >= 2


def test_what_was_printed_comes_once_and_in_order(relay, connected) -> None:
    lines: list[bytes] = []

    def heard(log: Log) -> None:
        if not log.data.startswith(b"avlab: "):  # on a busy machine a cut lasts long enough to be told of
            lines.append(log.data)

    with healing(relay), connected(relay) as executor:
        with executor.open(Counted(), on_log=heard) as session:
            for number in range(6):
                relay.cut_after(20 * number, "back")
                assert session.call("printed", 50) == 50
        text = b"".join(lines).decode().split()
        assert text == [str(number) for number in range(50)] * 6
        assert relay.statistics().cut >= 3
