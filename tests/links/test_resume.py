"""Sessions over gRPC that outlive their connection: silence, callers that vanish, and who may come back."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from avlab_executor import session as served_session
from avlab_executor.relay import relay as relay_of
from avlab_executor.server import Server, ServerConfig
from avlab_executor.session import Beginning, Session
from avlab_executor.sessions import Sessions
from counted import Counted
from serving import at_work, until

import avlab
from avlab.core.errors import (
    ConfigError,
    ConnectError,
    Denied,
    LinkClosed,
    LinkError,
    SessionError,
    SessionLost,
    WorkerDied,
)
from avlab.core.message import Bundle, BundleKind, Credit, Failure, Log, Message, Open, Opened, Receipt, Resume, Resumed
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote.links.grpc import OPTIONS, SERVICE
from avlab.remote.links.resuming import Broken, ResumingLink
from avlab.testing.faults import TcpRelay

NODE = Bundle(BundleKind.NODE, "Resize", b'{"width": 8}')


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ServerConfig(port=0, sessions=6)) as made:
        yield made


@contextmanager
def connected(relay: TcpRelay, grace: float = 30.0, **options: object) -> Iterator[avlab.Executor]:
    with avlab.connect("grpc://{}:{}".format(*relay.address), grace=grace, **options) as executor:
        yield executor


# Silence, and the end of the grace.


def test_a_call_waits_through_a_cut(relay) -> None:
    with connected(relay) as executor, executor.open(Counted()) as session:
        pid = session.call("pid")
        threading.Timer(0.3, relay.cut).start()  # long before the call ends, however late it is on a busy machine
        threading.Timer(0.8, relay.heal).start()
        assert session.call("sleep", 2.5) == pid
        assert relay.statistics().connections == 2


def test_a_silent_network_is_noticed_and_the_session_goes_on_when_it_speaks_again(relay) -> None:
    with connected(relay) as executor, executor.open(Counted()) as session:
        pid = session.call("pid")
        before = relay.statistics().connections
        relay.hole()
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(session.call("pid")))
        thread.start()
        assert until(lambda: relay.statistics().connections > before, 20)  # it was noticed: another is tried
        assert not answers
        relay.heal()
        thread.join(20)
        assert answers == [pid]


def test_after_its_grace_a_session_is_lost_and_says_what_was_not_delivered(server, relay) -> None:
    with connected(relay, grace=0.5) as executor:
        session = executor.open(Counted())
        assert session.call("pid")
        assert at_work(server) == 1
        relay.cut()
        with pytest.raises(SessionLost, match=r"did not come back within 0\.5 s") as caught:
            session.call("pid")
        assert caught.value.first_undelivered == 2
        with pytest.raises(SessionLost):
            session.call("pid")
        relay.heal()
        assert until(lambda: at_work(server) == 0)
        session.close()


def test_closing_out_of_reach_does_not_wait_for_the_network(server, relay) -> None:
    with connected(relay, grace=1) as executor:
        session = executor.open(Counted())

        def work() -> None:
            with pytest.raises(avlab.SessionClosed):
                session.call("sleep", 60)

        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: session.statistics().inputs == 1)
        relay.cut()
        began = time.monotonic()
        session.close()
        assert time.monotonic() - began < 8  # 2 s; and this machine may be busy
        thread.join(10)
        relay.heal()
        assert until(lambda: at_work(server) == 0)


def test_the_stop_button_works_out_of_reach(server, relay) -> None:
    with connected(relay, grace=1) as executor:
        session = executor.open(Counted())
        assert session.call("pid")
        relay.cut()
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            session.call("sleep", 60)
        assert time.monotonic() - began < 10  # 2 s; and this machine may be busy
        timer.join()
        session.close()
        relay.heal()
        assert until(lambda: at_work(server) == 0)


def test_without_a_grace_a_session_ends_with_its_connection(server, relay) -> None:
    with connected(relay, grace=0) as executor:
        session = executor.open(Counted())
        assert session.call("pid")
        relay.cut()
        with pytest.raises(avlab.SessionError):
            session.call("pid")
        relay.heal()
        assert until(lambda: at_work(server) == 0)
        session.close()


def test_opening_out_of_reach_fails_when_connecting_has_taken_too_long(relay) -> None:
    with connected(relay, timeout=0.5) as executor:
        relay.cut()
        with pytest.raises(ConnectError):
            executor.open(Counted())
        with pytest.raises(ConnectError):
            executor.open("Resize", {"width": 8})  # no blobs
        relay.heal()


@pytest.mark.parametrize("grace", [-1, 601, float("nan"), "1", True])
def test_an_impossible_grace_is_named(grace) -> None:
    with pytest.raises(ConfigError, match="grace="):
        avlab.RemoteExecutorConfig(grace=grace)


# Callers that vanish.

CALLER = """
import sys, avlab
class Far:
    def twice(self, number): return 2 * number
