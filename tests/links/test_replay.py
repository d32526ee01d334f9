"""Replay: a session over a network that is cut at any moment, in both directions, and resumed."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from avlab.core.errors import LinkError
from avlab.core.message import Credit, ItemMessage, Message, Receipt, Resume, Resumed
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote import replay
from avlab.remote.delivery import CallerBank, HostBank
from avlab.remote.replay import Replay


class Side:
    """One side: what it keeps, how far the present connection has taken it, and what is on the way to the other."""

    def __init__(self) -> None:
        self.replay = Replay("s")
        self.position = 0
        self.wire: deque[bytes] = deque()

    def say(self, message: Message, connected: bool) -> None:
        self.replay.add(encode_batch([message]))
        if connected:
            self.send()

    def send(self) -> None:
        found = self.replay.pending(self.position, 1 << 30)
        self.position += len(found)
        self.wire.extend(found)

    def hear(self, other: "Side") -> Message | None:
        """The next message from the other side, if one is there and belongs to the session."""
        if not other.wire:
            return None
        data = other.wire.popleft()
        message = next(decode_batch(data))
        if isinstance(message, Receipt):
            self.replay.forget(message.received)
            return None
        self.replay.arrived(len(data))
        return message


class Cuts(RuleBasedStateMachine):
    """A caller and a host that each do any possible step next; the connection between them breaks at any moment."""

    @initialize(window=st.integers(1, 5), inputs=st.integers(1, 5))
    def start(self, window: int, inputs: int) -> None:
        self.caller, self.host = CallerBank(window=window), HostBank(window=window, inputs=inputs)
        self.caller.granted = self.inputs = inputs
        self.near, self.far = Side(), Side()
        self.connected = True
        self.given = 0
        self.seen: list[int] = []  # by the host, in order
        self.work: deque[int] = deque()
        self.made: list[tuple[int, int]] = []
        self.taken: list[tuple[int, int]] = []  # by the consumer
        self.arrived: deque[ItemMessage] = deque()

    def teardown(self) -> None:
        if hasattr(self, "near"):
            self.finish()

    # What the two sides do; they may go on while there is no connection.

    @precondition(lambda self: self.caller.room)
    @rule()
    def send(self) -> None:
        self.given += 1
        message = self.caller.number(ItemMessage(codec="json", meta=str(self.given).encode()))
        self.near.say(message, self.connected)

    @precondition(lambda self: self.connected)
    @rule()
    def host_receives(self) -> None:
        message = self.far.hear(self.near)
        if isinstance(message, ItemMessage):
            assert self.host.accept(message)
            self.seen.append(int(message.meta))
            self.work.append(int(message.meta))
        elif isinstance(message, Credit):
            self.host.acknowledge(message.acked)

    @precondition(lambda self: self.work and self.host.room)
    @rule(last=st.booleans())
    def host_answers(self, last: bool) -> None:
        number = self.work[0]
        if last:
            self.work.popleft()
        self.made.append((number, len(self.made)))
        meta = f"{number} {len(self.made) - 1}".encode()
        self.far.say(self.host.output(ItemMessage(codec="json", meta=meta), last), self.connected)

    @precondition(lambda self: self.connected)
    @rule()
    def caller_receives(self) -> None:
        message = self.near.hear(self.far)
        if isinstance(message, ItemMessage):
            assert self.caller.accept(message)
            self.arrived.append(message)

    @precondition(lambda self: self.arrived)
    @rule(tell=st.booleans())
    def consumer_takes(self, tell: bool) -> None:
        message = self.arrived.popleft()
        number, made = map(int, message.meta.split())
        self.taken.append((number, made))
        self.caller.delivered(message.ordinal)
        if tell:
            self.near.say(Credit(self.caller.acked), self.connected)

    @precondition(lambda self: self.connected)
    @rule(near=st.booleans())
    def tell(self, near: bool) -> None:
        side = self.near if near else self.far
        side.wire.append(encode_batch([side.replay.receipt()]))

    # What happens to the connection.

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        """Whatever is under way is lost, in both directions."""
        self.near.wire.clear()
        self.far.wire.clear()
        self.connected = False

    @precondition(lambda self: not self.connected)
    @rule(breaks_again=st.booleans(), stale=st.booleans())
    def resume(self, breaks_again: bool, stale: bool) -> None:
        request = self.near.replay.resume()
        answer = self.far.replay.accept(request)
        if stale:
            with pytest.raises(LinkError, match="fenced"):
                self.far.replay.accept(request)
        if breaks_again:
            return
        self.far.position = request.received
        self.near.position = self.near.replay.resumed(answer)
        self.connected = True
        self.far.send()
        self.near.send()

    # What always holds.

    @invariant()
    def nothing_is_lost_repeated_or_out_of_order(self) -> None:
        if hasattr(self, "near"):
            assert self.seen == list(range(1, len(self.seen) + 1))
            assert self.taken == self.made[: len(self.taken)]

    @invariant()
    def what_is_under_way_is_bounded(self) -> None:
        if hasattr(self, "near"):
            assert self.caller.in_flight <= self.inputs + self.host.window
            assert len(self.arrived) <= self.host.window
            assert len(self.work) <= self.inputs

    @invariant()
    def only_what_was_taken_is_acknowledged(self) -> None:
        if hasattr(self, "near"):
            assert self.host.acked <= self.caller.acked == len(self.taken)

    def finish(self) -> None:
        """From any state everything that was given comes through, and then nothing is kept."""
        if not self.connected:
            self.resume(breaks_again=False, stale=False)
        self.near.say(Credit(self.caller.acked), True)  # what was taken without a word
        for _ in range(10 * (len(self.made) + self.given + self.near.replay.sent + 10)):
            self.host_receives()
            if self.work and self.host.room:
                self.host_answers(last=True)
            self.caller_receives()
            if self.arrived:
                self.consumer_takes(tell=True)
        assert self.seen == list(range(1, self.given + 1))
        assert self.taken == self.made
        assert list(dict(self.made)) == list(range(1, self.given + 1))
        assert self.caller.first_undelivered is None
        for near in (True, False):
            self.tell(near)
        self.near.hear(self.far)
        self.far.hear(self.near)
        assert (self.near.replay.kept, self.far.replay.kept) == (0, 0)


TestCuts = Cuts.TestCase
TestCuts.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def kept(count: int, size: int = 10) -> Replay:
    made = Replay("s")
    for _ in range(count):
        made.add(bytes(size))
    made.pending(0, 1 << 30)  # they are on their way
    return made


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Resume("other", 1, 2), "not this one"),
        (Resume("s", 0, 2), "fenced"),
        (Resume("s", 1, 1), "resumed after"),
        (Resume("s", 1, 5), "resumed after"),
    ],
)
def test_an_impossible_resumption_is_refused(request_, text) -> None:
    side = kept(4)
    side.forget(2)
    side.arrived(1)
    with pytest.raises(LinkError, match=text):
        side.accept(request_)
    assert (side.epoch, side.kept) == (0, 20)
    assert side.accept(Resume("s", 7, 3)) == Resumed(7, 1)
    assert [len(data) for data in side.pending(3, 100)] == [10]
    with pytest.raises(LinkError, match="fenced"):
        side.accept(Resume("s", 7, 3))


@pytest.mark.parametrize(
    ("answer", "text"), [(Resumed(2, 3), "epoch 2"), (Resumed(1, 1), "go on"), (Resumed(1, 5), "go on")]
)
def test_an_impossible_answer_is_refused(answer, text) -> None:
    side = kept(4)
    side.forget(2)
    side.resume()
    with pytest.raises(LinkError, match=text):
        side.resumed(answer)
    assert side.resumed(Resumed(1, 3)) == 3
    assert side.kept == 10


def test_a_receipt_for_what_was_never_sent_is_refused() -> None:
    side = kept(4)
    with pytest.raises(LinkError, match="never sent"):
        side.forget(5)
    side.add(b"waits to be sent")
    for number in (5, 6):
        with pytest.raises(LinkError, match="never sent"):
            side.forget(number)
    assert not side.has(5)
    side.forget(4)
    side.forget(2)  # an old one
    assert side.pending(4, 100) == [b"waits to be sent"]
    side.forget(5)
    assert side.kept == 0


def test_a_receipt_is_due_after_so_many_messages_or_bytes_or_at_once() -> None:
    side = Replay()
    for _ in range(replay.TELL - 1):
        side.arrived(1)
    assert not side.due
    side.arrived(1)
    assert side.due
    assert side.receipt() == Receipt(replay.TELL)
    assert not side.due
    side.arrived(replay.TELL_BYTES)
    assert side.due
    side.receipt()
    side.arrived(1, urgent=True)
    assert side.due


def test_what_is_kept_has_a_bound() -> None:
    side = kept(1, replay.KEPT)
    assert not side.full
    side.add(b"x")
    assert side.full
    side.forget(1)
    assert not side.full


def test_a_side_that_keeps_nothing_has_nothing_to_send_again() -> None:
    side = Replay("s", keeps=False)
    for _ in range(3):
        side.add(b"12345")
    assert side.pending(0, 9) == [b"12345"]
    assert side.kept == 10
    with pytest.raises(LinkError, match="resumed after"):
        side.accept(Resume("s", 1, 0))


def test_a_batch_has_at_least_one_message_and_not_much_more_than_its_limit() -> None:
    side = kept(5)
    assert [len(side.pending(position, 25)) for position in range(6)] == [2, 2, 2, 2, 1, 0]
    assert len(side.pending(0, 1)) == 1
