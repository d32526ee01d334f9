"""Channels: bounds, policies, ends, counts; with real threads."""

import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from avlab.core.channel import ChannelClosed, Policy, open_channel

SOON = 10.0  # seconds that a test waits for what happens at once


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor


def consistent(statistics):
    return statistics.sent == statistics.received + statistics.dropped + statistics.waiting


def waiting(state, room):
    """Until a thread waits in one of the channel's waiting rooms."""
    turn = threading.Event()
    while not getattr(state, room):
        turn.wait(0.001)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_block_keeps_everything_in_order(values, capacity):
    sender, receiver = open_channel(capacity)

    def send():
        for value in values:
            sender.send(value)
        sender.close()

    thread = threading.Thread(target=send)
    thread.start()
    got = list(receiver)
    thread.join(SOON)
    assert got == values
    assert consistent(receiver.statistics())


@given(st.lists(st.integers(), min_size=1))
def test_latest_keeps_the_newest(values):
    sender, receiver = open_channel(5, Policy.LATEST)
    for value in values:
        sender.send(value)
    sender.close()
    assert list(receiver) == values[-1:]
    assert sender.statistics().dropped == len(values) - 1


@given(st.lists(st.tuples(st.sampled_from("av"), st.integers())))
def test_latest_of_each_kind_never_drops_another_kind(values):
    depth = {"a": 3, "v": 1}
    sender, receiver = open_channel(64, Policy.LATEST, lambda value: (value[0], depth[value[0]]))
    for value in values:
        sender.send(value)
    sender.close()
    got = list(receiver)
    for kind, keep in depth.items():
        assert [v for v in got if v[0] == kind] == [v for v in values if v[0] == kind][-keep:]
    assert got == [v for v in values if v in got][-len(got) :] or len(set(values)) < len(values)
    assert consistent(sender.statistics())


@given(st.lists(st.integers()), st.integers(1, 4))
def test_drop_oldest_keeps_the_last(values, capacity):
    sender, receiver = open_channel(capacity, Policy.DROP_OLDEST)
    for value in values:
        sender.send(value)
    sender.close()
    assert list(receiver) == values[-capacity:]
    assert consistent(sender.statistics())


def test_send_waits_for_room(pool):
    sender, receiver = open_channel(1)
    sender.send(1)
    second = pool.submit(sender.send, 2)
    waiting(sender._state, "senders_waiting")
    assert not second.done()
    assert receiver.receive() == 1
    second.result(SOON)
    assert receiver.receive() == 2


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_closing_wakes_a_blocked_sender(pool, end):
    sender, receiver = open_channel(1)
    sender.send(1)
    blocked = pool.submit(sender.send, 2)
    waiting(sender._state, "senders_waiting")
    (sender if end == "sender" else receiver).close()
    with pytest.raises(ChannelClosed):
        blocked.result(SOON)
    assert consistent(sender.statistics())


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_closing_wakes_a_blocked_receiver(pool, end):
    sender, receiver = open_channel(1)
    blocked = pool.submit(receiver.receive)
    waiting(sender._state, "receivers_waiting")
    (sender if end == "sender" else receiver).close()
    with pytest.raises(ChannelClosed):
        blocked.result(SOON)


def test_the_cause_comes_after_what_is_queued():
    sender, receiver = open_channel()
    sender.send(1)
    sender.close(KeyError("why"))
    sender.close(ValueError("too late"))
    got = []
    with pytest.raises(KeyError, match="why"):
        got.extend(receiver.receive() for _ in range(2))
    with pytest.raises(KeyError, match="why"):
        receiver.receive()
    assert sender.statistics().received == 1


def test_receive_times_out():
    _, receiver = open_channel()
    with pytest.raises(TimeoutError):
        receiver.receive(0)


def test_a_closed_receiver_drops_and_counts():
    sender, receiver = open_channel()
    for value in range(3):
        sender.send(value)
    receiver.close()
    receiver.close()
    assert sender.statistics().dropped == 3
    with pytest.raises(ChannelClosed):
        sender.send(4)


def test_discard_frees_the_sender_and_keeps_the_end(pool):
    sender, receiver = open_channel(1)
    sender.send(1)
    blocked = pool.submit(sender.send, 2)
    waiting(sender._state, "senders_waiting")
    receiver.discard()
    blocked.result(SOON)
    sender.send(3)
    sender.close()
    assert list(receiver) == []
    assert sender.statistics().dropped == 3
    assert consistent(sender.statistics())


def test_listener_hears_each_value_and_the_end():
    sender, receiver = open_channel()
    heard = []
    receiver.listen(lambda: heard.append(sender.statistics().sent))
    sender.send("a")
    sender.send("b")
    sender.close()
    receiver.listen(None)
    assert heard == [1, 2, 2]


@pytest.mark.parametrize("capacity", [0, -1])
def test_impossible_capacity(capacity):
    with pytest.raises(ValueError, match="at least one"):
        open_channel(capacity)


@pytest.mark.parametrize("policy", list(Policy))
def test_many_senders_and_receivers_lose_nothing_uncounted(pool, policy):
    sender, receiver = open_channel(3, policy)
    writers = [pool.submit(lambda n=n: [sender.send((n, i)) for i in range(500)]) for n in range(4)]
    readers = [pool.submit(lambda: list(receiver)) for _ in range(3)]
    for writer in writers:
        writer.result(SOON)
    sender.close()
    got = [value for reader in readers for value in reader.result(SOON)]
    statistics = sender.statistics()
    assert len(got) == len(set(got)) == statistics.received
    assert statistics.sent == 2000 == statistics.received + statistics.dropped
    assert (policy is Policy.BLOCK) == (statistics.dropped == 0)


class ChannelMachine(RuleBasedStateMachine):
    """A channel behaves like a deque with a bound, whatever the order of calls."""

    def __init__(self):
        super().__init__()
        self.sender, self.receiver = open_channel(3, Policy.DROP_OLDEST)
        self.model = deque(maxlen=3)
        self.ended = False

    @precondition(lambda self: not self.ended)
    @rule(value=st.integers())
    def send(self, value):
        self.sender.send(value)
        self.model.append(value)

    @precondition(lambda self: self.model)
    @rule()
    def receive(self):
        assert self.receiver.receive(0) == self.model.popleft()

    @precondition(lambda self: not self.model)
    @rule()
    def receive_nothing(self):
        with pytest.raises(ChannelClosed if self.ended else TimeoutError):
            self.receiver.receive(0)

    @rule()
    def close(self):
        self.sender.close()
        self.ended = True

    @invariant()
    def counts_agree(self):
        statistics = self.sender.statistics()
        assert consistent(statistics)
        assert statistics.waiting == len(self.model) <= statistics.capacity


TestChannelMachine = ChannelMachine.TestCase


def test_an_interrupt_at_the_end_of_a_wait_leaves_the_channel_whole() -> None:
    """Ctrl-C in the instant before a condition has its lock back."""

    def interrupt(frame, event, argument):
        if frame.f_code.co_name == "_acquire_restore":
            raise KeyboardInterrupt

    sender, receiver = open_channel()
    sys.settrace(interrupt)
    try:
        with pytest.raises((KeyboardInterrupt, TimeoutError)):
            receiver.receive(0.01)
    finally:
        sys.settrace(None)
    sender.send(1)
    assert receiver.receive(1) == 1
