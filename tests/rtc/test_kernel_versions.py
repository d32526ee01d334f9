"""Live views with each kind of kernel: how ipykernel hands over a widget's messages has changed with its versions."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import av
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync

from avlab.media.rtc.encoder import StillEncoder

PATIENCE = 60
KERNELS = Path(sys.prefix) / "kernels"
"""Where `make test` puts the versions besides the installed one."""
SHOW = """
import ipykernel, avlab
source = avlab.TestSource(size=(160, 120), rate=30, audio=False, realtime=True)
preview = avlab.Preview()
run = (source >> preview).start()
preview
"""
CAMERA = """
import av, avlab
class Look(avlab.Node):
    def process(self, frame: av.VideoFrame):
        sizes.append((frame.width, frame.height))
sizes, camera = [], avlab.Camera(size=(160, 120))
run = (camera >> Look()).start()
"""

BUSY = """
import os, time
end = time.monotonic() + {seconds}
while time.monotonic() < end and not os.path.exists("enough"):
    time.sleep(0.1)
print("done")
"""

SLOW = """
import time
from ipykernel.comm.comm import BaseComm
def publish(*args, publish=BaseComm.publish_msg, **keys):
    publish(*args, **keys)
    time.sleep(0.1)
BaseComm.publish_msg = publish
"""
"""The answer of the front end is there before publishing has returned, as it may be on a busy machine."""

MEET = """
import select
kernel = get_ipython().kernel
shell, channel = kernel.shell_stream.socket, kernel.shell_channel_thread
replies = channel.manager._main_to_shell_channel.to_stream
send = replies._recv_callback
def meet(reply):
    replies._recv_callback = send
    if select.select([shell.FD], [], [], 0.1)[0]:
        send(reply)
    else:
        channel.io_loop.add_callback(meet, reply)
replies._recv_callback = meet
"""
"""The cell's reply is sent at the moment when a message has come: ipykernel 7.0 to 7.3 alone reads none any more."""


@pytest.fixture
def enough(tmp_path: Path) -> Path:
    """Made, it ends a busy cell."""
    return tmp_path / "enough"


@pytest.fixture(scope="session", autouse=True)
def jupyters_own_loop() -> None:
    """jupyter_client keeps an event loop for the life of the process: it is there before leaks are counted."""

    async def nothing() -> None: ...

    run_sync(nothing)()


class Front:
    """A front end with one widget: a live view, whose pictures it takes as messages and confirms, or a camera, which sends one when
    the one before was confirmed."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client, self.subshell = client, None
        self.comm = ""
        self.pictures = 0
        self.idle: set[str] = set()
        self.replied: set[str] = set()
        self.outputs: dict[str, list[str]] = {}

    def run(self, code: str) -> str:
        """Begin a cell; `wait` waits for its end."""
        return str(self.client.execute(code))

    def wait(self, cell: str) -> str:
        """What a cell has printed, when all of it and the reply have come."""
        self.until(lambda: cell in self.idle & self.replied, "the cell has not ended")
        return "".join(self.outputs.get(cell, [])).strip()

    def more_pictures(self, count: int) -> None:
        wanted = self.pictures + count
        self.until(lambda: self.pictures >= wanted, "too few pictures")

    def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, otherwise
            with suppress(Empty):
                message = self.client.get_iopub_msg(timeout=0.2)
                self._take(message["msg_type"], message["content"], message["parent_header"].get("msg_id", ""))
            while self.client.shell_channel.msg_ready():
                self.replied.add(self.client.get_shell_msg()["parent_header"]["msg_id"])

    def say(self, content: dict[str, Any], *buffers: bytes) -> None:
        """A message of the widget, the way JupyterLab sends it: on the widget's own subshell where the kernel has such."""
        data = {"comm_id": self.comm, "data": {"method": "custom", "content": content}}
        message = self.client.session.msg("comm_msg", data)
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.session.send(self.client.shell_channel.socket, message, buffers=list(buffers))

    def open_subshell(self) -> None:
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        self.subshell = self.client.get_control_msg(timeout=PATIENCE)["content"]["subshell_id"]

    def _take(self, kind: str, content: dict[str, Any], parent: str) -> None:
        if kind == "status" and content["execution_state"] == "idle":
            self.idle.add(parent)
        elif kind == "stream":
            self.outputs.setdefault(parent, []).append(content["text"])
        elif kind == "error":
            self.outputs.setdefault(parent, []).append(f"{content['ename']}: {content['evalue']}")
        elif kind == "comm_open" and "_esm" in content["data"].get("state", {}):
            self.comm = content["comm_id"]
        elif kind == "comm_msg" and content["comm_id"] == self.comm:
            said = content["data"].get("content", {})
            if said.get("type") == "picture":
                self.pictures += 1
                self.say({"type": "ack", "view": "test", "n": said["n"], "spent": 1.0})
            elif said.get("type") == "ack":
                self.pictures += 1
                self.capture()

    def capture(self) -> None:
        """The camera's next picture."""
        at = time.monotonic() * 1000
        picture = {"type": "picture", "view": "test", "run": 1, "form": "jpeg", "n": self.pictures + 1, "at": at, "page": at}
        self.say(picture, StillEncoder(0).encode(av.VideoFrame(160, 120, "yuvj420p"))[0])


