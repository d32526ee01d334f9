"""A media runtime in a process of its own: messages to it and from it over a socket, each with buffers."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from avlab.core.channel import ChannelClosed, Policy, Receiver, open_channel
from avlab.core.errors import LinkClosed, MediaError

MOST_BYTES = 64 << 20
"""Of one message."""
_WAITING = 256  # messages for views, and others
_READ = 1 << 16
_HEAD = struct.Struct(">II")  # length of the JSON text, count of buffers
_LENGTH = struct.Struct(">I")

Message = tuple[dict[str, Any], list[bytes]]
_Outgoing = tuple[bool, bytes, list[bytes]]  # whether it is for a view, its JSON text, buffers


class Wire:
    """Both ends of the socket are one of these. `send` never blocks: a thread of its own writes. Where the other side does not read,
    the oldest messages of type ``view`` are dropped, and no other for them."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._inbox = connection.makefile("rb", _READ)  # beside a busy cell each call of the system waits for its turn
        receiver: Receiver[_Outgoing]
        self._outbox, receiver = open_channel(2 * _WAITING, Policy.LATEST, lambda waiting: (waiting[0], _WAITING))
        self._writer = threading.Thread(target=self._write, args=(receiver,), name="avlab:wire", daemon=True)
        self._writer.start()

    def send(self, message: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send JSON values and buffers; after the end nothing happens. Raises TypeError for what is no JSON."""
        try:
            self._outbox.send((message["type"] == "view", json.dumps(message).encode(), list(buffers)))
        except ChannelClosed:  # the other side is gone: its reader tells
            return

    def _write(self, receiver: Receiver[_Outgoing]) -> None:
        for _, text, buffers in receiver:
            lengths = b"".join(_LENGTH.pack(len(buffer)) for buffer in buffers)
            try:
                self._socket.sendall(b"".join([_HEAD.pack(len(text), len(buffers)), lengths, text, *buffers]))
            except OSError:
                receiver.close()
                return

    def receive(self) -> Message:
        """The next message. Raises LinkClosed at the end, MediaError for one that is too large."""
        length, count = _HEAD.unpack(self._exactly(_HEAD.size))
        lengths = [size for (size,) in _LENGTH.iter_unpack(self._exactly(count * _LENGTH.size))]
        if length + sum(lengths) > MOST_BYTES:
            raise MediaError(f"a message of {length + sum(lengths)} bytes came, {MOST_BYTES} are allowed")
        message: dict[str, Any] = json.loads(self._exactly(length))
        return message, [self._exactly(size) for size in lengths]

    def _exactly(self, size: int) -> bytes:
        if size > MOST_BYTES:
            raise MediaError(f"a message of {size} bytes came, {MOST_BYTES} are allowed")
        try:
            data: bytes = self._inbox.read(size)
        except (OSError, ValueError):  # closed on this side
            data = b""
        if len(data) < size:
            raise LinkClosed("the other process has ended the connection")
        return data

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits, then end. Idempotent."""
        self._outbox.close()
        if threading.current_thread() is not self._writer:
            self._writer.join(timeout)
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._inbox.close()
        self._socket.close()


class Child:
    """A Python process that runs ``module`` (``python -m module FD``) and has the other end of ``wire``.

    It ends by itself when the wire does, so it does not outlive this process.
    """

    def __init__(self, module: str) -> None:
        mine, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", module, str(other.fileno())]
            try:
                self._process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
            except BaseException:
                mine.close()
                raise
        self.wire = Wire(mine)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def close(self, timeout: float = 2.0) -> None:
        """End it, after so many seconds by force. Idempotent."""
        self.wire.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Spare:
    """One child of ``module`` that is started ahead: most of a start is an interpreter and its imports. Any thread."""

    def __init__(self, module: str) -> None:
        self._module, self._lock = module, threading.Lock()
        self.child: Child | None = None
        """The one that is ready."""

    def prepare(self) -> None:
        """Start one, unless there is one. It is sent ``ahead`` at once."""
        with self._lock:
            if self.child is None:
                self.child = Child(self._module)
                self.child.wire.send({"type": "ahead"})

    def take(self) -> Child:
        """The one that is ready, or a new one."""
        with self._lock:
            child, self.child = self.child, None
        if child is not None and child.running:
            return child
        if child is not None:
            child.close()
        return Child(self._module)

    def close(self) -> None:
        """End the one that is ready. Idempotent."""
        with self._lock:
            child, self.child = self.child, None
        if child is not None:
            child.close()
