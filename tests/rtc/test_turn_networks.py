"""Two networks without a route between them, and a TURN server that stands in both: whatever it lets through is found.

The namespaces are made and removed here; that needs root.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from networks import PORT, RELAY, SERVER, TLS_PORT, Networks
from turn_server import SECRET, need, turnserver

from avlab.media.rtc.turn import ShortLived

PEER, PAGE, ROOM = (Path(__file__).with_name(f"turn_{each}.py") for each in ("peer", "page", "room"))
URLS = [f"turn:{SERVER}:{PORT}", f"turn:{SERVER}:{PORT}?transport=tcp", f"turns:{SERVER}:{TLS_PORT}"]


@pytest.fixture(scope="module")
def networks():
    with Networks() as made:
        yield made


@pytest.fixture(scope="module")
def turn(networks, tmp_path_factory):
    folder, inside = tmp_path_factory.mktemp("turn"), networks.inside("t")
    with turnserver(folder, (RELAY, SERVER), inside=inside, port=PORT, tls_port=TLS_PORT) as server:
        yield server


def environment(authority: Path) -> dict[str, str]:
    named = {name: value for name, value in os.environ.items() if not name.startswith(("AVLAB_ICE", "AVLAB_TURN"))}
    return {**named, "SSL_CERT_FILE": str(authority)}


def meet(networks, authority: Path, *servers: list[dict]) -> list[dict]:
    """What two peers say of their connection, the one in ``a`` first. servers: of the first and of the second."""
    peers = []
    try:
        for role, each, given in zip(("offer", "answer"), "ab", servers, strict=True):
            command = [*networks.inside(each), sys.executable, PEER, role, json.dumps(given)]
            pipe = subprocess.PIPE
            peers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(authority)))
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
    servers = ShortLived(URLS, SECRET)()
    with networks.blocked(*blocked):
        said = meet(networks, turn.authority, servers, servers)
    assert [each["heard"] for each in said] == ["from answer", "from offer"], said
    for each in said:
        assert each["path"] == f"turn {way}"
        assert each["reason"] == f"Connected through a relay (turn {way})."


def test_without_a_relay_each_side_says_why_there_is_no_path(networks, turn):
    wrong = [{"urls": URLS[0], "username": "me", "credential": "not-for-logs"}]
    refused, without = meet(networks, turn.authority, wrong, [])
    for each in (refused, without):
        assert each["heard"] == "" and each["path"] == "" and "not-for-logs" not in each["reason"]
    none = "did not connect within 15 s: there is no direct path to the other side, and "
    assert f"{none}no TURN server works: {URLS[0]} refuses the credentials: they are wrong" in refused["reason"]
    assert f"{none}there is no TURN server in ice_servers." in without["reason"]


@pytest.mark.parametrize(
    ("blocked", "urls", "way"), [((), URLS, "udp"), (("udp",), URLS, "tcp"), (("udp", "tcp"), URLS, "tls"), ((), [], "")]
)
def test_a_view_in_another_network_climbs_the_ladder_and_names_its_rung(networks, turn, tmp_path, blocked, urls, way):
    """The kernel's side in ``a``, Chromium in ``b``; their messages go over a pipe, as a notebook's would over its server."""
    browser = inside(networks, "b", tmp_path)
    servers = ShortLived(urls, SECRET)() if urls else []
    none = "the direct path did not stand, and there is no TURN server in ice_servers."
    says = f"Connected through TURN {way.upper()}." if way else none
    trust = f"--ignore-certificate-errors-spki-list={fingerprint(turn.authority)}"  # Chromium reads no SSL_CERT_FILE
    command = [*networks.inside("a"), sys.executable, PAGE, str(browser), json.dumps(servers), says, trust]
    with networks.blocked(*blocked):
        done = subprocess.run(
            command,
            env=environment(turn.authority),
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["text"].endswith(says), said
    first, last = said["numbers"]
    assert last > first + 15, said
    got = said["got"]
    if way:
        assert (got["state"], got["local"], got["relay"]) == ("connected", "relay", way), got
        assert got["bytes"] > got["video"] > 0 and got["pictures"] > 15, got
    else:
        assert got["bytes"] == got["pictures"] == 0 and got["h264"] > 15, got


@pytest.mark.parametrize(("blocked", "way"), [((), "udp"), (("udp", "tcp"), "tls")])
def test_the_served_page_in_another_network_uses_the_relays_of_the_script_in_its_room(networks, turn, tmp_path, blocked, way):
    """The signalling server stands where both networks reach it, the script in ``a``, Chromium in ``b``."""
    secret = tmp_path / "secret"
    secret.write_text("a secret of the test")
    serve = [sys.executable, "-m", "avlab", "signal", "--host", SERVER, "--port", "8765", "--secret-file", secret]
    serve += ["--cert", turn.authority, "--key", turn.authority.with_name("key.pem"), "--invite", "0"]
    signal = subprocess.Popen([*networks.inside("t"), *serve], stdout=subprocess.PIPE, text=True)
    try:
        assert f"serving https://{SERVER}:8765" in signal.stdout.readline()
        with networks.blocked(*blocked):
            command = [*networks.inside("a"), sys.executable, ROOM, f"https://{SERVER}:8765", secret.read_text()]
            trust = f"--ignore-certificate-errors-spki-list={fingerprint(turn.authority)}"
            command += [str(inside(networks, "b", tmp_path)), json.dumps(ShortLived(URLS, SECRET)()), str(turn.authority), trust]
            done = subprocess.run(command, env=environment(turn.authority), capture_output=True, text=True, timeout=90)
    finally:
        signal.terminate()
        signal.communicate(timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    said = json.loads(done.stdout)
    first, last = said["numbers"]
    assert last > first + 15, said
    assert said["text"] == f"Connected through a relay (turn {way}).", said
    assert (said["got"]["state"], said["got"]["local"], said["got"]["relay"]) == ("connected", "relay", way), said


def inside(networks, each: str, folder: Path) -> Path:
    """A program that starts Chromium in a namespace."""
    browser = folder / "chromium"
    browser.write_text(f'#!/bin/sh\nexec {" ".join(networks.inside(each))} {need("chromium", "chromium")} "$@"\n')
    browser.chmod(0o755)
    return browser


def fingerprint(certificate: Path) -> str:
    """Of its public key, as Chromium's flag wants it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    plain = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(plain).digest()).decode()
