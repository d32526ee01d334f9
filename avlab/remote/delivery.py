"""Delivery: sequence numbers, credits, acknowledgement, replay and epochs. Sans-IO; both banks of every link use it.

The caller numbers inputs from 1. The host numbers outputs twice: (input, k, last) says what an output belongs to, and an
ordinal over the whole session says in which order outputs were made. Acknowledgements and credits are cumulative numbers,
so repeating one does no harm. After a cut the caller raises the epoch and says how far it has received; the host fences
older epochs, says how far it has received, and each sends again what the other lacks. What arrives twice is recognised by
its number and dropped: every output is delivered once, in order.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from avlab.core.errors import LinkError
from avlab.core.message import MAX_ITEM, Credit, ItemMessage, Resume, Resumed

IN_FLIGHT = 12 << 20
"""Payload bytes of inputs that may be under way: more would fall out of the processor's cache before it is read again."""
MAX_IN_FLIGHT = 1024
"""Inputs that a caller sends ahead at most, whatever the host grants."""


class CallerBank:
    """The caller's half of one session.

    ``window``: outputs that may be unacknowledged. ``retain``: keep inputs for replay until their last output is
    acknowledged (links that can resume).
    """

    def __init__(self, session: str = "", *, window: int = 16, retain: bool = False) -> None:
        self.session, self.window, self._retain = session, window, retain
        self.epoch = 0
        self.sent = self.granted = 0
        self.received = self.acked = 0
        self._current = 1  # the input whose outputs come now
        self._ahead: set[int] = set()  # delivered before an earlier ordinal was
        self._unfinished: OrderedDict[int, ItemMessage | None] = OrderedDict()
        self._last: deque[tuple[int, int]] = deque()  # (ordinal of a last output, its input)

    @property
    def room(self) -> bool:
        """Whether another input may be sent."""
        return self.sent < self.granted and len(self._unfinished) < MAX_IN_FLIGHT

    @property
    def first_undelivered(self) -> int | None:
        """The first input whose outputs have not all been delivered, or None."""
        return next(iter(self._unfinished), None)

    @property
    def in_flight(self) -> int:
        """Inputs that are sent and not finished by a delivered last output."""
        return len(self._unfinished)

    def number(self, message: ItemMessage) -> ItemMessage:
        """Give an input the next number. It also carries the acknowledgement so far."""
        self.sent += 1
        message.input, message.acked = self.sent, self.acked
        self._unfinished[self.sent] = message if self._retain else None
        return message

    def withdraw(self, message: ItemMessage) -> None:
        """Take back the input that was numbered last: it could not be sent."""
        self.sent -= 1
        del self._unfinished[message.input]
        message.input = 0

    def accept(self, output: ItemMessage) -> bool:
        """Whether an output is new (False: a repetition).

        Raises LinkError when one is missing before it, for an input that awaits none, and for one beyond the window.
        """
        if output.granted > self.granted:
            self.granted = output.granted
        if output.ordinal <= self.received:
            return False
        if output.ordinal != self.received + 1:
            raise LinkError(f"output {output.ordinal} arrived after output {self.received}: the executor lost some")
        if output.input != self._current:
            raise LinkError(f"an output for input {output.input} instead of {self._current}")
        if output.input > self.sent:
            raise LinkError(f"an output for input {output.input}, which was never sent")
        if output.ordinal > self.acked + self.window:
            raise LinkError(f"output {output.ordinal} exceeds the window of {self.window} outputs after {self.acked}")
        self.received += 1
        if output.last:
            self._current += 1
            self._last.append((output.ordinal, output.input))
        return True

    def delivered(self, ordinal: int) -> None:
        """The consumer has this output and asked for the next."""
        if ordinal != self.acked + 1:
            if ordinal > self.acked:
                self._ahead.add(ordinal)
            return
        self.acked = ordinal
        while self._ahead and self.acked + 1 in self._ahead:
            self.acked += 1
            self._ahead.remove(self.acked)
        while self._last and self._last[0][0] <= self.acked:
            self._unfinished.pop(self._last.popleft()[1], None)

    def resume(self) -> Resume:
        """The first message on a new link after a cut."""
        self.epoch += 1
        return Resume(self.session, self.epoch, self.received)

    def resumed(self, answer: Resumed) -> list[Credit | ItemMessage]:
        """What to send again: the acknowledgement, then inputs. Raises LinkError for an impossible answer."""
        if answer.epoch != self.epoch:
            raise LinkError(f"the executor resumed epoch {answer.epoch} instead of {self.epoch}")
        if answer.received > self.sent:
            raise LinkError(f"the executor has input {answer.received}, which was never sent")
        again = [m for n, m in self._unfinished.items() if n > answer.received]
        if any(message is None for message in again):
            raise LinkError("inputs were lost with the link and not kept: this session cannot be resumed")
        return [Credit(self.acked), *(message for message in again if message is not None)]


