"""A worker that answers with whatever it likes: the host's end must stay whole, bounded, and say what happened."""

import contextlib
import itertools
import os
import signal
import socket
import struct
import threading
from types import SimpleNamespace

import pytest
from avlab_executor import session
from avlab_executor.exits import Exit, asked_to_die
from avlab_executor.printed import MAX_LOG, MAX_SHOWN
from avlab_executor.session import Beginning
from avlab_executor.worker_link import WorkerLink

import avlab
from avlab import _pb as pb
from avlab.core import arriving
from avlab.core.arriving import Arriving
from avlab.core.errors import SessionError
from avlab.core.headers import MAX_BUFFERS
from avlab.core.message import (
    Blob,
    Bundle,
    BundleKind,
    Credit,
    End,
    Failure,
    ItemMessage,
    Log,
    Open,
    Opened,
    Receipt,
    Resume,
    Resumed,
    Slot,
)
from avlab.core.tree import Values
from avlab.core.wire import decode_batch, encode, encode_batch
from avlab.remote import caller
from avlab.remote.delivery import MAX_IN_FLIGHT, CallerBank
from avlab.remote.exchange import Exchange
from avlab.remote.interrupts import shielded
from avlab.remote.limits import Limits
from avlab.remote.links.local import LocalLink
from avlab.remote.session import WINDOW, Session
from avlab.remote.shared_memory import HEAD, SLOTS, Memory, Region

LARGE = 600 << 10
"""Bytes of a result that is announced before it is written."""


class FakeWorker:
    """What a WorkerLink takes for a process: sockets, pipes and memory, the far ends of which belong to the test."""

    pid, tier = 1, "landlock"

    def __init__(self, **limits: object) -> None:
        self.limits = Limits(**limits)
        self.socket, self.far = socket.socketpair()
        self.inbox, self.outbox = Region.create(1 << 20), Region.create(1 << 20)
        self.stdout, self.far_stdout = os.pipe()
        self.stderr, self.far_stderr = os.pipe()
        os.set_blocking(self.stdout, False)
        os.set_blocking(self.stderr, False)
        self.interrupts = 0
        self._asked: tuple[str, str] | None = None
        self._ended = threading.Event()

    def interrupt(self) -> None:
        self.interrupts += 1

    def kill(self, reason: str = "signal") -> None:
        self.kill_saying(*asked_to_die(reason, self.limits))

    def kill_saying(self, reason: str, text: str) -> None:
        self._asked = self._asked or (reason, text)
        self._ended.set()

    def exited(self, timeout: float | None = 0) -> Exit | None:
        self._ended.wait(timeout)
        return Exit(*self._asked) if self._asked else None

    def die(self) -> None:
        self.kill_saying("exit", "exit code 9")
        with contextlib.suppress(OSError):  # the host was first
            self.far.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.kill("cancelled")
        self.socket.close()
        for descriptor in (self.stdout, self.stderr):
            os.close(descriptor)
        self.inbox.close()
        self.outbox.close()


class Scene:
    """A session on a fake worker, and the worker's own end of the link."""

    def __init__(self, **limits: object) -> None:
        self.worker = FakeWorker(**limits)
        self.link = WorkerLink(self.worker)
        self.memory = Memory(self.worker.outbox, self.worker.inbox)
        self.far = LocalLink(self.worker.far, self.memory)
        self.logs: list[Log] = []
        self.player: threading.Thread | None = None
        self.session = Session(self.link, Values(), Opened("s", "", 16), name="fake", on_log=self.logs.append)

    def send(self, *messages) -> None:
        self.worker.far.sendall(encode_batch(messages))

    def play(self, *answers) -> None:
        """Answer each input with the next of these."""

        def answer_each() -> None:
            for message in answers:
                self.far.recv()
                self.send(message)

        self.player = threading.Thread(target=answer_each)
        self.player.start()

    def close(self) -> None:
        self.worker.die()
        self.session.close()
        self.far.close()
        if self.player:
            self.player.join(10)
        for descriptor in (self.worker.far_stdout, self.worker.far_stderr):
            os.close(descriptor)


