"""Delivery over an in-memory link that is cut at any message, in both directions, and resumed."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from avlab.core.errors import LinkError
from avlab.core.message import Credit, ItemMessage, Resume, Resumed
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote.delivery import MAX_IN_FLIGHT, CallerBank, HostBank
from avlab.remote.links.inproc import link_pair


class Cuts(RuleBasedStateMachine):
    """A caller and a host that each do any possible step next; the link between them breaks at any moment."""

    @initialize(window=st.integers(1, 5), inputs=st.integers(1, 5))
    def start(self, window: int, inputs: int) -> None:
        self.caller = CallerBank("s", window=window, retain=True)
        self.host = HostBank("s", window=window, inputs=inputs, retain=True)
        self.caller.granted = inputs
        self.inputs = inputs
        self.near, self.far = link_pair()
        self.old: list = []
        self.resuming = False
        self.given = 0
        self.seen: list[int] = []  # by the host, in order
        self.work: deque[int] = deque()
        self.made: list[tuple[int, int]] = []
        self.taken: list[tuple[int, int]] = []  # by the consumer
        self.arrived: deque[ItemMessage] = deque()

    def teardown(self) -> None:
        if not hasattr(self, "near"):
            return
        self.finish()
        for link in (self.near, self.far):
            link.close()

    # What the two sides do.

    @precondition(lambda self: self.caller.room and not self.resuming)
    @rule()
    def send(self) -> None:
        self.given += 1
        message = self.caller.number(ItemMessage(codec="json", meta=str(self.given).encode()))
        self.near.send(message)

    @precondition(lambda self: not self.resuming)
    @rule()
    def host_receives(self) -> None:
        message = self.far.look()
        if isinstance(message, ItemMessage):
            if self.host.accept(message):
                self.seen.append(int(message.meta))
                self.work.append(int(message.meta))
        elif isinstance(message, Credit):
            self.host.acknowledge(message.acked)

    @precondition(lambda self: self.work and self.host.room and not self.resuming)
    @rule(last=st.booleans())
    def host_answers(self, last: bool) -> None:
        number = self.work[0]
        if last:
            self.work.popleft()
        self.made.append((number, len(self.made)))
        meta = f"{number} {len(self.made) - 1}".encode()
        self.far.send(self.host.output(ItemMessage(codec="json", meta=meta), last))

    @precondition(lambda self: not self.resuming)
    @rule()
    def caller_receives(self) -> None:
        message = self.near.look()
        if isinstance(message, ItemMessage) and self.caller.accept(message):
            self.arrived.append(message)

    @precondition(lambda self: self.arrived)
    @rule(tell=st.booleans())
    def consumer_takes(self, tell: bool) -> None:
        message = self.arrived.popleft()
        number, made = map(int, message.meta.split())
        self.taken.append((number, made))
        self.caller.delivered(message.ordinal)
        if tell and not self.resuming:
            self.near.send(Credit(self.caller.acked))

    # What happens to the link.

    @precondition(lambda self: not self.resuming)
    @rule()
    def cut(self) -> None:
        """Whatever is under way is lost, in both directions."""
        self.near.close()
        self.far.close()
        self.near, self.far = link_pair()
        self.resuming = True

    @precondition(lambda self: self.resuming)
    @rule(breaks_again=st.booleans(), stale=st.booleans())
    def resume(self, breaks_again: bool, stale: bool) -> None:
        self.near.send(self.caller.resume())
        request = self.far.recv()
        assert isinstance(request, Resume)
        answer, outputs = self.host.resume(request)
        if stale:
            with pytest.raises(LinkError, match="fenced"):
                self.host.resume(request)
        if breaks_again:
            return
        self.far.send(answer)
        for output in outputs:
            self.far.send(output)
        got = self.near.recv()
        assert isinstance(got, Resumed)
        for message in self.caller.resumed(got):
            self.near.send(message)
        self.resuming = False

    # What always holds.

    @invariant()
    def nothing_is_lost_repeated_or_out_of_order(self) -> None:
        if not hasattr(self, "near"):
            return
        assert self.seen == list(range(1, len(self.seen) + 1))
        assert self.taken == self.made[: len(self.taken)]

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        if not hasattr(self, "near"):
            return
        assert len(self.host._replay) <= self.host.window
        assert self.caller.in_flight <= self.inputs + self.host.window
        assert len(self.arrived) <= self.host.window
        assert len(self.work) <= self.inputs

    @invariant()
    def only_what_was_taken_is_acknowledged(self) -> None:
        if not hasattr(self, "near"):
            return
        assert self.host.acked <= self.caller.acked == len(self.taken)

    def finish(self) -> None:
        """From any state everything that was given comes through."""
        if self.resuming:
            self.resume(breaks_again=False, stale=False)
        self.near.send(Credit(self.caller.acked))  # what was taken without a word
        for _ in range(10 * (len(self.made) + self.given + 10)):
            self.host_receives()
            if self.work and self.host.room:
                self.host_answers(last=True)
            self.caller_receives()
            if self.arrived:
                self.consumer_takes(tell=True)
        assert self.seen == list(range(1, self.given + 1))
        assert self.taken == self.made
        assert [number for number, _ in dict(self.made).items()] == list(range(1, self.given + 1))
        assert self.caller.first_undelivered is None
        assert not self.host._replay


TestCuts = Cuts.TestCase
TestCuts.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_bytes_of_a_batch_are_the_messages() -> None:
    messages = [Credit(1, 2), Resume("s", 3, 4), Resumed(5, 6)]
    assert list(decode_batch(encode_batch(messages))) == messages


# What a peer may not do.


def output(ordinal: int, input: int = 1, last: bool = False) -> ItemMessage:
    return ItemMessage(input=input, k=1, ordinal=ordinal, last=last)


@pytest.fixture
def caller() -> CallerBank:
    bank = CallerBank("s", window=4)
    bank.granted = 8
    for _ in range(3):
        bank.number(ItemMessage())
    return bank


def test_a_repeated_output_is_dropped(caller) -> None:
    assert caller.accept(output(1))
    assert not caller.accept(output(1))
    assert caller.accept(output(2))


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([output(2)], "lost"),
        ([output(1, input=2)], "instead of 1"),
        ([output(1, input=0)], "instead of 1"),
        ([output(1, last=True), output(2, input=1)], "instead of 2"),
        ([output(n, n, True) for n in (1, 2, 3)] + [output(4, 4)], "never sent"),
        ([output(n) for n in range(1, 6)], "window of 4"),
    ],
)
def test_an_impossible_output_is_refused(caller, outputs, text) -> None:
    *possible, impossible = outputs
    for message in possible:
        assert caller.accept(message)
    with pytest.raises(LinkError, match=text):
        caller.accept(impossible)


def test_credit_is_never_overdrawn_whatever_is_granted(caller) -> None:
    caller.granted = 1 << 63
    while caller.room:
        caller.number(ItemMessage())
    assert caller.sent == MAX_IN_FLIGHT


@pytest.mark.parametrize(("numbers", "text"), [([2], "lost"), ([1, 2, 3], "without credit"), ([1, 3], "lost")])
def test_an_impossible_input_is_refused(numbers, text) -> None:
    bank = HostBank("s", inputs=2)
    *possible, impossible = numbers
    for number in possible:
        assert bank.accept(ItemMessage(input=number))
    with pytest.raises(LinkError, match=text):
        bank.accept(ItemMessage(input=impossible))


def test_an_acknowledgement_of_what_was_never_made_is_refused() -> None:
    bank = HostBank("s")
    with pytest.raises(LinkError, match="before it was made"):
        bank.acknowledge(1)
    with pytest.raises(LinkError, match="before it was made"):
        bank.accept(ItemMessage(input=1, acked=1))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Resume("other", 1, 0), "not this one"),
        (Resume("s", 0, 0), "fenced"),
        (Resume("s", 1, 3), "resumed after"),
        (Resume("s", 1, 0), "resumed after"),
    ],
)
def test_an_impossible_resumption_is_refused(request_, text) -> None:
    bank = HostBank("s", retain=True)
    bank.accept(ItemMessage(input=1))
    bank.output(ItemMessage(), last=False)
    bank.output(ItemMessage(), last=True)
    bank.acknowledge(1)
    with pytest.raises(LinkError, match=text):
        bank.resume(request_)
    assert bank.epoch == 0
    answer, again = bank.resume(Resume("s", 7, 1))
    assert (answer, [message.ordinal for message in again]) == (Resumed(7, 1), [2])


def test_a_bank_that_keeps_nothing_cannot_resume() -> None:
    with pytest.raises(LinkError, match="not kept"):
        HostBank("s").resume(Resume("s", 1, 0))
    caller = CallerBank("s")
    caller.granted = 1
    caller.number(ItemMessage())
    caller.resume()
    with pytest.raises(LinkError, match="not kept"):
        caller.resumed(Resumed(1, 0))
    with pytest.raises(LinkError, match="epoch 2 instead of 1"):
        caller.resumed(Resumed(2, 0))
    with pytest.raises(LinkError, match="never sent"):
        caller.resumed(Resumed(1, 2))


@given(st.lists(st.booleans(), max_size=20), st.permutations(range(8)))
def test_outputs_delivered_in_any_order_are_acknowledged_without_gaps(lasts, order) -> None:
    bank = CallerBank("s", window=8)
    bank.granted = 8
    number = 1
    bank.number(ItemMessage())
    for ordinal in range(1, 9):
        last = ordinal <= len(lasts) and lasts[ordinal - 1]
        bank.accept(ItemMessage(input=number, ordinal=ordinal, last=last))
        if last:
            bank.number(ItemMessage())
            number += 1
    done: set[int] = set()
    for index in order:
        bank.delivered(index + 1)
        done.add(index + 1)
        assert bank.acked == next(n for n in range(9) if n + 1 not in done)


def test_what_could_not_be_sent_leaves_no_trace() -> None:
    caller, host = CallerBank("s", retain=True), HostBank("s", retain=True)
    caller.granted = 4
    first = caller.number(ItemMessage())
    caller.withdraw(caller.number(ItemMessage()))
    assert (caller.sent, caller.in_flight, caller.first_undelivered) == (1, 1, 1)
    host.accept(first)
    host.output(ItemMessage(), last=False)
    host.withdraw(host.output(ItemMessage(), last=True))
    again = host.output(ItemMessage(), last=True)
    assert (again.input, again.k, again.ordinal, again.granted) == (1, 2, 2, 17)
    assert host.resume(Resume("s", 1, 0))[1][-1] is again