class HostBank:
    """The executor's half of one session.

    ``window``: outputs that may be unacknowledged, given by the caller. ``inputs``: inputs that may be under way.
    ``retain``: keep outputs for replay until they are acknowledged.
    """

    def __init__(self, session: str = "", *, window: int = 16, inputs: int = 16, retain: bool = False) -> None:
        self.session, self.window, self._inputs, self._retain = session, max(1, window), max(1, inputs), retain
        self.epoch = 0
        self.received = self.finished = 0
        self.ordinal = self.acked = 0
        self._k = 0
        self._under_way: deque[tuple[int, int]] = deque()  # ordinal and payload bytes of outputs
        self._bytes = 0
        self._replay: deque[ItemMessage] = deque()

    @property
    def granted(self) -> int:
        """Inputs that the caller may have sent by now."""
        return self.finished + self._inputs

    @property
    def room(self) -> bool:
        """Whether another output may be sent: credit in items and in bytes, but two items always."""
        under_way = self.ordinal - self.acked
        return under_way < self.window and (self._bytes < MAX_ITEM or under_way < 2)

    def accept(self, message: ItemMessage) -> bool:
        """Whether an input is new (False: a repetition). Raises LinkError for a gap or an overdrawn credit."""
        self.acknowledge(message.acked)
        if message.input <= self.received:
            return False
        if message.input != self.received + 1:
            raise LinkError(f"input {message.input} arrived after input {self.received}: some were lost")
        if message.input > self.granted:
            raise LinkError(f"input {message.input} was sent without credit (granted: {self.granted})")
        self.received += 1
        return True

    def acknowledge(self, ordinal: int) -> None:
        """The caller's consumer has taken outputs up to this one."""
        if ordinal > self.ordinal:
            raise LinkError(f"output {ordinal} was acknowledged before it was made")
        if ordinal > self.acked:
            self.acked = ordinal
            while self._under_way and self._under_way[0][0] <= ordinal:
                self._bytes -= self._under_way.popleft()[1]
            while self._replay and self._replay[0].ordinal <= ordinal:
                self._replay.popleft()

    def output(self, message: ItemMessage, last: bool) -> ItemMessage:
        """Number an output of the oldest unfinished input; ``last`` finishes that input and grants another."""
        self.ordinal += 1
        self._k += 1
        message.input, message.k, message.last, message.ordinal = self.finished + 1, self._k, last, self.ordinal
        if last:
            self.finished += 1
            self._k = 0
        message.granted = self.granted
        self._under_way.append((self.ordinal, message.nbytes))
        self._bytes += message.nbytes
        if self._retain:
            self._replay.append(message)
        return message

    def withdraw(self, message: ItemMessage) -> None:
        """Take back the output that was numbered last: it could not be sent."""
        self.ordinal -= 1
        self._bytes -= self._under_way.pop()[1]
        self._k = message.k - 1
        if message.last:
            self.finished -= 1
        if self._retain:
            self._replay.pop()

    def resume(self, request: Resume) -> tuple[Resumed, list[ItemMessage]]:
        """The answer and the outputs to send again.

        Raises LinkError for a stale epoch, another session, and outputs that were never made or are kept no more.
        """
        if request.session != self.session:
            raise LinkError("the session to resume is not this one")
        if request.epoch <= self.epoch:
            raise LinkError(
                f"epoch {request.epoch} is fenced by epoch {self.epoch}: a newer connection has the session"
            )
        if not self._retain:
            raise LinkError("outputs are not kept on this link: the session cannot be resumed")
        if not self.acked <= request.received <= self.ordinal:
            raise LinkError(f"output {request.received} is not one that can be resumed after")
        self.epoch = request.epoch
        return Resumed(self.epoch, self.received), [m for m in self._replay if m.ordinal > request.received]
