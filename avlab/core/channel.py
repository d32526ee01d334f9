"""Channel: a bounded queue between two threads, with a sending and a receiving end.

Closing the sending end ends the stream (with a cause, if there is one); closing the receiving end tells the sender that
nobody listens. There are no sentinels. One lock, two waiting rooms.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from avlab.core.errors import AvlabError

T = TypeVar("T")

Keep = Callable[[T], tuple[Hashable, int]]
"""Kind of a value, and how many of that kind a LATEST channel keeps."""


class Policy(Enum):
    """What a full channel does: make the sender wait, keep only the newest (of each kind), or drop the oldest."""

    BLOCK = "block"
    LATEST = "latest"
    DROP_OLDEST = "drop_oldest"


class ChannelClosed(AvlabError):
    """The other end of a channel is closed."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counts since the channel was made; ``waiting`` values are in it now."""

    sent: int
    received: int
    dropped: int
    waiting: int
    capacity: int


class _State(Generic[T]):
    def __init__(self, capacity: int, policy: Policy, keep: Keep[T] | None) -> None:
        self.queue: deque[T] = deque()
        self.capacity, self.policy, self.keep = capacity, policy, keep
        # A condition takes this kind back in one step: another one would be lost to an interrupt that comes before it is taken back.
        lock = threading.RLock()
        self.lock = lock
        self.filled, self.emptied = threading.Condition(lock), threading.Condition(lock)
        self.receivers_waiting = self.senders_waiting = 0
        self.sent = self.received = self.dropped = 0
        self.ended = self.abandoned = self.discarding = False
        self.cause: BaseException | None = None
        self.listener: Callable[[], None] | None = None

    def outdate(self, value: T, keep: Keep[T]) -> None:
        """Drop what ``value`` makes old news."""
        kind, depth = keep(value)
        same = [index for index, queued in enumerate(self.queue) if keep(queued)[0] == kind]
        if len(same) >= depth:
            del self.queue[same[0]]
            self.dropped += 1

    def statistics(self) -> ChannelStatistics:
        with self.lock:
            return ChannelStatistics(self.sent, self.received, self.dropped, len(self.queue), self.capacity)


class Sender(Generic[T]):
    """The end that values are put into."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def send(self, value: T) -> None:
        """Put a value; waits while the channel is full under BLOCK, never otherwise.

        Raises ChannelClosed when either end is closed.
        """
        state = self._state
        with state.lock:
            while True:
                if state.abandoned or state.ended:
                    raise ChannelClosed("the channel is closed")
                if state.discarding:
                    state.sent += 1
                    state.dropped += 1
                    return
                if state.keep is not None:
                    state.outdate(value, state.keep)
                if len(state.queue) < state.capacity:
                    break
                if state.policy is not Policy.BLOCK:
                    state.queue.popleft()
                    state.dropped += 1
                    break
                state.senders_waiting += 1
                try:
                    state.emptied.wait()
                finally:
                    state.senders_waiting -= 1
            state.queue.append(value)
            state.sent += 1
            if state.receivers_waiting:
                state.filled.notify()
            listener = state.listener
        if listener is not None:
            listener()

    def close(self, cause: BaseException | None = None) -> None:
        """End the stream; the receiver gets what is still queued and then ``cause``, if given. Idempotent."""
        state = self._state
        with state.lock:
            if state.ended:
                return
            state.ended, state.cause = True, cause
            state.filled.notify_all()
            state.emptied.notify_all()
            listener = state.listener
        if listener is not None:
            listener()

    def statistics(self) -> ChannelStatistics:
        """Counts of this channel."""
        return self._state.statistics()


class Receiver(Generic[T]):
    """The end that values are taken from; iterating it ends when the sender has closed."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def receive(self, timeout: float | None = None) -> T:
        """The next value. Raises TimeoutError after ``timeout`` seconds, ChannelClosed (or the sender's cause) at the end."""
        state = self._state
        with state.lock:
            while not state.queue:
                if state.abandoned:
                    raise ChannelClosed("this end of the channel is closed")
                if state.ended:
                    if state.cause is not None:
                        raise state.cause
                    raise ChannelClosed("the stream has ended")
                state.receivers_waiting += 1
                try:
                    if not state.filled.wait(timeout):
                        raise TimeoutError(f"nothing arrived within {timeout} s")
                finally:
                    state.receivers_waiting -= 1
            value = state.queue.popleft()
            state.received += 1
            if state.senders_waiting:
                state.emptied.notify()
            return value

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                value = self.receive()
            except ChannelClosed:
                return
            yield value

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call ``listener`` after each send and at the end, in the sender's thread (to wake an event loop)."""
        with self._state.lock:
            self._state.listener = listener

    def discard(self) -> None:
        """Drop what is queued and all that follows, without holding up the sender; the end still arrives. Idempotent."""
        state = self._state
        with state.lock:
            state.discarding = True
            state.dropped += len(state.queue)
            state.queue.clear()
            state.emptied.notify_all()

    def close(self) -> None:
        """Listen no more: queued values are dropped, senders get ChannelClosed. Idempotent."""
        state = self._state
        with state.lock:
            state.abandoned = True
            state.dropped += len(state.queue)
            state.queue.clear()
            state.filled.notify_all()
            state.emptied.notify_all()

    def statistics(self) -> ChannelStatistics:
        """Counts of this channel."""
        return self._state.statistics()


def open_channel(
    capacity: int = 8, policy: Policy = Policy.BLOCK, keep: Keep[T] | None = None
) -> tuple[Sender[T], Receiver[T]]:
    """A channel for at most ``capacity`` values.

    LATEST keeps one value, or with ``keep`` (which only LATEST takes) as many of each kind as it says, so that a picture
    never drops a sound. Raises ValueError for an impossible capacity.
    """
    if capacity < 1:
        raise ValueError(f"a channel holds at least one value, not {capacity}")
    if policy is not Policy.LATEST:
        keep = None
    elif keep is None:
        capacity = 1
    state: _State[T] = _State(capacity, policy, keep)
    return Sender(state), Receiver(state)
