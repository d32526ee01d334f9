"""The wire between a kernel and its media process."""

import socket
import threading

import pytest

from avlab.core.errors import LinkClosed, MediaError
from avlab.media import runtime_process
from avlab.media.runtime_process import Child, Wire


@pytest.fixture
def ends():
    mine, other = socket.socketpair()
    wire = Wire(mine)
    yield wire, other
    other.close()
    wire.close()


def test_a_flood_of_pictures_costs_no_order(ends):
    """What a viewer is sent may be dropped where the other side does not read; a stop, or the word of the end, may not."""
    wire, other = ends
    wire.send({"type": "view", "n": 0}, [bytes(8 << 20)])  # fills the socket
    wire.send({"type": "stop"})
    for number in range(1, 2000):
        wire.send({"type": "view", "n": number}, [b"picture"])
    wire.send({"type": "finished"})
    reader, heard = Wire(other), []
    while not heard or heard[-1]["type"] != "finished":
        heard.append(reader.receive()[0])
    assert {"type": "stop"} in heard
    assert heard[-2]["n"] == 1999
    assert len(heard) < 600
    wire.close()
    with pytest.raises(LinkClosed):
        reader.receive()
    reader.close()


def test_what_is_no_json_is_refused_where_it_is_sent_and_the_next_message_goes(ends):
    wire, other = ends
    with pytest.raises(TypeError):
        wire.send({"type": "view", "what": threading.Lock()})
    wire.send({"type": "stop"})
    reader = Wire(other)
    assert reader.receive() == ({"type": "stop"}, [])
    reader.close()


def test_a_length_that_nobody_would_send_is_refused(ends):
    wire, other = ends
    other.sendall(b"\xff" * 8)
    with pytest.raises(MediaError, match="allowed"):
        wire.receive()


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch):
    """The module's check of descriptors says so."""
    monkeypatch.setattr(runtime_process.sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        Child("json.tool")
