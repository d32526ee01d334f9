"""The TCP relay: what passes, what a seed decides, what a cut loses, and that nothing is left open."""

import socket
import threading
import time

import pytest

from avlab.core.errors import ConfigError
from avlab.testing import tcp
from avlab.testing.faults import TcpRelay, check_history
from avlab.testing.tcp import StreamFaults

DATA = bytes(range(256)) * 4000


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


def joined(relay: TcpRelay, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client's socket and the server's for it."""
    near = socket.create_connection(relay.address, timeout=10)
    far, _ = server.accept()
    far.settimeout(10)
    return near, far


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the end after {len(data)} of {size} bytes"
        data += piece
    return data


def pour(sock: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    return thread


@pytest.mark.parametrize(
    "faults",
    [{}, {"delay": 0.01}, {"jitter": 0.002, "slicer": 3000}, {"bandwidth": 8e6}, {"slicer": 50_000}],
    ids=lambda faults: "+".join(faults) or "none",
)
def test_bytes_pass_both_ways_unchanged_and_in_order(server, faults) -> None:
    with TcpRelay(server.getsockname(), seed=3, **faults) as relay:
        near, far = joined(relay, server)
        with near, far:
            for source, sink in ((near, far), (far, near)):
                thread = pour(source, DATA)
                assert read(sink, len(DATA)) == DATA
                thread.join(10)
            figures = relay.statistics()
            assert (figures.forth, figures.back, figures.connections) == (len(DATA), len(DATA), 1)


def test_the_end_of_a_direction_passes_too(server) -> None:
    with TcpRelay(server.getsockname()) as relay:
        near, far = joined(relay, server)
        with near, far:
            near.sendall(b"last")
            near.shutdown(socket.SHUT_WR)
            assert read(far, 4) == b"last"
            assert far.recv(10) == b""
            far.sendall(b"answer")
            far.close()
            assert read(near, 6) == b"answer"
            assert near.recv(10) == b""


def test_bandwidth_takes_its_time(server) -> None:
    with TcpRelay(server.getsockname(), bandwidth=200_000, slicer=2000) as relay:
        near, far = joined(relay, server)
        with near, far:
            began = time.monotonic()
            near.sendall(bytes(60_000))
            read(far, 60_000)
            assert time.monotonic() - began >= 0.29


def test_the_slices_are_those_of_the_seed() -> None:
    def slices(seed: str) -> list[int]:
        way = tcp._Way(None, None, seed, "forth")
        way.add(DATA[:10_000], StreamFaults(slicer=300), 0)
        assert b"".join(piece for _, piece in way.pieces) == DATA[:10_000]
        return [len(piece) for _, piece in way.pieces]

    assert slices("1") == slices("1") != slices("2")
    assert max(slices("1")) <= 300
    assert min(slices("1")) >= 1


def test_a_cut_that_is_not_healed_stays_to_be_seen_when_the_next_is_asked_for(server) -> None:
    with TcpRelay(server.getsockname()) as relay:
        relay.cut()
        relay.cut_after(10)
        assert relay.wait_until_cut(0)
        relay.heal()
        relay.cut_after(10)
        assert not relay.wait_until_cut(0)


@pytest.mark.parametrize("count", [0, 1, 7777])
@pytest.mark.parametrize("direction", ["forth", "back"])
def test_a_cut_comes_at_its_byte(server, direction, count) -> None:
    with TcpRelay(server.getsockname(), slicer=1000) as relay:
        near, far = joined(relay, server)
        with near, far:
            source, sink = (near, far) if direction == "forth" else (far, near)
            relay.cut_after(count, direction)
            assert not relay.wait_until_cut(0.05)
            source.sendall(DATA[:20_000])
            assert relay.wait_until_cut(10)
            assert getattr(relay.statistics(), direction) == count
            with pytest.raises(ConnectionResetError):
                while sink.recv(1000):
                    pass
            with pytest.raises(ConnectionResetError), socket.create_connection(relay.address, timeout=10) as again:
                again.recv(1)
            relay.heal()
            for each in joined(relay, server):
                each.close()
            assert relay.statistics().cut == 1


def test_a_hole_says_nothing_and_loses_nothing(server) -> None:
    with TcpRelay(server.getsockname()) as relay:
        near, far = joined(relay, server)
        with near, far:
            relay.hole()
            near.sendall(b"meanwhile")
            far.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far.recv(10)
            far.settimeout(10)
            relay.heal()
            assert read(far, 9) == b"meanwhile"


def test_a_sender_waits_when_too_much_is_under_way(server) -> None:
    with TcpRelay(server.getsockname(), delay=3600) as relay:
        near, far = joined(relay, server)
        with near, far:
            near.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    sent += near.send(bytes(1 << 16))
            assert sent < tcp.UNDER_WAY + (16 << 20)  # and what the two sockets hold


def test_too_many_connections_are_refused(server, monkeypatch) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS", 1)
    with TcpRelay(server.getsockname()) as relay:
        near, far = joined(relay, server)
        with near, far:
            with pytest.raises(ConnectionResetError), socket.create_connection(relay.address, timeout=10) as other:
                other.recv(1)  # unless the connection itself met the reset
            assert relay.statistics().refused == 1


@pytest.mark.parametrize(
    "faults", [{"delay": -1}, {"bandwidth": float("inf")}, {"slicer": -5}, {"jitter": float("nan")}]
)
def test_impossible_faults_are_named(server, faults) -> None:
    with pytest.raises(ConfigError, match=next(iter(faults))):
        TcpRelay(server.getsockname(), **faults)


def test_an_impossible_cut_is_named(server) -> None:
    with TcpRelay(server.getsockname()) as relay:
        for arguments in ((-1, "forth"), (1, "sideways")):
            with pytest.raises(ConfigError, match="cut_after"):
                relay.cut_after(*arguments)
        assert str(relay.target[1]) in repr(relay)
        relay.close()
        relay.close()


@pytest.mark.parametrize(
    ("sent", "received", "expected"),
    [
        ("", "", (0, 0, 0)),
        ("abc", "abc", (0, 0, 0)),
        ("abc", "ac", (1, 0, 0)),
        ("abc", "abbc", (0, 1, 0)),
        ("abc", "bca", (0, 0, 1)),
        ("abc", "cba", (0, 0, 2)),
        ("abc", "", (3, 0, 0)),
        ("abc", "abcx", (0, 1, 0)),
        ("aab", "aba", (0, 0, 1)),
        ("aab", "ab", (1, 0, 0)),
    ],
)
def test_a_history_tells_what_was_lost_doubled_and_out_of_order(sent, received, expected) -> None:
    assert check_history(sent, iter(received)) == expected
