"""What a session has to say to its executor, over one connection after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from avlab.core.errors import LinkClosed
from avlab.core.message import Message
from avlab.core.wire import encode, encode_batch
from avlab.remote import pages
from avlab.remote.interrupts import NOTICE, exposed
from avlab.remote.replay import Replay

MAX_BATCH = 4 << 20
"""Small messages that wait together travel together, up to this many bytes."""
SMALL = 8 << 10
"""A message of more bytes is not held back for others to travel with."""
_WAITING = 256


class Outbox:
    """What a session has to say: bounded, batched, and kept until it has arrived. Each call takes it from its own position."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.changed = threading.Condition()
        self._ended = self._holding = False
        self._position = 0
        self._first: bytes | None = None  # what the present call says before anything else
        self._going = True
        self.call = 0

    def put(self, message: Message) -> None:
        """Add a message; waits while too many wait. Raises LinkClosed and what encoding raises."""
        replay = self.replay
        parts = encode(message)
        with self.changed:
            while (replay.sent - self._position >= _WAITING or replay.full) and not self._ended:
                with exposed:
                    self.changed.wait(NOTICE)
            if self._ended:
                raise LinkClosed("the link to the executor is closed")
            # Not before there is room: a receipt that waits here could be what the other side waits for to make some.
            data = b"".join([*(encode(replay.receipt()) if replay.due else ()), *parts])
            pages.expect(len(data))
            replay.add(data)
            if not self._holding or len(data) > SMALL:
                self.changed.notify_all()

    def hold(self) -> None:
        """Small messages that follow wait for `flush`."""
        self._holding = True

    def flush(self) -> None:
        """What waits may go."""
        self._holding = False
        with self.changed:
            self.changed.notify_all()

    def end(self) -> None:
        """No more messages; what waits still goes."""
        with self.changed:
            self._ended = True
            self.changed.notify_all()

    def begin(self, first: bytes | None = None, position: int | None = None) -> Iterator[bytes]:
        """The requests of the next call; those of the one before end. Messages follow ``first`` when `go` has been called."""
        with self.changed:
            self.call += 1
            self._first, self._going = first, position is not None
            self._position = position or 0
            self.changed.notify_all()
            return self._requests(self.call)

    def go(self, position: int) -> None:
        """The present call may send what follows ``position``."""
        with self.changed:
            self._position, self._going = position, True
            self.changed.notify_all()

    def wake(self) -> None:
        """A receipt is due."""
        with self.changed:
            self.changed.notify_all()

    def _requests(self, call: int) -> Iterator[bytes]:
        replay = self.replay
        while True:
            with self.changed:
                while True:
                    if call != self.call:
                        return
                    parts = [] if self._first is None else [self._first]
                    self._first = None
                    if self._going:
                        if replay.pressing:
                            parts.append(encode_batch([replay.receipt()]))
                        found = replay.pending(self._position, MAX_BATCH)
                        self._position += len(found)
                        parts += found
                    if parts:
                        break
                    if self._ended:
                        return
                    self.changed.wait()
                self.changed.notify_all()
            yield parts[0] if len(parts) == 1 else b"".join(parts)
