"""The host's side of the sandbox tests: a conversation with one worker."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from avlab_executor.process import WorkerProcess

HERE = str(Path(__file__).parent)
TIERS = ("landlock", "namespaces")
EVERY_TIER = (*TIERS, "gvisor")
SECONDS = 20.0


class Conversation:
    """One JSON line there, one back."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        worker.socket.settimeout(SECONDS)
        self._lines = worker.socket.makefile("rw")

    def ask(self, **request: object) -> dict:
        self.tell(**request)
        return json.loads(self._lines.readline())

    def tell(self, **request: object) -> None:
        self._lines.write(json.dumps(request) + "\n")
        self._lines.flush()

    def close(self) -> None:
        self.worker.socket.close()
        self._lines.close()
        self.worker.close()


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """For what nothing announces: asked until true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        threading.Event().wait(0.01)


def targets(folder: Path, worker: WorkerProcess) -> dict[str, object]:
    """What an attempt in ``worker`` can aim at on this host; files are made in ``folder``."""
    secret, open_folder = folder / "secret", folder / "open"
    secret.write_text("a secret of the host")
    secret.chmod(0o644)
    open_folder.mkdir(mode=0o777)
    with open(f"/proc/{worker.pid}/stat") as stat:
        zygote = int(stat.read().rpartition(")")[2].split()[1])
    return {
        "host": os.getpid(),
        "zygote": zygote,
        "secret": str(secret),
        "open_folder": str(open_folder),
        "home": str(Path.home()),
        "checkout": str(Path(__file__).parents[2]),
        "host_name": socket.gethostname(),
    }