executor = avlab.connect(sys.argv[1], grace=float(sys.argv[2]))
session = executor.open(Far())
assert session.call("twice", 2) == 4
print("opened", flush=True)
sys.stdin.readline()
"""


@contextmanager
def caller(url: str, grace: float, tmp_path) -> Iterator[subprocess.Popen]:
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    with subprocess.Popen(
        [sys.executable, str(script), url, str(grace)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "opened\n"
            yield process
        finally:
            process.kill()


def test_a_worker_whose_caller_was_killed_is_freed_after_its_grace(server, tmp_path) -> None:
    with caller(f"grpc://127.0.0.1:{server.port}", 2, tmp_path) as process:
        assert at_work(server) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert at_work(server) == 1
        assert until(lambda: at_work(server) == 0)


def test_a_worker_whose_caller_ends_without_closing_is_freed_at_once(server, tmp_path) -> None:
    with caller(f"grpc://127.0.0.1:{server.port}", 600, tmp_path) as process:
        assert at_work(server) == 1
        process.communicate("\n", timeout=20)
        assert process.returncode == 0
        assert until(lambda: at_work(server) == 0)


# Who may come back. These speak the wire themselves.


@pytest.fixture
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", OPTIONS) as made:
        yield made


class Stream:
    """One streaming call, message by message."""

    def __init__(self, channel: grpc.Channel, *messages: object) -> None:
        self._more = threading.Event()
        self._first = encode_batch(messages)
        self.call = channel.stream_stream(f"/{SERVICE}/StreamNode")(self._requests(), timeout=30)
        self._arrived: list = []

    def _requests(self) -> Iterator[bytes]:
        yield self._first
        self._more.wait()

    def next(self) -> object:
        while not self._arrived:
            self._arrived.extend(decode_batch(next(self.call)))
        return self._arrived.pop(0)

    def close(self) -> None:
        self._more.set()
        self.call.cancel()


@pytest.fixture
def stream(channel) -> Iterator:
    opened = []

    def make(*messages: object) -> Stream:
        opened.append(Stream(channel, *messages))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_a_newer_connection_fences_the_older_one(server, stream) -> None:
    name = "n" * 32
    old = stream(Open(NODE, session=name, grace=0.5))
    assert isinstance(old.next(), Opened)
    new = stream(Resume(name, 3, 0))
    assert new.next() == Resumed(3, 1)
    assert isinstance(new.next(), Opened)  # it said that it had nothing
    with pytest.raises((grpc.RpcError, StopIteration)):
        old.next()
    for epoch in (1, 3):
        refused = stream(Resume(name, epoch, 1)).next()
        assert isinstance(refused, Failure)
        assert "fenced by epoch 3" in refused.message
    impossible = stream(Resume(name, 4, 9)).next()
    assert isinstance(impossible, Failure)
    new.close()
    assert until(lambda: at_work(server) == 0)


def test_an_unknown_session_cannot_be_resumed(stream) -> None:
    refused = stream(Resume("u" * 32, 1, 0)).next()
    assert isinstance(refused, Failure)
    assert refused.kind == "SessionLost"


@pytest.mark.parametrize("name", ["", "guess", "x" * 15])
def test_a_name_that_can_be_guessed_is_refused(stream, name) -> None:
    refused = stream(Open(NODE, session=name, grace=5)).next()
    assert isinstance(refused, Failure)
    assert "guess" in refused.message


def test_a_name_belongs_to_one_session(server, stream) -> None:
    first = stream(Open(NODE, session="t" * 32, grace=0.2))
    assert isinstance(first.next(), Opened)
    refused = stream(Open(NODE, session="t" * 32, grace=5)).next()
    assert isinstance(refused, Failure)
    assert "exists" in refused.message
    first.close()
    assert until(lambda: at_work(server) == 0)


def test_a_caller_that_claims_more_than_it_was_sent_loses_its_worker(server, stream) -> None:
    one = stream(Open(NODE, session="c" * 32, grace=30), Receipt(99))
    while not isinstance(message := one.next(), Failure):
        pass
    assert "never sent" in message.message
    one.close()
    assert until(lambda: at_work(server) == 0)


class Idle:
    """A worker's link that has nothing to say."""

    def __init__(self) -> None:
        self.closed = False
        self.woken = threading.Event()

    def wake(self) -> None:
        self.woken.set()

    def recv(self) -> Credit:
        self.woken.wait(10)
        return Credit()

    def arrived(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def silent() -> Iterator[Log]:
    yield from ()


def at_once(link: Idle) -> Beginning:
    """A beginning that needs no preparation."""
    return Beginning(silent(), lambda: link)


def test_a_session_is_its_owners_alone() -> None:
    sessions = Sessions()
    link = Idle()
    session = sessions.start(Open(NODE, session="o" * 32, grace=5), "anna", at_once(link), 8)
    position = session.outputs(session.attach(lambda: None), 0)
    threading.Timer(0.1, session.detach, (0,)).start()
    assert list(position) == []  # it has its link by then
    assert sessions.find(Resume("o" * 32), "anna") is session
    for name, owner in (("o" * 32, "bert"), ("o" * 32, ""), ("p" * 32, "anna")):
        with pytest.raises(SessionLost, match="no such session"):
            sessions.find(Resume(name), owner)
    session.close()
    assert link.closed
    with pytest.raises(SessionLost):
        sessions.find(Resume("o" * 32), "anna")
    with pytest.raises(SessionLost):
        session.resume(Resume("o" * 32, 1), lambda: None)


def test_a_session_can_be_resumed_while_it_begins() -> None:
    sessions = Sessions()
    begun, go = threading.Event(), threading.Event()

    def progress() -> Iterator[Log]:
        yield Log("stdout", b"one")
        yield Log("stdout")  # nothing to say
        begun.set()
        go.wait(10)
        yield Log("stdout", b"two")

    def start() -> Idle:
        raise Denied("full")

    request = Open(NODE, session="w" * 32, grace=5)
    session = sessions.start(request, "", Beginning(progress(), start), 8)
    with pytest.raises(Denied, match="exists"):
        sessions.start(request, "", Beginning(silent(), start), 8)
    old = session.outputs(session.attach(lambda: None), 0)
    assert next(decode_batch(next(old))) == Log("stdout", b"one")
    thread = threading.Thread(target=list, args=(old,))
    thread.start()
    begun.wait(10)
    answer = sessions.find(Resume("w" * 32), "").resume(Resume("w" * 32, 1, 1), lambda: None)
    threading.Timer(0.1, go.set).start()
    new = session.outputs(answer.epoch, 1)
    assert next(decode_batch(next(new))) == Log("stdout", b"two")
    refused = next(decode_batch(next(new)))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.message) == ("Denied", "full")
    thread.join()
    session.receipt(3)
    assert list(new) == []
    session.detach(answer.epoch)
    assert sessions.all() == []


