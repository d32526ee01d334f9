"""MessageChannel: messages of any size over one WebRTC DataChannel, in chunks, never more than the other side can take."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from avlab.core.errors import AvlabError, CodecError, ItemTooLarge, LinkClosed
from avlab.core.message import Buffer
from avlab.core.wire import MAX_MESSAGE
from avlab.media.runtime import MediaRuntime

CHUNK = 48 << 10
"""Bytes of a message in one DataChannel message; 64 KiB is the most that every implementation takes."""
WINDOW = 4 << 20
"""Bytes under way that the other side has not taken."""
SESSION_HOLD = 256 << 20
"""Bytes that wait for a reader which counts for itself what may come (a session's credit), so as not to hold up its writing."""
_HIGH, _LOW = 1 << 20, 256 << 10  # bytes in the SCTP association's own buffer
_OWN = 64  # bytes that a message which waits takes besides its own: many empty ones must not fill memory either
_MORE, _LAST, _TAKEN = 0, 1, 2  # first byte of a chunk


class MessageChannel:
    """Whole messages both ways, in order. Made on the media loop; `send`, `recv` and `close` may be called from any thread.

    The receiver says how many bytes it has taken, and the sender waits for it: a slow reader holds up the writer, not its own
    memory, in which at most ``hold`` bytes and one message wait. A side that does not keep to this, or sends more than 64 MiB
    as one message (``first`` bytes as its first one), is cut off.
    """

    def __init__(self, channel: Any, runtime: MediaRuntime, hold: int = WINDOW) -> None:
        self.label = str(channel.label)
        self._channel, self._runtime, self._hold = channel, runtime, hold
        self._loop = asyncio.get_running_loop()
        self._turn, self._room, self._open = asyncio.Lock(), asyncio.Event(), asyncio.Event()
        self.first, self._begun = MAX_MESSAGE, False
        self._sent = self._taken_there = 0
        self._seen = self._told = self._queued = 0
        self._partial = bytearray()
        self._arrived: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._error: AvlabError | None = None
        self.heard: Callable[[], None] | None = None
        channel.bufferedAmountLowThreshold = _LOW
        channel.on("bufferedamountlow", self._room.set)
        channel.on("open", self._open.set)
        channel.on("message", self._take)
        channel.on("close", lambda: self._fail(LinkClosed("the other side has closed the channel")))
        if channel.readyState == "open":
            self._open.set()

    # On the loop.

    async def asend(self, data: Buffer) -> None:
        """Send a message on the media loop; waits while the other side does not read. Raises LinkClosed, ItemTooLarge."""
        view = memoryview(data).cast("B")
        if len(view) > MAX_MESSAGE:
            raise ItemTooLarge(f"a message of {len(view)} bytes: the channel carries at most {MAX_MESSAGE}")
        async with self._turn:
            await self._open.wait()
            start = 0
            try:
                while True:
                    end = start + CHUNK
                    await self._until_free()
                    self._channel.send(bytes((_LAST if end >= len(view) else _MORE,)) + bytes(view[start:end]))
                    self._sent += len(view[start:end]) + 1
                    start = end
                    if end >= len(view):
                        return
            except BaseException:
                if start:  # the rest of the message is missing: nothing after it could be read
                    self._fail(LinkClosed("sending was interrupted in the middle of a message"))
                raise

    async def _until_free(self) -> None:
        while True:
            if self._error is not None:
                raise self._error
            if self._channel.readyState != "open":  # it is closing, and has not said so yet
                raise LinkClosed("the other side closes the channel")
            if self._sent - self._taken_there < WINDOW and self._channel.bufferedAmount < _HIGH:
                return
            self._room.clear()
            await self._room.wait()

    def _take(self, chunk: Any) -> None:
        if self._error is not None:
            return
        kind = chunk[0] if isinstance(chunk, bytes) and chunk else -1
        if kind == _TAKEN and len(chunk) == 9:
            taken = int.from_bytes(chunk[1:], "big")
            if not self._taken_there <= taken <= self._sent:
                self._fail(CodecError("the other side has taken what was not sent"))
            self._taken_there = taken
            self._room.set()
            return
        if kind not in (_MORE, _LAST):
            self._fail(CodecError("the other side's chunk is malformed"))
            return
        self._seen += len(chunk)
        self._partial += memoryview(chunk)[1:]
        most = MAX_MESSAGE if self._begun else self.first
        if len(self._partial) > most or self._seen - self._told > WINDOW + 2 * (CHUNK + 1):
            self._fail(CodecError("the other side sends more than this one can take"))
            return
        if kind == _LAST:
            message, self._partial, self._begun = bytes(self._partial), bytearray(), True
            with self._changed:
                self._arrived.append(message)
                self._queued += len(message) + _OWN
                self._changed.notify_all()
            if self.heard is not None:
                self.heard()
        self._tell()

    def _tell(self) -> None:
        """Say what was taken, unless too much waits for the reader here."""
        usable = self._error is None and self._channel.readyState == "open"
        if usable and self._queued < self._hold and self._seen - self._told >= WINDOW // 4:
            self._told = self._seen
            self._channel.send(bytes((_TAKEN,)) + self._seen.to_bytes(8, "big"))

    def _fail(self, error: AvlabError) -> None:
        with self._changed:
            if self._error is not None:
                return
            self._error = error
            self._changed.notify_all()
        self._open.set()
        self._room.set()
        self._channel.close()
        if self.heard is not None:
            self.heard()

    # From any thread.

    def send(self, data: Buffer) -> None:
        """Send a message; blocks while the other side does not read. Raises LinkClosed, ItemTooLarge."""
        self._runtime.run(self.asend(data))

    def recv(self, timeout: float | None = None) -> bytes:
        """The next message. Raises TimeoutError after ``timeout`` seconds, and at the end LinkClosed or CodecError."""
        with self._changed:
            if not self._arrived and self._error is None and not self._changed.wait_for(self._ready, timeout):
                raise TimeoutError(f"nothing arrived within {timeout} s")
            if not self._arrived:
                assert self._error is not None
                raise self._error
            message = self._arrived.popleft()
            full, self._queued = self._queued >= self._hold, self._queued - len(message) - _OWN
            crossed = full and self._queued < self._hold
        if crossed:
            self._on_loop(self._tell)
        return message

    def wait(self, timeout: float | None = None) -> bool:
        """Whether a message, or the end, has come within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(self._ready, timeout)

    def _ready(self) -> bool:
        return bool(self._arrived) or self._error is not None

    def wake(self) -> None:
        """Make a `recv` that waits return an empty message."""
        with self._changed:
            self._arrived.append(b"")
            self._queued += _OWN
            self._changed.notify_all()

    @property
    def waiting(self) -> bool:
        """Whether `recv` would return at once."""
        return bool(self._arrived)

    @property
    def open(self) -> bool:
        """Whether it can still be used."""
        return self._error is None

    def end(self) -> None:
        """`close`, on the loop."""
        self._fail(LinkClosed("the channel is closed"))

    def close(self) -> None:
        """End both directions. Idempotent."""
        self._on_loop(self.end)

    def _on_loop(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop has ended, and the channel with it
            return