@pytest.fixture(params=["6.31.0", "7.1.0", "7.3.0", "installed"])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Front]:
    """A kernel of this version, and a front end."""
    environment = dict(os.environ)
    if request.param != "installed":
        folder = KERNELS / request.param
        assert folder.is_dir(), f"ipykernel {request.param} is not in {KERNELS}: `make test` puts it there"
        environment["PYTHONPATH"] = str(folder)
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=str(tmp_path / "kernel"))  # no port that others may take
    manager.start_kernel(cwd=str(tmp_path), env=environment)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    made = Front(client)
    shown = made.wait(made.run("import ipykernel; print(ipykernel.__version__)"))
    assert request.param in ("installed", shown)
    made.wait(made.run(SLOW))
    yield made
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_a_view_gets_pictures_while_a_cell_is_busy(front: Front, enough: Path) -> None:
    assert front.wait(front.run(SHOW)) == ""
    assert front.comm
    first = int(front.wait(front.run("print(ipykernel.version_info[0])")))
    if first >= 7:
        front.open_subshell()
    front.say({"type": "hello", "view": "test", "h264": False, "width": 160})
    front.more_pictures(20)
    busy = front.run(BUSY.format(seconds=3) if first < 7 else MEET + BUSY.format(seconds=PATIENCE))
    if first >= 7:  # a widget has a shell of its own
        front.more_pictures(20)
        assert busy not in front.idle, "the pictures have waited for the cell"
        enough.touch()
    assert front.wait(busy) == "done"  # 6.x: what the widget says waits for the cell, nothing is lost
    front.more_pictures(20)
    assert front.wait(front.run("run.stop(); preview.shut(); print(run.running)")) == "False"


def test_a_camera_brings_pictures_while_a_cell_is_busy(front: Front, enough: Path) -> None:
    assert front.wait(front.run(CAMERA)) == ""
    front.until(lambda: bool(front.comm), "the camera is not shown")
    first = int(front.wait(front.run("import ipykernel\nprint(ipykernel.version_info[0])")))
    if first >= 7:
        front.open_subshell()
    front.say({"type": "hello", "view": "test"})
    front.say({"type": "path", "view": "test", "path": "messages", "run": 1})
    front.capture()
    front.more_pictures(20)
    busy = front.run(BUSY.format(seconds=3) if first < 7 else MEET + BUSY.format(seconds=PATIENCE))
    if first >= 7:
        front.more_pictures(20)
        assert busy not in front.idle, "the pictures have waited for the cell"
        enough.touch()
    assert front.wait(busy) == "done"
    front.more_pictures(20)
    sizes = front.wait(front.run("run.stop()\nprint(len(sizes) > 30, set(sizes))"))
    assert sizes == "True {(160, 120)}"


def test_measuring_says_what_to_do_where_a_waiting_cell_is_deaf(front: Front) -> None:
    measure = "import avlab\navlab.measure_glass_to_glass(1, size=(160, 120), timeout=1)"
    said = front.wait(front.run(measure))
    version = front.wait(front.run("import ipykernel; print(ipykernel.__version__)"))
    if version.startswith("6"):
        assert "ConfigError: this kernel hears the browser only between cells" in said
    else:
        assert "TimedOut: no browser has shown the view within 1 s" in said
    assert "wait=False" in said
