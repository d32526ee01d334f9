"""A server in a process of its own, and waiting for what nothing announces.

Light to import: what a test module defines and sends is imported by each worker with all that the module imports.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import avlab

if TYPE_CHECKING:
    from avlab_executor.server import Server

    from avlab.media.rtc.partner import Partner

PEER_TOKEN = "shown-by-whom-the-peer-knows"

FAULTS = """
import resource
for turn in range(6):
    if turn == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    frames = [bytes(bytearray(6 << 20)) for _ in range(5)]
    del frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Prints how many pages the system has to give for the last of six rounds of frames."""


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


@contextmanager
def peer() -> Iterator[Partner]:
    """The way to a peer in a process of its own that serves sessions."""
    from avlab.media.runtime import MediaRuntime

    host = Path(__file__).with_name("peer_host.py")
    process = subprocess.Popen([sys.executable, str(host), PEER_TOKEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    runtime = MediaRuntime()
    try:
        with avlab.WebRTCManager(media=False, runtime=runtime) as manager:
            process.stdin.write(manager.offer() + "\n")
            process.stdin.flush()
            yield manager.accept(process.stdout.readline())
    finally:
        runtime.close()
        process.communicate(timeout=20)


def certificate(folder: Path, name: str, names: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate, for this machine's loopback unless said otherwise, and its key."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = ["openssl", *request.split(), "-addext", f"subjectAltName={names}", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something that nothing announces becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def at_work(server: Server, tls: str | bool = False) -> int:
    """Sessions that are open there."""
    with avlab.connect(f"{'grpcs' if tls else 'grpc'}://127.0.0.1:{server.port}", tls=tls) as executor:
        return executor.describe().sessions
