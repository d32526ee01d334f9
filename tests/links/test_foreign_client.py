"""The contract of protos/ and docs/wire.md, held by a client in another language (Node.js, grpc-js) against a real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import served

TESTS = Path(__file__).parents[1]
MODULES = Path(sys.prefix, "node", "node_modules")
FRAMES = 40


@pytest.fixture(scope="module")
def seen():
    """What the client has seen in one run."""
    node = shutil.which("node")
    assert node and MODULES.is_dir(), "Node.js and grpc-js are missing: make test installs them"
    with served() as (url, _):
        command = [
            node,
            str(TESTS / "wire" / "node" / "client.js"),
            url.removeprefix("grpc://"),
            str(TESTS.parent / "protos"),
        ]
        environment = os.environ | {"NODE_PATH": str(MODULES)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_learns_what_the_executor_is(seen):
    assert seen["about"]["wire"] == 1
    assert "Resize" in seen["about"]["nodes"]
    assert set(seen["about"]["tiers"]) == {"gvisor", "namespaces", "landlock", "process"}


def test_frames_go_through_a_registered_node(seen):
    """640×360 RGB in, 160×90 out, of the right colour, in order, with their times, never beyond the window."""
    stream = seen["stream"]
    assert stream["failure"] is None
    assert stream["opened"]["has_process"] and stream["opened"]["consumes"] == ["av.video.frame.VideoFrame"]
    assert stream["frames"] == FRAMES and stream["wrong"] == 0
    assert stream["pts"] == list(range(1, FRAMES + 1))
    assert stream["ordinals"] == list(range(1, FRAMES + 2))  # the last one ends the stream
    assert (stream["bases"], stream["tracks"], stream["sizes"]) == (["1/30"], ["video"], ["[160,90]"])
    assert stream["bytes"] == [160 * 90 * 3]
    assert 1 <= stream["most"] <= 4


def test_it_may_close_its_half_when_it_has_said_all(seen):
    frames = list(range(1, FRAMES + 1))
    assert seen["halfClosed"] == {"pts": frames, "last": FRAMES + 1, "failure": None, "status": 0}


def test_one_frame_in_one_call(seen):
    (output,) = seen["execute"]
    assert output == {"codec": "av.VideoFrame", "size": [16, 8], "bytes": 16 * 8 * 3}


def test_source_text_is_sent_and_called(seen):
    source = seen["source"]
    assert (source["before"], source["put"], source["after"]) == ([], 1, 1)
    assert source["failure"] is None
    assert source["results"] == [1, 3, 6]
    assert source["logs"] == "adding 1\nadding 2\nadding 3\n"


def test_refusals_name_their_kind(seen):
    assert seen["refused"]["unknown"]["kind"] == "UnknownNode"
    assert "NoSuchNode" in seen["refused"]["unknown"]["message"]
    assert seen["refused"]["late"]["kind"] == "VersionMismatch"
