"""Succession: the numbers of a session whose workers follow one another. Sans-IO.

The caller's inputs and results are numbered through, whatever happens to a worker; each worker has numbers of its own. What a new
worker would need is kept in a log: inputs whose results have not all arrived; with snapshots, all inputs since the last one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from avlab.core.arriving import whole
from avlab.core.clock import Clock
from avlab.core.errors import SessionError
from avlab.core.message import Credit, ItemMessage, Message, Mode, Opened, Signal, SignalKind
from avlab.core.tree import Values
from avlab.remote.delivery import CallerBank

SNAPSHOT_INPUTS, SNAPSHOT_BYTES, SNAPSHOT_NS = 32, 8 << 20, 5_000_000_000
"""A snapshot is taken after this many inputs, or bytes of them, or with the first input after so many nanoseconds, and after one that
was cancelled."""


@dataclass(slots=True)
class Entry:
    """An input, or a change of parameters. passed: its results that have been passed on; done: with the last one."""

    message: ItemMessage | Signal
    number: int = 0
    passed: int = 0
    done: bool = False


@dataclass(slots=True)
class _Worker:
    bank: CallerBank
    inputs: deque[Entry | str] = field(default_factory=deque)  # sent and unfinished; a method: a call of our own
    k: int = 0  # results so far of the first of them
    told: int = 0  # results that it knows to be taken
    unacked: deque[tuple[int, int]] = field(default_factory=deque)  # its ordinal of a result, and the caller's


class Succession:
    """One session over all its workers. Not thread-safe. ``window``: results that the caller may have unacknowledged."""

    def __init__(self, opened: Opened, window: int, clock: Clock) -> None:
        self._window, self._clock = window, clock
        self._restores = opened.restores and not opened.stateless
        self._log: deque[Entry] = deque()
        self._next = 0  # place in the log of what is to be sent next
        self._prelude: deque[ItemMessage | Signal] = deque()  # goes before that
        self._parameters: dict[str, Any] = {}  # of changes that are in the log no more
        self._cancelled: set[int] = set()
        self._number = self._ordinal = self._acked = 0
        self._held: deque[ItemMessage] = (
            deque()
        )  # results beyond the window: those of an earlier worker are not taken yet
        self._state: ItemMessage | None = None
        self._mark: int | None = None  # how much of the log a snapshot will hold that was asked for
        self._torn = False  # an input was cut short: what it did to the state by then is not done again by another worker
        self.begin(opened)

    def begin(self, opened: Opened) -> None:
        """A new worker: it is told what its predecessor knew, then what that had not finished."""
        bank = CallerBank(window=self._window)
        bank.granted = opened.window
        self._worker = _Worker(bank)
        self._next, self._mark = 0, None
        self._since, self._bytes, self._taken_at = 0, 0, self._clock()
        self._prelude.clear()
        if self._parameters:
            self._prelude.append(Signal(SignalKind.SET, [], json.dumps(self._parameters).encode()))
        if self._state is not None:
            self._prelude.append(replace(self._state, mode=Mode.CALL, method="restore"))

    @property
    def first_unfinished(self) -> int:
        """The number of the input that the worker works on, 0 if there is none."""
        return next((entry.number for entry in self._log if not entry.done), 0)

    @property
    def holds(self) -> bool:
        """Whether results wait for those before them to be taken."""
        return bool(self._held)

    # What the caller says.

    def add(self, message: ItemMessage) -> None:
        """An input. It is copied: its buffers may be the caller's own, who may change them."""
        self.acknowledge(message.acked)
        self._number = message.input
        kept = replace(message, buffers=[bytes(whole(buffer)) for buffer in message.buffers])
        self._log.append(Entry(kept, message.input))

    def change(self, signal: Signal) -> None:
        """A change of parameters, after the inputs so far."""
        self._log.append(Entry(signal, done=True))

    def cancel(self, numbers: Iterable[int]) -> None:
        """These inputs shall not go on, with whatever worker."""
        self._cancelled.update(numbers)

    def translated(self, numbers: Iterable[int]) -> list[int]:
        """The worker's numbers of those inputs that it has."""
        wanted, worker = set(numbers), self._worker
        first = worker.bank.sent - len(worker.inputs) + 1
        return [
            first + place
            for place, entry in enumerate(worker.inputs)
            if isinstance(entry, Entry) and entry.number in wanted
        ]

    def acknowledge(self, ordinal: int) -> None:
        """The consumer has taken the results up to this one."""
        self._acked = max(self._acked, ordinal)
        worker = self._worker
        while worker.unacked and worker.unacked[0][1] <= ordinal:
            worker.bank.delivered(worker.unacked.popleft()[0])

    # What the worker is told.

    def tell(self) -> int:
        """How many of its results have been taken, which the worker is told with this."""
        self._worker.told = self._worker.bank.acked
        return self._worker.told

    @property
    def pending(self) -> bool:
        """Whether `due` has something."""
        if self._prelude or self._credit_due:
            return True
        entry = self._log[self._next] if self._next < len(self._log) else None
        if entry is not None and isinstance(entry.message, Signal):
            return True
        return self._worker.bank.room and (entry is not None or self._snapshot_due)

    def due(self) -> Message | None:
        """What the worker is to be told next, if its credit allows."""
        worker = self._worker
        if self._credit_due:
            return Credit(self.tell())
        if self._prelude:
            first = self._prelude.popleft()
            return first if isinstance(first, Signal) else self._own(first)
        entry = self._log[self._next] if self._next < len(self._log) else None
        if entry is not None and isinstance(entry.message, Signal):
            self._next += 1
            self._forget_done()
            return entry.message
        if not worker.bank.room:
            return None
        if self._snapshot_due:
            self._mark, self._torn = self._next, False
            self._since, self._bytes, self._taken_at = 0, 0, self._clock()
            return self._own(ItemMessage(mode=Mode.CALL, method="snapshot", packed=True, **_NOTHING))
        return None if entry is None else self._input(entry)

    def _input(self, entry: Entry) -> ItemMessage:
        assert isinstance(entry.message, ItemMessage)
        self._next += 1
        self._since += 1
        self._bytes += entry.message.nbytes
        self._worker.inputs.append(entry)
        message = self._numbered(replace(entry.message))
        if entry.number in self._cancelled and not entry.done:
            self._prelude.append(Signal(SignalKind.CANCEL, [message.input]))
        return message

    def _own(self, message: ItemMessage) -> ItemMessage:
        self._worker.inputs.append(message.method)
        return self._numbered(message)

    def _numbered(self, message: ItemMessage) -> ItemMessage:
        worker = self._worker
        worker.bank.number(message)
        worker.told = message.acked
        return message

    @property
    def _credit_due(self) -> bool:
        """Whether results that were none for the caller have used up half of the worker's window."""
        return (self._worker.bank.acked - self._worker.told) * 2 >= self._window

    @property
    def _snapshot_due(self) -> bool:
        if not self._restores or self._mark is not None or not self._since:
            return False
        late = self._clock() - self._taken_at >= SNAPSHOT_NS
        return late or self._torn or self._since >= SNAPSHOT_INPUTS or self._bytes >= SNAPSHOT_BYTES

    # What the worker says.

    def take(self, output: ItemMessage) -> ItemMessage | None:
        """A result as the caller shall see it, or None: it is none for the caller, or has been passed on, or has to wait.

        Raises LinkError for one that cannot be, SessionError when the object's ``snapshot`` or ``restore`` raises.
        """
        worker, ordinal = self._worker, output.ordinal
        if not worker.bank.accept(output):
            return None
        entry = worker.inputs[0]
        worker.k += 1
        k = worker.k
        if output.last:
            worker.inputs.popleft()
            worker.k = 0
        if isinstance(entry, str):
            worker.bank.delivered(ordinal)
            self._answered(entry, output)
            return None
        if entry.done or (k <= entry.passed and not output.last):  # an earlier worker's has been passed on
            worker.bank.delivered(ordinal)
            _release(output)
            return None
        if k <= entry.passed:  # it ends earlier than it did before: only that is news
            _release(output)
            output = ItemMessage(stamps=output.stamps, last=True)
        worker.unacked.append((ordinal, self._ordinal + 1))
        return self._passed(entry, output)

    def _passed(self, entry: Entry, output: ItemMessage) -> ItemMessage | None:
        bank = self._worker.bank
        entry.passed += 1
        entry.done = output.last
        self._ordinal += 1
        output.input, output.k, output.ordinal = entry.number, entry.passed, self._ordinal
        output.granted = self._number + max(0, bank.granted - bank.sent - (len(self._log) - self._next))
        if entry.done:
            self._torn = self._torn or entry.number in self._cancelled
            self._cancelled.discard(entry.number)
            self._forget_done()
        if self._held or self._ordinal - self._acked > self._window:
            self._held.append(_owned(output))
            return None
        return output

    def released(self) -> ItemMessage | None:
        """A result that has waited and need not any more."""
        if self._held and self._held[0].ordinal - self._acked <= self._window:
            return self._held.popleft()
        return None

    def _answered(self, method: str, output: ItemMessage) -> None:
        """To a call of our own: here is its state, or it has taken its predecessor's."""
        if output.failure is not None:
            raise SessionError(
                f"the object's {method}() raised {output.failure.type}: {output.failure.message}",
                self.first_unfinished or None,
            )
        if method == "snapshot" and self._mark is not None:
            buffers = [bytes(whole(buffer)) for buffer in output.buffers]
            self._state = ItemMessage(codec=output.codec, meta=output.meta, buffers=buffers)
            self._forget(self._mark)
            self._mark = None
        _release(output)

    def _forget_done(self) -> None:
        """Without a state no worker needs what is finished, once the present one has been told."""
        if not self._restores:
            self._forget(next((n for n, each in enumerate(self._log) if n >= self._next or not each.done), len(self._log)))

    def _forget(self, count: int) -> None:
        """No worker will need the first entries of the log again."""
        for _ in range(count):
            change = self._log.popleft().message
            if isinstance(change, Signal):
                self._parameters.update(json.loads(change.data))
        self._next = max(0, self._next - count)


def _release(output: ItemMessage) -> None:
    if output.release is not None:
        output.buffers = ()
        output.release()
        output.release = None


def _owned(output: ItemMessage) -> ItemMessage:
    """With a copy of what lies in memory that the worker will use again."""
    if output.release is not None:
        buffers = [bytes(whole(buffer)) for buffer in output.buffers]
        _release(output)
        output.buffers = buffers
    return output


def _nothing() -> dict[str, Any]:
    codec, meta, buffers = Values().encode(((), {}))
    return {"codec": codec, "meta": meta, "buffers": buffers}


_NOTHING = _nothing()  # the arguments of a call without any
