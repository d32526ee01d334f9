"""What doctor says of live media: a sentence for each part, and for each TURN server what a real allocation has shown."""

import json
import re
import socket

import pytest
from aioice import ice
from turn_server import SECRET, turnserver

from avlab import cli
from avlab.media import support
from avlab.media.rtc import report


@pytest.fixture(scope="module")
def turn(tmp_path_factory):
    with turnserver(tmp_path_factory.mktemp("turn")) as server:
        yield server


def facts(**environment):
    return {fact.part: fact for fact in report.live_media(environment=environment)}


def test_each_part_has_a_sentence():
    found = facts()
    assert list(found)[:2] == ["aiortc", "anywidget"]
    assert found["subshells"].ok and "while a cell runs" in found["subshells"].state
    assert found["H.264"].ok and "libx264" in found["H.264"].state
    assert found["TURN"].ok and "no server is configured" in found["TURN"].state
    assert found["direct path"].state
    sentence = found["path"].state
    assert sentence.startswith("live pictures go directly to who reaches "), sentence
    assert sentence.endswith("to others over the notebook's own connection, because there is no TURN server in ice_servers")


def test_what_is_missing_comes_with_a_remedy(monkeypatch):
    def version(name):
        if name == "anywidget":
            raise report.PackageNotFoundError(name)
        return {"ipykernel": "6.31.0"}.get(name, "1.0")

    monkeypatch.setattr(report, "version", version)
    monkeypatch.setattr(support, "coders", lambda: {"encode libx264": False})
    monkeypatch.setattr(ice, "get_host_addresses", lambda *_: ["127.0.0.1", "fe80::1"])
    found = facts()
    for part, remedy in {
        "anywidget": "pip install 'avlab[notebook]'",
        "subshells": "ipykernel>=7",
        "H.264": "pip install",
        "direct path": "TURN",
    }.items():
        assert not found[part].ok and remedy in found[part].remedy and remedy in str(found[part])


def test_own_addresses_are_named(monkeypatch):
    monkeypatch.setattr(ice, "get_host_addresses", lambda *_: ["127.0.0.1", "10.0.0.5", "2001:db8::5"])
    assert "10.0.0.5 or 2001:db8::5" in facts()["direct path"].state


def test_each_configured_server_is_asked_and_no_secret_is_told(turn):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        mute = f"turn:127.0.0.1:{silent.getsockname()[1]}"
        (udp, tls) = turn.urls("udp", "tls")
        found = facts(AVLAB_ICE_SERVERS=f"{udp} {mute} {tls}", AVLAB_TURN_SECRET=SECRET)
    assert found[udp].ok and re.search(r"works over UDP \(\d+ ms", found[udp].state)
    assert found["path"].state.endswith(f"to others through {udp}")
    assert found[mute].state == "does not answer within 2 s" and not found[mute].ok
    assert "certificate that is not accepted" in found[tls].state
    assert SECRET not in str(found)
    wrong = facts(AVLAB_ICE_SERVERS=udp, AVLAB_TURN_USERNAME="me", AVLAB_TURN_CREDENTIAL="hunter2")
    assert f"because no TURN server works: {udp} refuses the credentials" in wrong["path"].state
    assert "refuses the credentials" in wrong[udp].state and "hunter2" not in str(wrong)


def test_the_command_asks_the_servers_it_is_given(turn, monkeypatch, capsys):
    monkeypatch.setenv("AVLAB_TURN_SECRET", SECRET)
    (tcp,) = turn.urls("tcp")
    assert cli.main(["doctor", "--json", "--ice-server", tcp]) == 0
    (found,) = (each for each in json.loads(capsys.readouterr().out) if each["part"] == tcp)
    assert found["ok"] and "works over TCP" in found["state"]
    assert cli.main(["doctor", "--ice-server", "http://x"]) == 0
    assert "is no server" in " ".join(capsys.readouterr().out.split())
