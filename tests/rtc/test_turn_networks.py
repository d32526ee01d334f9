"""Two networks without a route between them, and a TURN server that stands in both: whatever it lets through is found.

The namespaces are made and removed here; that needs root.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from turn_server import SECRET, need, turnserver

from avlab.media.rtc.turn import ShortLived

PEER = Path(__file__).with_name("turn_peer.py")
PORT, TLS_PORT = 3478, 443
RELAY = "10.91.3.1"  # neither network has a route to it: only through the server are its relays reached
BLOCKED = {"udp": "ipproto udp dport 3478", "tcp": "ipproto tcp dport 3478"}


def ip(*words: str) -> None:
    done = subprocess.run([need("ip", "iproute2"), *words], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Networks:
    """Namespaces ``a`` and ``b``, each with a wire to ``t``, which forwards nothing."""

    def __init__(self) -> None:
        self.names = {each: f"avlab-{os.getpid()}-{each}" for each in "abt"}

    def __enter__(self) -> "Networks":
        self.held = ExitStack()
        try:
            for name in self.names.values():
                ip("netns", "add", name)
                self.held.callback(ip, "netns", "del", name)  # takes its interfaces along
                ip("-n", name, "link", "set", "lo", "up")
            for number, each in enumerate("ab", 1):
                here, there = self.names[each], self.names["t"]
                ip("-n", here, "link", "add", "wire", "type", "veth", "peer", "name", f"to-{each}", "netns", there)
                ip("-n", here, "addr", "add", f"10.91.{number}.2/24", "dev", "wire")
                ip("-n", there, "addr", "add", f"10.91.{number}.1/24", "dev", f"to-{each}")
                ip("-n", here, "link", "set", "wire", "up")
                ip("-n", there, "link", "set", f"to-{each}", "up")
            ip("-n", self.names["t"], "addr", "add", f"{RELAY}/32", "dev", "lo")
            subprocess.run([*self.inside("t"), "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"], check=True)
        except BaseException:
            self.held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.held.close()

    def inside(self, each: str) -> list[str]:
        return [need("ip", "iproute2"), "netns", "exec", self.names[each]]

    @contextmanager
    def blocked(self, *ways: str):
        """What comes for the server these ways vanishes, as behind a firewall."""
        name = self.names["t"]
        with ExitStack() as stack:
            if ways:  # rules that stand before the table of own addresses
                ip("-n", name, "rule", "add", "pref", "10", "lookup", "local")
                ip("-n", name, "rule", "del", "pref", "0")
                stack.callback(ip, "-n", name, "rule", "del", "pref", "10")
                stack.callback(ip, "-n", name, "rule", "add", "pref", "0", "lookup", "local")
            for way in ways:
                rule = ("pref", "5", *BLOCKED[way].split(), "blackhole")
                ip("-n", name, "rule", "add", *rule)
                stack.callback(ip, "-n", name, "rule", "del", *rule)
            yield


@pytest.fixture(scope="module")
def networks():
    if os.geteuid() != 0:
        pytest.fail("networks of a test's own need root: run this test as root")
    with Networks() as made:
        yield made


@pytest.fixture(scope="module")
def turn(networks, tmp_path_factory):
    with turnserver(
        tmp_path_factory.mktemp("turn"),
        (RELAY, "10.91.1.1", "10.91.2.1"),
        inside=networks.inside("t"),
        port=PORT,
        tls_port=TLS_PORT,
    ) as server:
        yield server


def meet(networks, *, servers, authority: Path | None = None) -> list[dict]:
    """What two peers say of their connection, the one in ``a`` first. servers: for each namespace's server address."""
    environment = {**os.environ, **({"SSL_CERT_FILE": str(authority)} if authority else {})}
    environment.pop("AVLAB_ICE_SERVERS", None)
    peers = []
    try:
        for role, each, address in (("offer", "a", "10.91.1.1"), ("answer", "b", "10.91.2.1")):
            command = [*networks.inside(each), sys.executable, PEER, role, json.dumps(servers(address))]
            pipe = subprocess.PIPE
            peers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        first, second = peers
        dog = threading.Timer(60, lambda: [peer.kill() for peer in peers])
        dog.start()
        try:
            tell(second, hear(first)["text"])
            tell(first, hear(second)["text"])
            said = [hear(first), hear(second)]
            for peer in peers:
                tell(peer, "done")
                assert peer.wait(20) == 0
        finally:
            dog.cancel()
            dog.join()
        return said
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
            peer.stdin.close()
            peer.stdout.close()


def hear(peer) -> dict:
    line = peer.stdout.readline()
    assert line, "the peer has ended or hangs: see its errors above"
    return json.loads(line)


def tell(peer, text: str) -> None:
    peer.stdin.write(text + "\n")
    peer.stdin.flush()


@pytest.mark.parametrize(("blocked", "way"), [((), "udp"), (("udp",), "tcp"), (("udp", "tcp"), "tls")])
def test_peers_of_two_networks_meet_over_the_best_way_that_is_open(networks, turn, blocked, way):
    def servers(address):
        urls = [f"turn:{address}:{PORT}", f"turn:{address}:{PORT}?transport=tcp", f"turns:{address}:{TLS_PORT}"]
        return ShortLived(urls, SECRET)()

    with networks.blocked(*blocked):
        said = meet(networks, servers=servers, authority=turn.authority)
    assert [each["heard"] for each in said] == ["from answer", "from offer"], said
    for each in said:
        assert each["path"] == f"turn {way}"
        assert each["reason"] == f"Connected through a relay (turn {way})."


def test_without_a_relay_each_side_says_why_there_is_no_path(networks, turn):
    def servers(address):
        refused = {"urls": f"turn:{address}:{PORT}", "username": "me", "credential": "not-for-logs"}
        return [refused] if address == "10.91.1.1" else []

    refused, without = meet(networks, servers=servers)
    for each in (refused, without):
        assert each["heard"] == "" and each["path"] == "" and "not-for-logs" not in each["reason"]
    none = "did not connect within 15 s: there is no direct path to the other side, and "
    assert f"{none}no TURN server works: turn:10.91.1.1:{PORT} refuses the credentials: they are wrong" in refused["reason"]
    assert f"{none}there is no TURN server in ice_servers." in without["reason"]
