"""Delivery: sequence numbers, credits and acknowledgement. Sans-IO; both banks of every link use it.

The caller numbers inputs from 1. The host numbers outputs twice: (input, k, last) says what an output belongs to, and an
ordinal over the whole session says in which order outputs were made. Acknowledgements and credits are cumulative numbers,
so repeating one does no harm. What arrives twice is recognised by its number and dropped: every output is delivered once, in
order. What a cut of the connection has lost is sent again below, by `avlab.remote.replay`.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from avlab.core.errors import LinkError
from avlab.core.message import MAX_ITEM, ItemMessage

IN_FLIGHT = 6 << 20
"""Payload bytes of inputs that may be under way: more would fall out of the processor's cache before it is read again."""
MAX_IN_FLIGHT = 1024
"""Inputs that a caller sends ahead at most, whatever the host grants."""


class CallerBank:
    """The caller's half of one session. ``window``: outputs that may be unacknowledged."""

    def __init__(self, *, window: int = 16) -> None:
        self.window = window
        self.sent = self.granted = 0
        self.received = self.acked = 0
        self._current = 1  # the input whose outputs come now
        self._ahead: set[int] = set()  # delivered before an earlier ordinal was
        self._unfinished: OrderedDict[int, None] = OrderedDict()
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
        self._unfinished[self.sent] = None
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


class HostBank:
    """The executor's half of one session.

    ``window``: outputs that may be unacknowledged, given by the caller. ``inputs``: inputs that may be under way.
    """

    def __init__(self, *, window: int = 16, inputs: int = 16) -> None:
        self.window, self._inputs = max(1, window), max(1, inputs)
        self.received = self.finished = 0
        self.ordinal = self.acked = 0
        self._k = 0
        self._under_way: deque[tuple[int, int]] = deque()  # ordinal and payload bytes of outputs
        self._bytes = 0

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
        if not message.input:
            raise LinkError("an input without a number: the first one is 1")
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
        return message

    def withdraw(self, message: ItemMessage) -> None:
        """Take back the output that was numbered last: it could not be sent."""
        self.ordinal -= 1
        self._bytes -= self._under_way.pop()[1]
        self._k = message.k - 1
        if message.last:
            self.finished -= 1