@pytest.fixture
def scene():
    made = Scene()
    yield made
    made.close()


# Fields that come again later take the place of these.
VIDEO = (
    b'{"format":"rgb24","size":[16,8],"pts":null,"dts":null,"base":null,"duration":0,"colors":[0,0,0,0],"picture":0,'
    b'"key":false,%s}'
)


def answer(ordinal: int = 1, **fields: object) -> ItemMessage:
    return ItemMessage(
        **{
            "input": ordinal,
            "k": 1,
            "last": True,
            "ordinal": ordinal,
            "codec": "json",
            "meta": b"1",
            "granted": ordinal + 16,
        }
        | fields
    )


def test_the_scene_plays(scene) -> None:
    scene.play(answer(1), answer(2, meta=b'"two"'))
    assert scene.session.call("anything") == 1
    assert scene.session.call("anything") == "two"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00",
        b"\xff" * 100,
        pytest.param(os.urandom(4096) + b"\x00", id="random"),
        b"\x0a\x02\x2a\x05",  # a field beyond its message
        b"\x0a" + b"\xff" * 9 + b"\x7f",  # a length of 2**70
        b"\x0a\xff\xff\xff\xff\x7f",  # 32 GiB are announced
        b"\x0a\x00",  # a message of no kind
        b"\x0a\x04\x1a\x02\x28\x09",  # an Item with an unknown mode
    ],
    ids=lambda garbage: garbage[:8].hex(),
)
def test_garbage_ends_the_session_and_the_worker(scene, garbage) -> None:
    scene.worker.far.sendall(garbage)
    with pytest.raises(avlab.WorkerDied, match="malformed") as caught:
        scene.session.call("anything")
    assert caught.value.first_undelivered == 1
    assert scene.worker.exited() is not None
    with pytest.raises(avlab.WorkerDied, match="malformed"):
        scene.session.call("anything")


@pytest.mark.parametrize(
    "outputs",
    [
        [answer(2)],
        [answer(1, input=2)],
        [answer(1, input=0)],
        [answer(1), answer(2)],
        [answer(n, input=1, last=False) for n in range(1, WINDOW + 2)],
    ],
    ids=["gap", "future input", "no input", "never sent", "beyond the window"],
)
def test_outputs_that_cannot_be_end_the_session(scene, outputs) -> None:
    scene.send(*outputs)
    results = scene.session.iterate("anything")
    with pytest.raises(SessionError, match="the session is lost") as caught:
        list(results)
        scene.session.call("anything")
    assert caught.value.first_undelivered in (1, None)  # None: the one input was delivered before the impossible output
    assert scene.session.closed


@pytest.mark.parametrize(
    "slot",
    [
        Slot(0, 0, 8, (8,)),  # on the page of counters
        Slot(0, 4096, 8, (8,)),  # on the page of progress
        Slot(0, HEAD, 2 << 20, (2 << 20,)),
        Slot(0, 1 << 62, 8, (8,)),
        Slot(SLOTS, HEAD, 8, (8,)),
        Slot(0, HEAD, 8, (4,)),
        Slot(0, HEAD, 8, (4, 5)),
    ],
    ids=repr,
)
def test_places_outside_of_shared_memory_are_refused(scene, slot) -> None:
    message = answer(1, codec="bytes", meta=b"", slot=slot)
    data = b"".join(encode(message, inline=False))
    # The sizes are written from the buffers: put them there by hand.
    message.buffers = [bytes(size) for size in slot.sizes] if sum(slot.sizes) < 100 else []
    data = b"".join(encode(message, inline=False)) if message.buffers else data
    scene.worker.far.sendall(data)
    with pytest.raises(avlab.WorkerDied, match="malformed"):
        scene.session.call("anything")


def test_shared_memory_that_changes_while_it_is_read_gives_some_bytes_and_no_more(scene) -> None:
    message = answer(1, codec="bytes", meta=b"", buffers=[bytes(100_000)])
    scene.far.send(message)
    assert len(scene.session.call("anything")) == 100_000


