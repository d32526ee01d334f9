"""The relay between real sockets: what arrives, in which order, and what an outage does."""

import socket
import threading

import pytest

from avlab.core.clock import FakeClock
from avlab.core.errors import ConfigError
from avlab.testing.between import PeerRelay
from avlab.testing.fate import HELD, Fate, Faults
from avlab.testing.faults import CLIENTS, UdpRelay

PATIENCE = 10.0  # seconds until a packet counts as lost where it should come
END = b"end"


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        yield made


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(PATIENCE)
        yield made


def through(relay, client, server, count):
    """Send numbers, and then ends until one gets through; what has come."""
    for number in range(count):
        client.sendto(str(number).encode(), relay.address)
        if number % 50 == 49:
            settled(relay, number + 1)
    relay.change()
    client.sendto(END, relay.address)
    found = []
    while (data := server.recv(100)) != END:
        found.append(int(data))
    return found


def settled(relay, count):
    """Until the relay has taken so many packets: the system may lose what comes too fast."""
    rest = threading.Event()
    for _ in range(int(PATIENCE / 0.002)):
        if relay.statistics().forth.received >= count:
            return
        rest.wait(0.002)
    raise AssertionError(relay.statistics())


def test_a_relay_without_faults_passes_all_in_order_both_ways(server, client):
    with UdpRelay(server.getsockname()) as relay:
        assert through(relay, client, server, 500) == list(range(500))
        client.sendto(b"ask", relay.address)
        _, seen = server.recvfrom(100)
        for number in range(100):
            server.sendto(str(number).encode(), seen)
        assert [int(client.recv(100)) for _ in range(100)] == list(range(100))
        figures = relay.statistics()
        assert (figures.forth.received, figures.forth.passed) == (502, 502)
        assert (figures.back.received, figures.back.passed) == (100, 100)


def test_packets_are_lost_and_doubled_as_the_seed_decides(server, client):
    faults = {"loss": 0.2, "burst": 3.0, "duplicate": 0.1}
    fate = Fate(Faults(**faults), "7:forth")
    expected = [number for number in range(1000) for _ in fate.next()]
    with UdpRelay(server.getsockname(), seed=7, **faults) as relay:
        assert through(relay, client, server, 1000) == expected
        forth = relay.statistics().forth
        assert forth.lost == 1000 - len(set(expected))
        assert forth.doubled == len(expected) - len(set(expected))


def test_the_way_back_has_dice_of_its_own(server, client):
    fate = Fate(Faults(loss=0.3), "7:back")
    expected = [number for number in range(200) if fate.next()]
    with UdpRelay(server.getsockname(), seed=7) as relay:
        client.sendto(b"ask", relay.address)
        _, seen = server.recvfrom(100)
        relay.change(loss=0.3)
        for number in range(200):
            server.sendto(str(number).encode(), seen)
        assert [int(client.recv(100)) for _ in expected] == expected


def test_a_packet_that_is_held_back_comes_after_the_next(server, client):
    clock = FakeClock()
    with UdpRelay(server.getsockname(), reorder=1.0, clock=clock) as relay:
        client.sendto(b"0", relay.address)
        settled(relay, 1)
        relay.change()
        client.sendto(b"1", relay.address)
        assert server.recv(100) == b"1"
        clock.advance(HELD)
        assert server.recv(100) == b"0"


def test_jitter_changes_the_order_and_loses_nothing(server, client):
    with UdpRelay(server.getsockname(), jitter=0.05) as relay:
        for number in range(100):
            client.sendto(str(number).encode(), relay.address)
        found = [int(server.recv(100)) for _ in range(100)]
    assert found != sorted(found) == list(range(100))


def test_a_narrow_network_passes_what_fits_and_its_queue_and_no_more(server, client):
    clock = FakeClock()
    with UdpRelay(server.getsockname(), bandwidth=96_000, clock=clock) as relay:
        for _ in range(3):  # 19 packets are 0.198 s, and the next is the last that need not wait for more than 0.2 s
            before = relay.statistics().forth
            for _ in range(50):
                client.sendto(bytes(1000), relay.address)
            settled(relay, before.received + 50)
            lost = relay.statistics().forth.lost - before.lost
            assert lost == 30
            clock.advance(0.3)
            client.sendto(b".", relay.address)  # wakes it: this clock does not
            clock.advance(0.3)
            settled(relay, before.received + 51)


