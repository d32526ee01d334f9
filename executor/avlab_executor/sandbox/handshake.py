"""The few words between host and worker before the session: the worker's report, the host's limits, the worker's consent.

Each is a length (4 bytes, little-endian) and JSON, on the session's socket.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from avlab.core.errors import AvlabError

_LARGEST = 1 << 16


def send(link: socket.socket, words: dict[str, Any]) -> None:
    """Send one message. Raises OSError."""
    body = json.dumps(words).encode()
    link.sendall(len(body).to_bytes(4, "little") + body)


def receive(link: socket.socket) -> dict[str, Any]:
    """The next message, not a byte more. Raises OSError, EOFError at the other side's end, AvlabError for anything else."""
    size = int.from_bytes(_exactly(link, 4), "little")
    if size > _LARGEST:
        raise AvlabError(f"a worker's report of {size} bytes is not one: the process behind it is not avlab's")
    try:
        words = json.loads(_exactly(link, size))
    except ValueError:
        words = None
    if not isinstance(words, dict):
        raise AvlabError("a worker's report is not one: the process behind it is not avlab's")
    return words


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(size - len(parts))
        if not part:
            raise EOFError("the other side has ended")
        parts += part
    return bytes(parts)
