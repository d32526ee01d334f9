"""Processes of the benchmark: each with a time limit, and none outlives the run, whatever it has started itself."""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from avlab.core.clock import monotonic

HERE = Path(__file__).parent
_SUBREAPER = 36
_END_SECONDS = 5.0


class Missing(Exception):
    """A package that the process needs is not installed."""


class Broken(Exception):
    """The process failed, or took too long."""


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose own parent has ended, so that `end_all` finds them."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Processes below ``root``, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found[1:]


def kill(pids: list[int]) -> None:
    """Kill what of these is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_all() -> None:
    """Kill and bury what is left below this process."""
    while left := descendants(os.getpid()):
        kill(left)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)


class Process:
    """A script of this folder that answers lines of JSON. A context manager: leaving it ends the process.

    folder: where it keeps its temporary files, in place of the system's place for them.
    """

    def __init__(self, *arguments: str, folder: str | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by close()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / arguments[0]), *arguments[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "TMPDIR": folder} if folder else None,
        )
        self._unread = b""

    def ask(self, *command: Any, seconds: float) -> Any:
        """Send a command and wait for its answer."""
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken("it has ended") from None
        return self.answer(seconds)

    def answer(self, seconds: float) -> Any:
        """The next answer. Raises Missing, Broken."""
        end = monotonic() + seconds * 1e9
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, (end - monotonic()) / 1e9)):
                    raise self._broken(f"no answer within {seconds:.0f} s")
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise self._broken("it has ended")
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        return answer["value"]

    def _broken(self, what: str) -> Broken:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return Broken(": ".join([what, *lines[-1:]]))

    def close(self) -> None:
        """End it by the end of its input; by force if that takes too long."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            kill([*descendants(self._process.pid), self._process.pid])
            self._process.wait()
        self._log.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