def test_nothing_passes_while_it_is_cut(server, client):
    clock = FakeClock()
    with UdpRelay(server.getsockname(), delay=0.05, clock=clock) as relay:
        client.sendto(b"under way", relay.address)
        settled(relay, 1)
        relay.cut()
        client.sendto(b"cut", relay.address)
        settled(relay, 2)
        relay.heal()
        client.sendto(END, relay.address)
        settled(relay, 3)
        clock.advance(0.05)
        assert server.recv(100) == END
        assert (relay.statistics().forth.cut, relay.statistics().forth.passed) == (2, 1)


def test_only_the_target_answers_and_each_client_has_its_own_way(server, client):
    with UdpRelay(server.getsockname()) as relay, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.settimeout(PATIENCE)
        ways = []
        for each, text in ((client, b"one"), (other, b"two")):
            each.sendto(text, relay.address)
            ways.append(server.recvfrom(100)[1])
        assert ways[0] != ways[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"stranger", ("127.0.0.1", ways[0][1]))
        server.sendto(b"to one", ("127.0.0.1", ways[0][1]))
        server.sendto(b"to two", ("127.0.0.1", ways[1][1]))
        assert (client.recv(100), other.recv(100)) == (b"to one", b"to two")


def test_senders_beyond_the_bound_are_counted_and_lost(server):
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS + 1)]
    try:
        with UdpRelay(server.getsockname()) as relay:
            for number, each in enumerate(clients):
                each.sendto(b".", relay.address)
                settled(relay, number + 1)
            assert relay.statistics().forth.overflowed == 1
            assert relay.statistics().forth.passed == CLIENTS
    finally:
        for each in clients:
            each.close()


def test_a_closed_relay_leaves_nothing(server, client):
    relay = UdpRelay(server.getsockname(), delay=5.0)
    client.sendto(b"0", relay.address)
    settled(relay, 1)
    relay.close()
    relay.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(relay.address)


@pytest.mark.parametrize("wrong", [("localhost", 1), ("", 1)])
def test_a_target_that_is_no_address_is_refused(wrong):
    with pytest.raises(ConfigError, match="target"):
        UdpRelay(wrong)


SDP = "\r\n".join([
    "v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 96",
    "a=candidate:1 1 udp 2130706431 127.0.0.1 5001 typ host",
    "a=candidate:2 1 UDP 1694498815 127.0.0.1 5002 typ srflx raddr 10.0.0.1 rport 7 generation 0",
    "a=candidate:3 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active",
    "a=candidate:4 1 udp 2130706431 5f0c.local 5003 typ host",
    "a=end-of-candidates", "m=video 9 UDP/TLS/RTP/SAVPF 97",
    "a=candidate:1 1 udp 2130706431 127.0.0.1 5001 typ host", "",
])  # fmt: skip


def test_a_description_names_relays_instead_of_its_peer():
    with PeerRelay(seed=1, loss=0.1) as relay:
        shown = relay.expose(SDP)
        first, second = (each.address[1] for each in relay.relays)
        assert [each.target[1] for each in relay.relays] == [5001, 5002]
        lines = [line for line in shown.splitlines() if "candidate" in line]
        assert lines == [
            f"a=candidate:1 1 udp 2130706431 127.0.0.1 {first} typ host",
            f"a=candidate:2 1 udp 1694498815 127.0.0.1 {second} typ host generation 0",
            f"a=candidate:1 1 udp 2130706431 127.0.0.1 {first} typ host",
        ]
        trickled = {"candidate": "candidate:1 1 udp 1 127.0.0.1 5001 typ host", "sdpMid": "0"}
        assert relay.expose_candidate(trickled) == {
            "candidate": f"candidate:1 1 udp 1 127.0.0.1 {first} typ host",
            "sdpMid": "0",
        }
        assert relay.expose_candidate({"candidate": "candidate:1 1 udp 1 a.local 5001 typ host"}) is None
        assert "candidate" not in relay.hide(SDP) and relay.hide(SDP).startswith("v=0\r\nm=audio")


def test_an_outage_holds_for_relays_that_come_later(server, client):
    with PeerRelay() as relay:
        relay.cut()
        host, port = server.getsockname()
        relay.expose(f"v=0\r\na=candidate:1 1 udp 1 {host} {port} typ host\r\n")
        (one,) = relay.relays
        client.sendto(b"lost", one.address)
        settled(one, 1)
        relay.heal()
        client.sendto(END, one.address)
        assert server.recv(100) == END
        assert relay.statistics()[host, port].forth.cut == 1
    with pytest.raises(ConfigError, match="closed"):
        relay.expose("v=0\r\na=candidate:1 1 udp 1 127.0.0.1 1 typ host\r\n")