def test_slots_that_overlap_or_come_twice_are_only_bytes(scene) -> None:
    """A worker spoils what it sends itself: the host copies what lies there, and gives each slot back once per message."""

    def placed(ordinal: int, begin: int, index: int) -> bytes:
        message = answer(
            ordinal, codec="bytes", meta=b"", buffers=[bytes(9000)], slot=Slot(index, begin, 9000, (9000,))
        )
        return b"".join(encode(message, inline=False))

    def answer_each() -> None:
        scene.memory._written[0] = scene.memory._written[1] = 9000
        for number, (begin, index) in enumerate(((HEAD, 0), (HEAD + 1, 0), (HEAD + 5000, 1), (HEAD, 0)), 1):
            scene.far.recv()
            scene.worker.far.sendall(placed(number, begin, index))

    scene.player = threading.Thread(target=answer_each)
    scene.player.start()
    assert [len(scene.session.call("anything")) for _ in range(4)] == [9000] * 4


def test_a_payload_that_crawls_is_not_waited_for_longer_than_one_that_stands_still(monkeypatch) -> None:
    monkeypatch.setattr(arriving, "STALLED", 0.05)
    monkeypatch.setattr(arriving, "TURNS", 1)
    looks = itertools.count()
    buffer = Arriving(memoryview(bytes(1000)), 0, lambda: next(looks) // 20, lambda: False)
    with pytest.raises(avlab.LinkClosed, match="in the middle"):
        buffer.copy_to(memoryview(bytearray(1000)))
    assert next(looks) < 20 * 1000


def test_buffers_of_one_payload_that_crawl_one_after_the_other_are_not_waited_for_each(monkeypatch) -> None:
    """Sixty-five thousand of them, five seconds each, would be four days."""
    monkeypatch.setattr(arriving, "STALLED", 0.02)
    monkeypatch.setattr(arriving, "TURNS", 1)
    there, back = Region.create(1 << 16), Region.create(1 << 16)
    near, far = Memory(there, back), Memory(back, there)
    slot = near.reserve([1] * 1000)
    looks = itertools.count()

    def crawl() -> bool:
        near._written[slot.index] = next(looks) // 20  # each is there before its time is over
        return False

    with pytest.raises(avlab.LinkClosed, match="in the middle"):
        for buffer in far.take(slot, crawl):
            arriving.whole(buffer)
    assert next(looks) < 20 * 100
    for memory in (near, far):
        memory.close()
    for region in (there, back):
        region.close()


def test_slots_that_are_never_given_back_do_not_stop_the_host(scene) -> None:
    """The region of 1 MiB is full after ten; then payloads go through the socket."""
    got = []

    def read() -> None:
        for number in range(1, 31):
            message = scene.far.recv()
            got.append(message.nbytes)
            scene.send(answer(number))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        scene.session.call("anything", bytes(100_000))
    thread.join(10)
    assert got == [100_000] * 30


def test_a_worker_does_not_say_why_it_died(scene) -> None:
    lie = Failure(message="I was killed", reason="oom", kind="LimitExceeded")
    scene.play(answer(1, codec="", meta=b"", failure=lie), lie)
    with pytest.raises(avlab.RemoteError, match="killed") as caught:
        scene.session.call("anything")
    assert not isinstance(caught.value, avlab.WorkerDied)
    with pytest.raises(SessionError, match="killed") as caught:
        scene.session.call("anything")
    assert not isinstance(caught.value, avlab.WorkerDied)


@pytest.mark.parametrize(
    "kind", ["KeyboardInterrupt", "SystemExit", "StopIteration", "GeneratorExit", "__import__", "object"]
)
def test_a_failure_does_not_steer_the_interpreter(scene, kind) -> None:
    scene.send(answer(1, codec="", meta=b"", failure=Failure(kind, kind, "text", kind=kind)))
    with pytest.raises(avlab.RemoteError, match="text"):
        scene.session.call("anything")


@pytest.mark.parametrize(
    ("codec", "meta", "buffers"),
    [
        ("pickle", b"", [b"cos\nsystem\n(S'touch /tmp/avlab-owned'\ntR."]),
        ("json", b"{", []),
        ("json", b"[" * 100_000, []),
        ("json", b"", []),
        ("tree", b"", []),
        ("tree", b'["leaf","pickle","",0,1]', [b"x"]),
        ("tree", b'["leaf","bytes","",0,2]', [b"x"]),
        ("tree", b'["leaf","bytes","",-1,1]', [b"x"]),
        ("tree", b'["leaf","bytes","",0.0,1]', [b"x"]),
        ("tree", b'["list",["leaf","bytes","",0,1],["leaf","bytes","",0,1]]', [b"x"]),
        ("tree", b'["leaf","tree","",0,1]', [b'["list",1]']),
        ("tree", b'["dataclass","os:system",{}]', []),
        ("tree", b'["set",["list",1]]', []),
        ("tree", b'["dict",1]', []),
        ("tree", b'[["list"],1]', []),
        ("tree", b"[]", []),
        ("tree", b"[" * 70 + b'"list"' + b"]" * 70, []),
        ("tree", b'["complex","a"]', []),
        ("tree", b'["leaf","bytes","\\u0394",0,1]', [b"x"]),
        ("no.such", b"", []),
        ("numpy.ndarray", b'{"dtype":"|O","shape":[1],"order":"C"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":"<f8","shape":[1000000000000],"order":"C"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":"|S0","shape":[8589934592],"order":"C"}', [b""]),
        ("numpy.ndarray", b'{"dtype":"<f8","shape":[-1],"order":"C"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":"<f8","shape":[4611686018427387904,4],"order":"C"}', [b""]),
        ("numpy.ndarray", b'{"dtype":"<f8","shape":[true],"order":"C"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":"<f8","shape":[1],"order":"K"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":[["a","|O"]],"shape":[1],"order":"C"}', [b"x" * 8]),
        ("numpy.ndarray", b'{"dtype":[["a","<f8",[2147483647,2147483647]]],"shape":[],"order":"C"}', [b""]),
        ("numpy.scalar", b'{"dtype":"|O"}', [b"x" * 8]),
        ("av.VideoFrame", VIDEO % b'"size":[1000000000,1]', [b""]),
        ("av.VideoFrame", VIDEO % b'"size":[16,-8]', [b"x" * 192]),
        ("av.VideoFrame", VIDEO % b'"size":[16,8],"pts":9223372036854775808', [bytes(384)]),
        ("av.VideoFrame", VIDEO % b'"size":[16,8],"base":[1,0]', [bytes(384)]),
        ("av.VideoFrame", VIDEO % b'"size":[16,8],"format":"vaapi"', [bytes(384)]),
        ("av.AudioFrame", b'{"format":"s16","layout":"stereo","samples":268435456,"rate":48000}', [b""]),
        ("av.Packet", b'{"pts":null,"dts":null,"duration":-9223372036854775809,"base":null,"key":true}', [b"x"]),
        ("av.VideoFrame", b"{}", []),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_values_that_are_not_what_they_say_are_refused_and_the_session_goes_on(scene, codec, meta, buffers) -> None:
    scene.play(answer(1, codec=codec, meta=meta, buffers=buffers), answer(2))
    with pytest.raises(avlab.CodecError):
        scene.session.call("anything")
    assert scene.session.call("anything") == 1


def test_a_tree_cannot_multiply_its_buffers(scene) -> None:
    """Sixty buffers of which each names the one before it twice would be 2**60 values."""
    laughs = [b'["list",1]'] + [
        b'["list",["leaf","tree","",0,%d],["leaf","tree","",0,%d]]' % (n, n) for n in range(1, 60)
    ]
    scene.play(answer(1, codec="tree", meta=b"", buffers=laughs), answer(2))
    with pytest.raises(avlab.CodecError):
        scene.session.call("anything")
    assert scene.session.call("anything") == 1


def test_more_buffers_than_an_item_may_have_are_refused_before_they_are_made(scene) -> None:
    body = b"\x08\x01\x10\x01\x18\x01\x20\x01\x3a\x05bytes" + b"\x4a" + varint(MAX_BUFFERS + 1) + bytes(MAX_BUFFERS + 1)
    message = b"\x1a" + varint(len(body)) + body
    scene.worker.far.sendall(b"\x0a" + varint(len(message)) + message)
    with pytest.raises(avlab.WorkerDied, match="buffers"):
        scene.session.call("anything")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_messages_that_are_not_a_workers_are_ignored(scene) -> None:
    scene.send(End(), Opened("other", "gvisor", 1 << 31), Credit(1 << 62, 0), answer(1))
    assert scene.session.call("anything") == 1
    assert scene.session.tier == ""


def test_grants_without_bound_do_not_make_the_caller_pull_without_bound(scene) -> None:
    scene.send(Credit(0, 1 << 63), Log("stdout", b"go"))
    pulled = []

    def inputs():
        for number in range(1 << 20):
            pulled.append(number)
            yield number

    def read() -> None:
        try:
            while True:
                scene.far.recv()
        except avlab.LinkClosed:
            return

    thread = threading.Thread(target=read)
    thread.start()
    results = scene.session.stream(inputs())
    with pytest.raises(SessionError):
        threading.Timer(1.0, scene.worker.die).start()
        next(results)
    assert len(pulled) <= MAX_IN_FLIGHT + 1
    thread.join(10)


def test_a_worker_that_hangs_up_but_lives_on_is_ended(scene) -> None:
    scene.worker.far.shutdown(socket.SHUT_RDWR)
    with pytest.raises(avlab.WorkerDied, match="closed its link"):
        scene.session.call("anything")
    assert scene.worker.exited() is not None


def test_a_worker_that_does_not_read_cannot_hold_up_the_stop_button(scene) -> None:
    """Its inbox is full and so is its socket: the interrupt still ends in time, by killing it."""
    import time

    def press() -> None:
        while True:
            inputs = scene.session.statistics().inputs
            threading.Event().wait(0.3)
            if inputs and inputs == scene.session.statistics().inputs:
                break
        pressed.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    pressed: list[float] = []
    original = scene.worker.kill_saying

    def kill_saying(reason: str, text: str) -> None:
        original(reason, text)
        scene.worker.far.shutdown(socket.SHUT_RDWR)  # as a dead process's socket is

    scene.worker.kill_saying = kill_saying
    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(scene.session.stream([bytes(900_000) for _ in range(16)]))
    assert time.monotonic() - pressed[0] < 2.5
    thread.join()


def test_output_beyond_its_limit_ends_the_worker() -> None:
    scene = Scene(output=10_000)
    try:
        scene.send(answer(1, codec="bytes", meta=b"", buffers=[bytes(6000)]))
        assert len(scene.session.call("anything")) == 6000
        os.write(scene.worker.far_stdout, b"x" * 6000)
        with pytest.raises(avlab.LimitExceeded, match="output limit") as caught:
            scene.session.call("anything")
        assert caught.value.reason == "output"
    finally:
        scene.close()


def test_time_before_an_item_does_not_count_for_it() -> None:
    """The deadline of an item begins when it is sent, also when the host has waited long before."""
    clock = [0]
    scene = Scene(item_timeout=1.0)
    scene.link._clock = scene.link._deadlines._clock = lambda: clock[0]
    try:
        first = threading.Event()

        def inputs():
            first.wait(10)
            yield 1

        results = scene.session.stream(inputs())
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(next(results)))
        thread.start()
        clock[0] += int(60e9)  # it waits for a minute; then the item comes
        first.set()
        scene.far.recv()
        os.write(scene.worker.far_stdout, b"working\n")
        scene.send(answer(1))
        thread.join(10)
        assert found == [1]
        results.close()
    finally:
        scene.close()


def test_an_item_that_is_sent_while_the_host_waits_has_its_deadline() -> None:
    scene = Scene(item_timeout=0.2)
    try:
        waiting = threading.Event()

        def inputs():
            waiting.wait(10)
            threading.Event().wait(0.05)  # let the consumer reach its wait
            yield 1

        results = scene.session.stream(inputs())
        waiting.set()
        with pytest.raises(avlab.LimitExceeded, match=r"limit of 0\.2 s") as caught:
            next(results)
        assert caught.value.reason == "wall"
        assert caught.value.first_undelivered == 1
    finally:
        scene.close()


def test_a_worker_that_prints_without_end_does_not_escape_its_deadline() -> None:
    scene = Scene(item_timeout=0.3)
    stop = threading.Event()

    def flood() -> None:
        os.set_blocking(scene.worker.far_stdout, True)
        while not stop.is_set():
            try:
                os.write(scene.worker.far_stdout, b"x" * 4096)
            except BrokenPipeError:
                return

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with pytest.raises(avlab.LimitExceeded, match="took longer"):
            scene.session.call("anything")
    finally:
        stop.set()
        with contextlib.suppress(BlockingIOError):
            os.read(scene.worker.stdout, 1 << 16)
        thread.join(10)
        scene.close()


def test_a_worker_that_sends_words_without_end_does_not_escape_its_deadline() -> None:
    scene = Scene(item_timeout=0.3)
    scene.session.on_log = lambda log: None
    words = encode_batch([Log("display", b"x" * 1000, "image/png")] * 100)

    def flood() -> None:
        with contextlib.suppress(OSError):  # the host has hung up
            while True:
                scene.worker.far.sendall(words)

    scene.player = threading.Thread(target=flood)
    scene.player.start()
    try:
        with pytest.raises(avlab.LimitExceeded, match="took longer"):
            scene.session.call("anything")
    finally:
        scene.close()


@pytest.mark.parametrize(("log", "most"), [(Log("stdout", b"x" * 100_000), MAX_LOG), (Log("display", bytes(1 << 20), "image/png"), MAX_SHOWN)])
def test_what_a_worker_says_in_messages_is_bounded_as_what_it_prints(monkeypatch, log, most) -> None:
    scene = Scene()
    scene.link._printed._clock = lambda: 0  # all within one second
    scene.player = threading.Thread(target=lambda: scene.send(*[log] * 40, answer(1)))
    scene.player.start()
    try:
        assert scene.session.call("anything") == 1
    finally:
        scene.close()
    assert sum(len(each.data) for each in scene.logs) <= most
    assert sum(each.dropped for each in scene.logs) == 40 * len(log.data) - sum(len(each.data) for each in scene.logs)


def test_words_without_end_do_not_keep_a_session_from_closing(monkeypatch) -> None:
    class Talks:
        def send(self, message) -> None: ...
        def recv(self, timeout=None) -> Log:
            return Log("stdout", b"and")

    now = itertools.count(step=1_000_000)
    bank = CallerBank()
    talked: list[Log] = []
    observer = SimpleNamespace(logged=talked.append)
    caller.Caller(Talks(), bank, observer, clock=lambda: next(now)).end()
    assert len(talked) <= caller.END_SECONDS * 1000


class Talks:
    """A link that always has something to say."""

    def __init__(self, most: int) -> None:
        self.left = most

    def send(self, message) -> None: ...

    def recv(self, timeout=None) -> Log:
        self.left -= 1
        if self.left < 0:
            raise avlab.LinkClosed("enough")
        return Log("stdout", b"and")

    arrived = recv


def test_words_without_end_keep_no_interrupt_out() -> None:
    said: list[Log] = []

    def logged(log: Log) -> None:
        said.append(log)
        if len(said) == 1000:
            signal.raise_signal(signal.SIGINT)

    waiting = caller.Caller(Talks(100_000), CallerBank(), SimpleNamespace(logged=logged))
    with pytest.raises(KeyboardInterrupt), shielded:
        waiting.wait(Exchange(), lambda: False)
    assert len(said) <= 1000 + 2 * caller.AT_ONCE


def test_words_without_end_keep_no_time_from_running_out() -> None:
    now, said = itertools.count(step=1_000_000), []
    waiting = caller.Caller(Talks(100_000), CallerBank(), SimpleNamespace(logged=said.append), clock=lambda: next(now))
    with pytest.raises(TimeoutError):
        waiting.wait(Exchange(), lambda: False, 0.1)
    assert len(said) < 100_000


@pytest.mark.parametrize("message", [Receipt(1), Resumed(1, 1), Resume("s", 1, 1), Open(Bundle()), Blob("x", b"y"), ItemMessage(7)], ids=repr)
def test_messages_that_only_others_send_end_the_worker(scene, message) -> None:
    """A Receipt of a worker would make the caller forget what the executor has not got yet, and their counts differ after it."""
    scene.send(message)
    scene.worker.far.shutdown(socket.SHUT_WR)
    with pytest.raises(avlab.WorkerDied, match="malformed"):
        scene.session.call("anything")
    assert scene.worker.exited() is not None


@pytest.mark.parametrize("failure", [Failure("x", "TimeoutError", "text"), Failure("x", "", "text", kind="TimedOut")], ids=["mirrored", "own"])
def test_a_last_word_is_not_mistaken_for_nothing_having_arrived(scene, failure) -> None:
    scene.send(failure)
    scene.worker.far.shutdown(socket.SHUT_WR)
    with pytest.raises(SessionError, match="text"):
        scene.session.call("anything")
    assert scene.session.closed


def test_members_of_a_group_do_not_say_how_a_session_ends(scene) -> None:
    lie = Failure("y", "", "killed", reason="oom", members=[Failure("z", "", "gone", kind="SessionLost")])
    group = Failure("ExceptionGroup", "ExceptionGroup", "all", members=[Failure("x", "ExceptionGroup", "in", members=[lie]), lie])
    scene.send(answer(1, codec="", meta=b"", failure=group))
    with pytest.raises(ExceptionGroup) as caught:
        scene.session.call("anything")
    assert caught.value.split(SessionError)[0] is None


@pytest.mark.parametrize(
    "fields",
    [{"track": "t" * 6000}, {"codec": "", "meta": b"", "failure": Failure("x", "ValueError", "m" * 3000, "t" * 3000)}],
    ids=["track", "failure"],
)
def test_what_an_output_says_besides_its_value_counts_too(fields) -> None:
    scene = Scene(output=10_000)
    try:
        scene.send(answer(1, **fields))
        with contextlib.suppress(avlab.RemoteError):
            scene.session.call("anything")
        scene.send(answer(2, **fields))
        scene.worker.far.shutdown(socket.SHUT_WR)
        with pytest.raises(avlab.LimitExceeded, match="output limit"):
            scene.session.call("anything")
    finally:
        scene.close()


def test_names_of_streams_and_of_kinds_of_pictures_carry_nothing(scene) -> None:
    scene.send(Log("n" * 100_000, b"a"), Log("display", b"b", "m" * 100_000, dropped=1 << 60), answer(1))
    assert scene.session.call("anything") == 1
    assert [(log.stream, log.data, len(log.mime), log.dropped) for log in scene.logs] == [("stdout", b"a", 10, 0), ("display", b"b", 100, 0)]


def test_empty_pictures_without_end_are_left_out(scene) -> None:
    scene.link._printed._clock = lambda: 0  # all within one second
    for _ in range(MAX_SHOWN // 128 + 10):
        scene.link._printed.said(Log("display", b"", "image/png"))
    assert len(scene.link._printed.logs) <= MAX_SHOWN // 128
    scene.link._printed.logs.clear()


@pytest.mark.parametrize("base", [(1, 0), (0, 1), (-1, 1000), (1, -(1 << 63))], ids=str)
def test_times_that_are_none_end_the_session(scene, base) -> None:
    numerator, denominator = base
    item = pb.Item(input=1, k=1, last=True, ordinal=1, codec="json", meta=b"1", pts=-(1 << 63))
    item.time_base_numerator, item.time_base_denominator = numerator, denominator
    scene.worker.far.sendall(pb.Batch(messages=[pb.Message(item=item)]).SerializeToString())
    with pytest.raises(avlab.WorkerDied, match="time base"):
        scene.session.call("anything")


def test_what_is_printed_between_two_results_comes_between_them(scene) -> None:
    order: list[object] = []
    scene.session.on_log = lambda log: order.append(log.data)

    def work() -> None:
        for number in range(1, 101):
            scene.far.recv()
            os.write(scene.worker.far_stdout, b"%d" % number)
            scene.send(answer(number))

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(1, 101):
        scene.session.call("anything")
        assert b"".join(order).endswith(b"%d" % number)
    thread.join(10)


class Announced:
    """A large result of which only the first ``written`` bytes lie in memory."""

    def __init__(self, scene: Scene, size: int, written: int) -> None:
        self.scene, self.size = scene, size
        self.slot = scene.memory.reserve([size])
        self.data = os.urandom(size)
        scene.memory.write(Slot(self.slot.index, self.slot.offset, written), [self.data[:written]])

    def send(self) -> None:
        self.scene.far.recv()
        message = answer(1, codec="bytes", meta=b"", slot=self.slot)
        message.buffers = [self.data]
        self.scene.worker.far.sendall(b"".join(encode(message, inline=False)))

    def finish(self) -> None:
        self.scene.memory.write(self.slot, [self.data])


def test_a_result_is_whole_although_it_was_announced_before_it_was_written(scene) -> None:
    announced = Announced(scene, LARGE, 1 << 18)
    reading = threading.Event()

    def answer_slowly() -> None:
        announced.send()
        reading.wait(10)
        announced.finish()

    scene.player = threading.Thread(target=answer_slowly)
    scene.player.start()
    original = Arriving.complete

    def complete(self):
        reading.set()
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arriving, "complete", complete)
        assert scene.session.call("anything") == announced.data
    assert reading.is_set()


def test_a_worker_that_dies_in_the_middle_of_a_result_is_named(scene) -> None:
    announced = Announced(scene, LARGE, 1 << 18)

    def answer_and_die() -> None:
        announced.send()
        scene.worker.die()

    scene.player = threading.Thread(target=answer_and_die)
    scene.player.start()
    with pytest.raises(SessionError, match="exit code 9"):
        scene.session.call("anything")


def test_a_caller_elsewhere_hears_why_a_worker_was_ended_in_the_middle_of_a_result(scene) -> None:
    beginning = Beginning((log for log in ()), lambda: scene.link)
    served = session.Session(beginning, Open(Bundle(BundleKind.NODE, "")), "", lambda ended: None)
    scene.link.send(ItemMessage(1, codec="json", meta=b"1"))
    Announced(scene, LARGE, 1 << 18).send()
    scene.worker.kill_saying("oom", "memory limit of 1 GiB reached")
    scene.worker.die()
    told = [message for data in served.outputs(served.attach(lambda: None), 0) for message in decode_batch(data)]
    assert told[-1].reason == "oom"
    assert "memory limit of 1 GiB reached" in told[-1].message


def test_a_worker_that_stops_in_the_middle_of_a_result_is_ended(scene, monkeypatch) -> None:
    monkeypatch.setattr(arriving, "STALLED", 0.05)
    monkeypatch.setattr(caller, "END_SECONDS", 0.05)
    announced = Announced(scene, LARGE, 1 << 18)
    scene.player = threading.Thread(target=announced.send)
    scene.player.start()
    with pytest.raises(SessionError) as caught:
        scene.session.call("anything")
    assert scene.session.closed
    assert caught.value.first_undelivered == 1


def test_counters_of_slots_wrap_around() -> None:
    there, back = Region.create(1 << 16), Region.create(1 << 16)
    near, far = Memory(there, back), Memory(back, there)
    for number in range(600):
        slot = near.reserve([4])
        near.write(slot, [struct.pack("<I", number)])
        (view,) = far.take(slot, lambda: False)
        assert struct.unpack("<I", view) == (number,)
        view.release()
        far.release(slot.index)
    kept = [near.reserve([4096]) for _ in range(14)]
    assert None not in kept
    assert near.reserve([4096]) is None
    far.release(kept[3].index)
    assert near.reserve([4096]).offset == kept[3].offset
    near.withdraw(kept[4])
    assert near.reserve([4096]).offset == kept[4].offset
    for memory in (near, far):
        memory.close()
    far.release(0)
    for region in (there, back):
        region.close()


def test_batches_that_are_sent_are_read_back() -> None:
    assert [m.ordinal for m in decode_batch(encode_batch([answer(1), answer(2)]))] == [1, 2]
