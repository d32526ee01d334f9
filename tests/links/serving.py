"""A server in a process of its own, and waiting for what nothing announces."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def served(*options: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """URL and process of ``avlab executor serve`` on a free port."""
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), process.stderr.read()
        yield line.split()[1].rstrip(","), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something that nothing announces becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
