"""Who waits for whom: full sockets, credit that is due while another thread sends, waiting awake and asleep."""

import asyncio
import select
import socket
import threading

import pytest
from serving import until

from avlab.core.errors import LinkClosed
from avlab.core.message import MAX_ITEM, Credit, ItemMessage
from avlab.core.twin import in_thread
from avlab.core.wire import decode_batch
from avlab.remote.caller import Caller
from avlab.remote.delivery import CallerBank, HostBank
from avlab.remote.exchange import Exchange
from avlab.remote.links.datachannel import ChannelCall
from avlab.remote.links.local import LocalLink
from avlab.remote.links.resuming import ResumingLink
from avlab.remote.patience import AWAKE, Patience
from avlab.remote.shared_memory import HEAD, Memory, Region

COUNT = 50


def test_who_sends_over_a_link_that_another_thread_has_closed_gets_link_closed() -> None:
    ends, there, back = socket.socketpair(), Region.create(1 << 20), Region.create(1 << 20)
    link = LocalLink(ends[0], Memory(there, back))
    link.send(ItemMessage(1, codec="bytes", buffers=[bytes(60_000)]))
    link.close()
    with pytest.raises(LinkClosed):
        link.send(ItemMessage(2, codec="bytes", buffers=[bytes(60_000)]))
    for each in (ends[1], there, back):
        each.close()


def test_a_socket_is_not_closed_under_a_sender() -> None:
    """Its number may be another file's a moment later, and the rest of a message would go there."""
    ends, there, back = socket.socketpair(), Region.create(1 << 20), Region.create(1 << 20)
    link = LocalLink(ends[0], Memory(there, back))
    closing = threading.Thread(target=link.close)
    with link._sending:
        closing.start()
        assert ends[1].recv(1) == b""
        assert link.fileno() >= 0
    closing.join(10)
    assert link.fileno() < 0
    for each in (ends[1], there, back):
        each.close()


class Narrow:
    """A channel that lets one message through at a time, and only when it may."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.sending, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()

    def send(self, data: bytes) -> None:
        if not self.sending.is_set():
            self.sending.set()
            assert self.go_on.wait(10)
        self.sent.append(data)

    def recv(self) -> bytes:
        assert self.ended.wait(10)
        raise LinkClosed("closed")

    def close(self) -> None:
        self.ended.set()


def test_what_is_sent_does_not_overtake_what_is_on_its_way() -> None:
    channel = Narrow()
    link = ResumingLink(lambda requests, wait: ChannelCall(lambda: channel, requests), "datachannel:x")
    link.hold()
    link.send(ItemMessage(1, codec="json", meta=b"1"))
    link.flush()
    assert channel.sending.wait(10)
    for number in (2, 3):
        link.send(ItemMessage(number, codec="json", meta=b"2"))
    channel.go_on.set()
    assert until(lambda: [message.input for data in channel.sent for message in decode_batch(data)] == [1, 2, 3])
    link.close()


def test_two_sides_that_both_send_much_do_not_wait_for_each_other() -> None:
    """The regions have no room, so payloads fill the sockets; the caller's side reads only when it has sent everything."""
    ends, there, back = socket.socketpair(), Region.create(HEAD), Region.create(HEAD)
    near = LocalLink(ends[0], Memory(there, back))
    far = LocalLink(ends[1], Memory(back, there), alone=True)
    payload = bytes(60_000)

    def work() -> None:
        for number in range(COUNT):
            far.send(ItemMessage(number + 1, 1, codec="bytes", buffers=[payload]))
        for number in range(COUNT):
            assert far.recv().input == number + 1

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for number in range(COUNT):
        near.send(ItemMessage(number + 1, codec="bytes", buffers=[payload]))
    assert [near.recv(10).input for _ in range(COUNT)] == list(range(1, COUNT + 1))
    worker.join(10)
    assert not worker.is_alive()
    for end in (near, far, there, back):
        end.close()


