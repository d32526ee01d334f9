"""Replay: what one side of a session keeps so that it outlives its connection. Sans-IO; both banks use it.

Each side counts the messages that it has sent and received (except Resume, Resumed and Receipt, which belong to one
connection). What it has sent is kept, encoded, until the other side has it. After a cut the caller raises the epoch and says
how many messages it has received; the executor fences older epochs and says how many it has; each sends again what the other
lacks, from where it stopped. Nothing is lost, doubled or out of order, whatever a message is.
"""

from __future__ import annotations

from avlab.core.errors import LinkError
from avlab.core.message import Receipt, Resume, Resumed

KEPT = 32 << 20
"""Bytes that a side keeps at most; beyond, it waits for a receipt before it sends more. One message more is allowed."""
TELL, TELL_BYTES = 16, 2 << 20
"""A receipt travels with the next message after this many messages, or bytes."""
PRESS, PRESS_BYTES = 64, 8 << 20
"""After so many it does not wait for another message to travel with."""


class Replay:
    """One side's half. Not thread-safe: whoever owns it holds a lock."""

    def __init__(self, session: str = "", *, keeps: bool = True) -> None:
        self.session, self.keeps = session, keeps
        self.epoch = 0
        self.sent = self.received = self.kept = 0
        self._begun = 0  # the last message that was given out to be sent
        self._messages: dict[int, bytes] = {}  # number → what was sent and has not surely arrived
        self._told = self._untold = 0
        self._urgent = False

    @property
    def full(self) -> bool:
        """Whether too much is kept to send more."""
        return self.kept > KEPT

    @property
    def due(self) -> bool:
        """Whether the other side should be told what has arrived when it is told something."""
        return self.keeps and (self._urgent or self.received - self._told >= TELL or self._untold >= TELL_BYTES)

    @property
    def pressing(self) -> bool:
        """Whether it should be told even if there is nothing else to say."""
        return self.keeps and (self._urgent or self.received - self._told >= PRESS or self._untold >= PRESS_BYTES)

    def add(self, data: bytes) -> None:
        """An encoded message is the next to be sent."""
        self.sent += 1
        self._messages[self.sent] = data
        self.kept += len(data)

    def pending(self, position: int, limit: int) -> list[bytes]:
        """Messages after ``position``, at least one if there is any, up to ``limit`` bytes."""
        found: list[bytes] = []
        size = 0
        while position < self.sent:
            position += 1
            data = self._messages[position]
            size += len(data)
            if found and size > limit:
                break
            found.append(data)
            self._begun = max(self._begun, position)
            if not self.keeps:
                self._drop(position)
        return found

    def arrived(self, size: int, urgent: bool = False) -> None:
        """A message of about ``size`` bytes has arrived; ``urgent``: the other side waits to hear so."""
        self.received += 1
        self._untold += size
        self._urgent = self._urgent or urgent

    def receipt(self) -> Receipt:
        """What tells the other side how far this one has received."""
        self._told, self._untold, self._urgent = self.received, 0, False
        return Receipt(self.received)

    def forget(self, received: int) -> None:
        """The other side has this many messages. Raises LinkError for more than were sent."""
        if received > self._begun:
            raise LinkError(f"message {received} is said to have arrived and was never sent")
        for number in range(self.sent - len(self._messages) + 1, received + 1):
            self._drop(number)

    def _drop(self, number: int) -> None:
        self.kept -= len(self._messages.pop(number))

    def has(self, position: int) -> bool:
        """Whether everything after ``position`` can be sent again."""
        return self.sent - len(self._messages) <= position <= self._begun

    def resume(self) -> Resume:
        """The caller's first message on a new connection."""
        self.epoch += 1
        self.receipt()
        return Resume(self.session, self.epoch, self.received)

    def resumed(self, answer: Resumed) -> int:
        """After which message the caller goes on. Raises LinkError for an answer that cannot be."""
        if answer.epoch != self.epoch:
            raise LinkError(f"the executor resumed epoch {answer.epoch} instead of {self.epoch}")
        if not self.has(answer.received):
            raise LinkError(f"the executor has {answer.received} messages: this session cannot go on from there")
        self.forget(answer.received)
        return answer.received

    def accept(self, request: Resume) -> Resumed:
        """The executor's answer; it goes on after ``request.received``.

        Raises LinkError for another session, a stale epoch, and messages that were never sent or are kept no more.
        """
        if request.session != self.session:
            raise LinkError("the session to resume is not this one")
        if request.epoch <= self.epoch:
            raise LinkError(
                f"epoch {request.epoch} is fenced by epoch {self.epoch}: a newer connection has the session"
            )
        if not self.has(request.received):
            raise LinkError(f"message {request.received} is not one that can be resumed after")
        self.epoch = request.epoch
        self.forget(request.received)
        self.receipt()
        return Resumed(self.epoch, self.received)
