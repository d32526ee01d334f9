"""What a worker prints: read from its two pipes, or said in messages. Bounded per second, and what exceeds the bound is counted."""

from __future__ import annotations

import os
import select
from collections import deque

from avlab.core.clock import Clock
from avlab.core.message import Log

READ = 64 << 10
MAX_LOG = 256 << 10
"""Bytes of output that one second may bring; what exceeds it is counted, not kept."""
MAX_SHOWN = 32 << 20
"""Bytes of pictures, likewise."""
MAX_MIME = 100
_OWN = 128  # bytes that a picture counts for besides its content: empty ones without end would pass too
TAIL = 2000


class Printed:
    """Reads the pipes without waiting; ``logs`` holds what nobody has taken yet."""

    def __init__(self, stdout: int, stderr: int, clock: Clock) -> None:
        self.logs: deque[Log] = deque()
        self._names = {stdout: "stdout", stderr: "stderr"}
        self._clock = clock
        self._poll = select.poll()
        for fd in self._names:
            self._poll.register(fd, select.POLLIN)
        self._tail = b""
        self._second, self._in_second, self._shown, self._dropped = 0, 0, 0, 0

    @property
    def pipes(self) -> list[int]:
        """The descriptors."""
        return list(self._names)

    def read(self) -> tuple[int, list[int]]:
        """Read what is there: bytes that came, pipes that have ended."""
        size, ended = 0, []
        for fd, _ in self._poll.poll(0):
            data = os.read(fd, READ)
            size += len(data)
            self._tail = (self._tail + data)[-TAIL:]
            if data:
                self._keep(self._names[fd], data)
            else:
                self._poll.unregister(fd)
                ended.append(fd)
        return size, ended

    @property
    def last(self) -> str:
        """The last words, taken or not; at most 2000 bytes."""
        return self._tail.decode("utf-8", "replace").strip()

    def said(self, log: Log) -> None:
        """Take in a message: a picture, or text, for which there are pipes too."""
        if log.stream != "display":
            return self._keep("stderr" if log.stream == "stderr" else "stdout", log.data)
        self._begin_second()
        self._shown += len(log.data) + _OWN
        if self._shown > MAX_SHOWN:
            self._dropped += len(log.data)
        else:
            self.logs.append(Log("display", log.data, log.mime[:MAX_MIME]))
        return None

    def _begin_second(self) -> None:
        second = self._clock() // 1_000_000_000
        if second != self._second:
            self._second, self._in_second, self._shown = second, 0, 0

    def _keep(self, stream: str, data: bytes) -> None:
        self._begin_second()
        kept = data[: max(0, MAX_LOG - self._in_second)]
        self._in_second += len(data)
        if kept:
            self.logs.append(Log(stream, kept, dropped=self._dropped))
            self._dropped = 0
        self._dropped += len(data) - len(kept)

    def settle(self) -> None:
        """Say what was dropped, if nothing has said it yet."""
        if self._dropped:
            self.logs.append(Log("stdout", dropped=self._dropped))
            self._dropped = 0
