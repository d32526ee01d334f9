"""Live views with each kind of kernel: how ipykernel hands over a widget's messages has changed with its versions."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync

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


@pytest.fixture(scope="session", autouse=True)
def jupyters_own_loop() -> None:
    """jupyter_client keeps an event loop for the life of the process: it is there before leaks are counted."""

    async def nothing() -> None: ...

    run_sync(nothing)()


class Front:
    """A front end with one live view, which takes its pictures as messages and confirms each."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client, self.subshell = client, None
        self.comm = ""
        self.pictures = 0
        self.idle: set[str] = set()
        self.outputs: dict[str, list[str]] = {}

    def run(self, code: str) -> str:
        """Begin a cell; `wait` waits for its end."""
        return str(self.client.execute(code))

    def wait(self, cell: str) -> str:
        self.until(lambda: cell in self.idle, "the cell has not ended")
        return "\n".join(self.outputs.get(cell, []))

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

    def say(self, content: dict[str, Any]) -> None:
        """A message of the widget, the way JupyterLab sends it: on the widget's own subshell where the kernel has such."""
        data = {"comm_id": self.comm, "data": {"method": "custom", "content": content}}
        message = self.client.session.msg("comm_msg", data)
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def open_subshell(self) -> None:
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        self.subshell = self.client.get_control_msg(timeout=PATIENCE)["content"]["subshell_id"]

    def _take(self, kind: str, content: dict[str, Any], parent: str) -> None:
        if kind == "status" and content["execution_state"] == "idle":
            self.idle.add(parent)
        elif kind == "stream":
            self.outputs.setdefault(parent, []).append(content["text"].strip())
        elif kind == "error":
            self.outputs.setdefault(parent, []).append(f"{content['ename']}: {content['evalue']}")
        elif kind == "comm_open" and "_esm" in content["data"].get("state", {}):
            self.comm = content["comm_id"]
        elif kind == "comm_msg" and content["comm_id"] == self.comm:
            said = content["data"].get("content", {})
            if said.get("type") == "picture":
                self.pictures += 1
                self.say({"type": "ack", "view": "test", "n": said["n"], "spent": 1.0})


@pytest.fixture(params=["6.31.0", "7.1.0", "7.3.0", "installed"])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Front]:
    """A kernel of this version, and a front end."""
    environment = dict(os.environ)
    if request.param != "installed":
        folder = KERNELS / request.param
        assert folder.is_dir(), f"ipykernel {request.param} is not in {KERNELS}: `make test` puts it there"
        environment["PYTHONPATH"] = str(folder)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path), env=environment)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    made = Front(client)
    shown = made.wait(made.run("import ipykernel; print(ipykernel.__version__)"))
    assert request.param in ("installed", shown)
    yield made
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_a_view_gets_pictures_while_a_cell_is_busy(front: Front) -> None:
    assert front.wait(front.run(SHOW)) == ""
    assert front.comm
    first = int(front.wait(front.run("print(ipykernel.version_info[0])")))
    if first >= 7:
        front.open_subshell()
    front.say({"type": "hello", "view": "test", "h264": False, "width": 160})
    front.more_pictures(20)
    busy = front.run("import time\nfor _ in range(30): time.sleep(0.1)\nprint('done')")
    if first >= 7:  # a widget has a shell of its own
        front.more_pictures(20)
        assert busy not in front.idle, "the pictures have waited for the cell"
    assert front.wait(busy) == "done"  # 6.x: what the widget says waits for the cell, nothing is lost
    front.more_pictures(20)
    assert front.wait(front.run("run.stop(); preview.shut(); print(run.running)")) == "False"


def test_measuring_says_what_to_do_where_a_waiting_cell_is_deaf(front: Front) -> None:
    measure = "import avlab\navlab.measure_glass_to_glass(1, size=(160, 120), timeout=1)"
    said = front.wait(front.run(measure))
    version = front.wait(front.run("import ipykernel; print(ipykernel.__version__)"))
    if version.startswith("6"):
        assert "ConfigError: this kernel hears the browser only between cells" in said
    else:
        assert "TimedOut: no browser has shown the view within 1 s" in said
    assert "wait=False" in said
