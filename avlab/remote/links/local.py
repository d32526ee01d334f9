"""The local link: messages over a stream socket between two processes, large payloads through shared memory."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from avlab.core.errors import CodecError, LinkClosed
from avlab.core.message import MAX_ITEM, Buffer, ItemMessage, Message, Slot
from avlab.core.wire import Decoder, encode
from avlab.remote.interrupts import NOTICE, exposed
from avlab.remote.patience import Patience
from avlab.remote.shared_memory import AHEAD, Memory

INLINE = 8 << 10
"""Payloads up to this many bytes go over the socket: copying them twice is cheaper than looking after a slot."""
_CHUNK = 256 << 10
_MAX_HELD = 64
_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL
_MAX_PARTS = 64
"""Of one sendmsg; the system takes 1024 at most, and many small ones are cheaper joined."""


class LocalLink:
    """One end of a socket pair with its view of the shared regions. Both ends are the same class.

    alone: one thread receives, and sends too. Who waits to send takes in what arrives meanwhile (as much as there is credit for),
    unless another thread receives just now: the other side may be unable to read before that.
    """

    def __init__(self, sock: socket.socket, memory: Memory, *, alone: bool = False) -> None:
        self._socket, self._memory = sock, memory
        self._decoder = Decoder()
        self._arrived: deque[Message] = deque()
        self._sending, self._reading = threading.Lock(), threading.Lock()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._patience = Patience(self._poll)
        self._until_writable, self._until_either = select.poll(), select.poll()
        self._until_writable.register(sock, select.POLLOUT)
        self._until_either.register(sock, select.POLLOUT | select.POLLIN)
        self._alone = alone
        self._chunk = bytearray(_CHUNK)
        self._view = memoryview(self._chunk)
        self._torn = False
        self._holding = False
        self._held: list[Buffer] = []

    def fileno(self) -> int:
        """The socket, to wait on; -1 when closed."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        with self._sending:
            if type(message) is ItemMessage and message.buffers and INLINE < message.nbytes <= MAX_ITEM:
                slot = message.slot = self._memory.reserve(message.sizes)
                if slot is not None:
                    self._send_by_memory(message, slot)
                    return
            if self._holding and type(message) is ItemMessage and message.nbytes <= INLINE:
                self._held += encode(message)
                if len(self._held) < _MAX_HELD:
                    return
                self._write([])
            else:
                self._write(encode(message))

    def _send_by_memory(self, message: ItemMessage, slot: Slot) -> None:
        try:
            parts = encode(message, inline=False)
        except CodecError:
            self._memory.withdraw(slot)
            raise
        finally:
            message.slot = None
        buffers = cast(Sequence[Buffer], message.buffers)  # what is sent is complete
        if message.nbytes <= AHEAD:
            self._memory.write(slot, buffers)
            self._write(parts)
            return
        self._write(parts)
        try:
            self._memory.write(slot, buffers)
        except BaseException:  # announced, and it will never be complete
            self.shut_down()
            raise

    def hold(self) -> None:
        self._holding = True

    def flush(self) -> None:
        self._holding = False
        with self._sending:
            if self._held:
                self._write([])

    def _write(self, parts: list[Buffer]) -> None:
        if self._held:
            parts = [*self._held, *parts]
            self._held = []
        if len(parts) > _MAX_PARTS:
            parts = [b"".join(parts)]
        try:
            sent = self._send(parts)
            for part in parts:
                view = memoryview(part).cast("B")
                if sent < len(view):
                    self._send_rest(view[sent:])
                sent = max(0, sent - len(view))
        except OSError as error:
            raise LinkClosed(f"the other side of the link is gone ({error.strerror or error})") from None
        except BaseException:  # an interrupt: nobody can tell how much of the message has left
            self.shut_down()
            raise

    def _send(self, parts: list[Buffer]) -> int:
        """How many bytes went without waiting."""
        try:
            return self._socket.sendmsg(parts, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_rest(self, view: memoryview) -> None:
        while view:
            sent = self._send([view])
            if sent:
                view = view[sent:]
            elif self._alone and self._reading.acquire(blocking=False):
                try:
                    self._take_in()
                finally:
                    self._reading.release()
            else:
                with exposed:
                    self._until_writable.poll(NOTICE * 1000)

    def _take_in(self) -> None:
        with exposed:
            ready = self._until_either.poll(NOTICE * 1000)
        try:
            if any(events & select.POLLIN for _, events in ready):
                self.fill()
        except CodecError as error:  # not of the message that is being sent
            raise LinkClosed(f"what arrives is malformed: {error}") from error

    def recv(self, timeout: float | None = None) -> Message:
        with self._reading:
            while not self._arrived:
                if not self._readable(timeout):
                    raise TimeoutError(f"nothing arrived within {timeout} s")
                self.fill()
            return self._arrived.popleft()

    def arrived(self) -> Message | None:
        return self._arrived.popleft() if self._arrived else None

    def look(self) -> Message | None:
        """A message that needs no waiting, or None; read from the socket if need be, unless another thread reads (or this one, which a
        signal has interrupted). Raises LinkClosed."""
        if not self._reading.acquire(blocking=False):
            return self.arrived()
        try:
            if not self._arrived and self._readable(0):
                self.fill()
            return self._arrived.popleft() if self._arrived else None
        finally:
            self._reading.release()

    def _readable(self, timeout: float | None) -> bool:
        if self._socket.fileno() < 0:
            raise LinkClosed("the link is closed")
        return bool(self._patience.poll(None if timeout is None else timeout * 1000))

    def fill(self) -> None:
        """Read once from the socket (blocks when it is empty). Raises LinkClosed at its end, CodecError for garbage."""
        if self._torn:
            raise CodecError("reading was interrupted in the middle of a message")
        self._torn = True  # stays so if an interrupt comes before everything is in its place
        try:
            size = self._socket.recv_into(self._chunk)
        except OSError as error:
            raise LinkClosed(f"the link is closed ({error.strerror or error})") from None
        if not size:
            raise LinkClosed("the other side of the link is gone")
        for message in self._decoder.feed(self._view[:size]):
            if type(message) is ItemMessage and message.slot is not None:
                message.buffers = self._memory.take(message.slot, self._hung_up)
                message.release = partial(self._memory.release, message.slot.index)
                message.slot = None
            self._arrived.append(message)
        self._torn = False

    def _hung_up(self) -> bool:
        """Whether the other side has ended."""
        try:
            return any(events & _ENDED for _, events in self._poll.poll(0))
        except ValueError:  # closed by another thread
            return True

    def shut_down(self) -> None:
        """End both directions: who sends or receives now gets LinkClosed."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut_down()
        with self._sending:  # the socket's number may be another file's as soon as it is closed
            self._socket.close()
            self._memory.close()