class SlowLink:
    """Takes its time to send items; keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.sending, self.go_on = threading.Event(), threading.Event()

    def send(self, message: object) -> None:
        if isinstance(message, ItemMessage) and message.input > 1:
            self.sending.set()
            assert self.go_on.wait(10)
        self.sent.append(message)


class Nobody:
    def sent(self, message: object) -> None: ...
    def received(self, message: object) -> None: ...


def test_a_consumer_does_not_wait_for_a_sender_to_acknowledge() -> None:
    link, bank = SlowLink(), CallerBank(window=2)
    bank.granted = 8
    caller, exchange = Caller(link, bank, Nobody()), Exchange()
    assert caller.submit(exchange, ItemMessage())
    feeding = threading.Thread(target=caller.submit, args=(exchange, ItemMessage()))
    feeding.start()
    assert link.sending.wait(10)
    output = ItemMessage(1, 1, True, 1)
    caller._arrive(output)
    caller.delivered(output)  # would wait for ever if it waited for the sender
    link.go_on.set()
    feeding.join(10)
    assert link.sent[-1] == Credit(1)
    assert sum(isinstance(message, Credit) for message in link.sent) == 1


def test_credit_that_is_due_goes_also_after_what_could_not_be_sent() -> None:
    """A thread that holds the link and finds no room must not leave behind what another wanted to say meanwhile."""
    link, bank = SlowLink(), CallerBank(window=2)
    bank.granted = 1
    caller, exchange = Caller(link, bank, Nobody()), Exchange()
    assert caller.submit(exchange, ItemMessage())
    caller._arrive(ItemMessage(1, 1, True, 1))
    looked = caller.room_for

    def look(size: int) -> bool:
        consumer = threading.Thread(target=caller.delivered, args=(ItemMessage(1, 1, True, 1),))
        consumer.start()
        caller._turn.release()
        consumer.join(10)
        caller._turn.acquire()
        return looked(size)

    caller.room_for = look
    assert not caller.submit(exchange, ItemMessage())
    assert link.sent[-1] == Credit(1)


def test_outputs_under_way_are_bounded_in_bytes_but_two_always_fit() -> None:
    bank = HostBank(window=32, inputs=32)
    bank.accept(ItemMessage(1))
    half = [memoryview(bytes(MAX_ITEM // 2))]
    for _ in range(2):
        assert bank.room
        bank.output(ItemMessage(buffers=half), last=False)
    assert not bank.room
    bank.acknowledge(1)
    assert bank.room
    bank.output(ItemMessage(buffers=half), last=False)
    assert not bank.room
    bank.withdraw(ItemMessage(k=3, buffers=half))
    assert bank.room
    bank.acknowledge(2)
    for _ in range(2):
        assert bank.room
        bank.output(ItemMessage(buffers=half * 2), last=False)
    assert not bank.room


class Poll:
    """Ready after so many nanoseconds; counts how often it was asked, and put to sleep."""

    def __init__(self) -> None:
        self.now = self.ready_at = self.asked = self.slept = 0

    def clock(self) -> int:
        self.now += 1_000
        return self.now

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        if milliseconds != 0:
            self.slept += 1
            self.now = max(self.now, self.ready_at)
        self.asked += 1
        return [(3, select.POLLIN)] if self.now >= self.ready_at else []


@pytest.fixture
def poll(monkeypatch) -> Poll:
    monkeypatch.setattr("avlab.remote.patience.os.sched_getaffinity", lambda _: {0, 1})
    return Poll()


def test_quick_answers_are_awaited_awake_and_one_slow_answer_ends_that(poll) -> None:
    patience = Patience(poll, poll.clock)

    def wait(nanoseconds: int) -> int:
        """How often it slept."""
        poll.ready_at, poll.slept = poll.now + nanoseconds, 0
        assert patience.poll(500)
        return poll.slept

    assert wait(AWAKE // 2) == 1  # nothing is known yet
    assert wait(AWAKE // 2) == 0
    assert wait(AWAKE // 2) == 0
    assert wait(10 * AWAKE) == 1  # after a moment awake
    asked = poll.asked
    assert wait(10 * AWAKE) == 1
    assert poll.asked == asked + 1  # not even a moment
    assert wait(AWAKE // 2) == 1
    assert wait(AWAKE // 2) == 0


def test_nobody_stays_awake_on_the_only_processor(poll, monkeypatch) -> None:
    monkeypatch.setattr("avlab.remote.patience.os.sched_getaffinity", lambda _: {0})
    patience = Patience(poll, poll.clock)
    for _ in range(3):
        poll.ready_at = poll.now + AWAKE // 2
        patience.poll(500)
    assert poll.slept == poll.asked == 3


def test_a_second_interrupt_leaves_no_thread_at_work(monkeypatch) -> None:
    """asyncio.run raises it wherever its loop is, here while a call's thread is being started."""
    stop, start = threading.Event(), threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "avlab-twin":
            raise KeyboardInterrupt

    async def call() -> None:
        await in_thread(lambda: stop.wait(60), stop.set)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(call())
    assert stop.is_set()


def test_a_task_that_is_cancelled_twice_waits_for_what_it_began() -> None:
    began, release, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        began.set()
        assert release.wait(10)
        ended.append(True)

    async def cancelled_twice() -> None:
        task = asyncio.create_task(in_thread(work, lambda: None))
        assert await asyncio.to_thread(began.wait, 10)
        for _ in range(2):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(cancelled_twice())
