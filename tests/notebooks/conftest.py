"""A real IPython kernel in a process of its own, driven over its own protocol as a front end does."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync

ANSI = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE = 60  # seconds for one message of the kernel


@dataclass
class Result:
    """What one cell sent, in order: (kind, text), kind being stdout, stderr, result, display or error."""

    parts: list[tuple[str, str]] = field(default_factory=list)
    data: list[dict[str, str]] = field(default_factory=list)
    stray: list[tuple[str, str]] = field(default_factory=list)  # sent under another cell
    error: str = ""
    seconds: float = 0.0
    after_interrupt: float = 0.0

    def text(self, kind: str = "stdout") -> str:
        return "".join(text for k, text in self.parts if k == kind)

    @property
    def result(self) -> str:
        return self.text("result")

    @property
    def traceback(self) -> str:
        return self.text("error")


class Kernel:
    """One kernel. ``run`` executes a cell and waits for its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.run("%load_ext avlab", ok=True)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    def run(self, code: str, *, ok: bool = False, interrupt: str | None = None) -> Result:
        """Execute a cell. ``ok``: it must not fail. ``interrupt``: press stop once this text has appeared."""
        begin = time.monotonic()
        pressed = 0.0
        sent = self.client.execute(code)
        result = Result()
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            kind, content = message["msg_type"], message["content"]
            mine = message["parent_header"].get("msg_id") == sent
            if kind == "status" and mine and content["execution_state"] == "idle":
                break
            shown = _shown(kind, content)
            if shown is None:
                continue
            (result.parts if mine else result.stray).append(shown)
            if "data" in content:
                result.data.append(content["data"])
            if kind == "error":
                result.error = content["ename"]
            if interrupt and not pressed and interrupt in result.text() + result.text("stderr"):
                pressed = time.monotonic()
                self.manager.interrupt_kernel()
        self.client.get_shell_msg(timeout=PATIENCE)
        end = time.monotonic()
        result.seconds = end - begin
        result.after_interrupt = end - pressed if pressed else 0.0
        assert not (ok and result.error), result.traceback
        return result

    def value(self, code: str) -> str:
        """The text of the cell's last expression; the cell must not fail."""
        return self.run(code, ok=True).result

    def status(self) -> str:
        """What ``%avlab status`` shows first."""
        return self.run("%avlab status", ok=True).data[0]["text/plain"]

    def next_update(self) -> dict[str, str]:
        """What is drawn next in the place of a display, while no cell runs."""
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["msg_type"] == "update_display_data":
                return message["content"]["data"]

    def kill(self) -> None:
        """SIGKILL: nothing in the kernel runs any more."""
        psutil.Process(self.pid).kill()

    def workers(self) -> set[int]:
        """Processes below the kernel's own."""
        return {p.pid for p in psutil.Process(self.pid).children(recursive=True)}

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def _shown(kind: str, content: dict) -> tuple[str, str] | None:
    if kind == "stream":
        return content["name"], content["text"]
    if kind == "execute_result":
        return "result", content["data"]["text/plain"]
    if kind in ("display_data", "update_display_data"):
        return "display", " ".join(sorted(content["data"]))
    if kind == "error":
        return "error", ANSI.sub("", "\n".join(content["traceback"]))
    return None


@pytest.fixture(scope="session", autouse=True)
def jupyters_own_loop() -> None:
    """jupyter_client keeps an event loop for the life of the process: it is there before leaks are counted."""

    async def nothing() -> None:
        return None

    run_sync(nothing)()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for the tests of a module, in a folder of its own."""
    kernel = Kernel(tmp_path_factory.mktemp("notebook"))
    yield kernel
    kernel.close()


@pytest.fixture
def fresh_kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel for one test."""
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool], float], bool]:
    """Waits for what nothing announces: ``until(condition, seconds)``."""

    def until(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    return until