@pytest.mark.parametrize(("asked", "given"), [(-1, 0), (float("nan"), 0), (float("inf"), 0), (5, 5), (1e9, 600)])
def test_a_grace_has_bounds_on_the_executor(asked, given) -> None:
    assert served_session.grace_of(Open(NODE, grace=asked)) == given


def test_a_fenced_connection_hands_nothing_over() -> None:
    session = Session(at_once(Idle()), Open(NODE, session="h" * 32, grace=5), "", lambda _: None)
    old = session.attach(lambda: None)
    session.resume(Resume("h" * 32, 1, 0), lambda: None)
    with pytest.raises(LinkError, match="another connection"):
        session.take(Credit(), old, 1)
    assert list(session.outputs(old, 0)) == []
    session.detach(old)  # does not take it from the new one
    assert session._attached == 1
    session.close()


class Faulty(Idle):
    """A worker's link that cannot be fed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.reason = error, ""

    def send(self, message: object) -> None:
        raise self.error

    def kill_saying(self, reason: str, text: str) -> None:
        self.reason, self.error = reason, WorkerDied(text, reason)
        self.woken.set()

    def recv(self) -> Credit:
        super().recv()
        if self.reason:
            raise self.error
        return Credit()


def test_a_fault_of_the_executor_is_told_and_is_no_lost_caller(caplog, monkeypatch) -> None:
    monkeypatch.setattr(served_session, "LINGER_SECONDS", 0.1)  # for a caller to confirm, which this one does not
    link, held = Faulty(ValueError("a secret detail")), threading.Event()
    session = Session(at_once(link), Open(NODE, session="f" * 32, grace=5), "", lambda _: None)

    def requests() -> Iterator[bytes]:
        yield encode_batch([Open(NODE, session="f" * 32, grace=5)])
        yield encode_batch([Credit(), Receipt(1)])
        held.wait(10)

    answers = [each for data in relay_of(requests(), lambda _: session) for each in decode_batch(data)]
    held.set()
    assert [(each.reason, "internal error" in each.message) for each in answers] == [("exit", True)]
    assert "a secret detail" in caplog.text
    session.close()


def test_an_executor_that_does_not_know_the_session_gets_the_open_again_and_after_that_cut_no_third_one() -> None:
    """The second Open might have arrived, and then its name would be taken."""
    heard: list[Message] = []
    refused = Failure(kind="SessionLost", message="no such session")

    class Call:
        def __init__(self, requests: Iterator[bytes], *answers: Message) -> None:
            self.requests, self.answers = requests, answers

        def __iter__(self) -> Iterator[bytes]:
            heard.append(next(decode_batch(next(self.requests))))
            for each in self.answers:
                yield encode_batch([each])
            if not self.answers:
                raise Broken(ConnectError("cut"))

        def cancel(self) -> None: ...

    answers = iter([(), (refused,), (), (refused,), (Failure(kind="Denied", message="full"),)])
    link = ResumingLink(lambda requests, wait: Call(requests, *next(answers)), "grpc://x:1", "a" * 32, 5, 5)
    link.send(Open(NODE, session="a" * 32, grace=5))
    with pytest.raises(LinkClosed):
        while True:
            link.recv(10)
    assert [type(each) for each in heard] == [Open, Resume, Open, Resume, Open]
    link.close()


def test_who_uses_an_executor_that_another_thread_closes_hears_it(server) -> None:
    executor = avlab.connect(f"grpc://127.0.0.1:{server.port}")
    session = executor.open(Counted())
    heard: list[BaseException] = []

    def use() -> None:
        for use in (lambda: session.call("sleep", 60), executor.describe, executor.status):
            try:
                use()
            except SessionError as error:
                heard.append(error)

    using = threading.Thread(target=use, daemon=True)
    using.start()
    assert until(lambda: session.statistics().inputs == 1)
    executor._connection.close()  # as in `close`, for a session that is not in its list yet
    using.join(10)
    assert [str(error).endswith("is closed: connect again") for error in heard] == [True] * 3
    session.close()
    executor.close()
