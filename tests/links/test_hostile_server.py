"""An executor that answers with whatever it likes, over real gRPC: the client gets avlab's errors, in bounded memory."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import grpc
import psutil
import pytest

import avlab
from avlab import _pb as pb
from avlab._pb import SERVICE
from avlab.core.errors import AvlabError, CodecError, ConnectError
from avlab.core.item import Stamp
from avlab.core.message import (
    MAX_ITEM,
    Blob,
    Bundle,
    Credit,
    End,
    Failure,
    File,
    ItemMessage,
    Log,
    Message,
    Open,
    Opened,
    Resumed,
    Signal,
    SignalKind,
    Slot,
)
from avlab.core.status import encode_description
from avlab.core.wire import decode_batch, encode, encode_batch, encode_names
from avlab.remote.links.resuming import ResumingLink

MIB = 1 << 20
Script = Callable[[Iterator[bytes]], Iterable[bytes]]


class Impostor:
    """A gRPC server that serves avlab's methods by the functions that a test gives it. Describe is right unless told otherwise."""

    def __init__(self) -> None:
        self.describe: Callable[[], bytes] = lambda: encode_description(
            {"version": "1", "wire": 1, "tier": "gvisor"}, []
        )
        self.has: Callable[[bytes], bytes] = lambda names: encode_names([])
        self.put: Callable[[Iterator[bytes]], bytes] = lambda parts: encode_names(str(len(list(parts))))
        self.execute: Callable[[bytes], bytes] = lambda data: b""
        self.stream: Script = lambda requests: []
        methods = {
            "Describe": grpc.unary_unary_rpc_method_handler(lambda data, _: self.describe()),
            "HasBlobs": grpc.unary_unary_rpc_method_handler(lambda data, _: self.has(data)),
            "PutBlobs": grpc.stream_unary_rpc_method_handler(lambda parts, _: self.put(parts)),
            "ExecuteObject": grpc.unary_unary_rpc_method_handler(lambda data, _: self.execute(data)),
            "StreamObject": grpc.stream_stream_rpc_method_handler(lambda requests, _: self.stream(requests)),
        }
        self._threads = ThreadPoolExecutor(8)
        pings = ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000)
        sizes = ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)
        self._server = grpc.server(self._threads, options=[pings, *sizes])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()
        self._threads.shutdown()


@pytest.fixture
def impostor():
    made = Impostor()
    yield made
    made.close()


@pytest.fixture
def executor(impostor):
    with avlab.connect(f"grpc://127.0.0.1:{impostor.port}") as made:
        yield made


def double(value):
    return 2 * value


def script(*parts: Message | bytes) -> Script:
    """Answers that come whatever is asked; the stream stays open until the client goes."""

    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        for part in parts:
            yield part if isinstance(part, bytes) else encode_batch([part])
        list(requests)

    return stream


def output(ordinal: int = 1, **fields: object) -> ItemMessage:
    return ItemMessage(
        **{"input": ordinal, "k": 1, "last": True, "ordinal": ordinal, "codec": "json", "meta": b"1", "granted": 99}
        | fields
    )


def test_the_impostor_can_also_be_good(impostor, executor):
    impostor.stream = script(Opened("s", "landlock", 16), output(1, meta=b"42"))
    with executor.open(double) as session:
        assert session.call("__call__", 21) == 42


@pytest.mark.parametrize(
    "reply",
    [b"\xff" * 50, b"\x32\x00" * (8 << 20), b"\x0a\xff\xff\xff\xff\x7f", bytes(60 * MIB)],
    ids=["garbage", "lists of nothing", "a length of 32 GiB", "60 MiB of zeros"],
)
def test_a_description_that_is_none(impostor, reply):
    impostor.describe = lambda: reply
    before = psutil.Process().memory_info().rss
    with pytest.raises(CodecError):
        avlab.connect(f"grpc://127.0.0.1:{impostor.port}")
    assert psutil.Process().memory_info().rss - before < 300 * MIB


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00",
        b"\x0a\x00",
        b"\x0a\x02\x1a\x7f",
        End(),
        Blob("x" * 64, b"data"),
        Open(Bundle()),
        output(1),
        Failure(kind="KeyboardInterrupt", builtin="SystemExit", message="x" * 100_000),
        Failure(kind="ConnectError", message="\x1b[2J" * 1000),
    ],
    ids=["zero", "no kind", "torn", "End", "Blob", "Open", "an output first", "Failure", "steering"],
)
def test_an_answer_to_open_that_is_none(impostor, executor, answer):
    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        yield answer if isinstance(answer, bytes) else encode_batch([answer])

    impostor.stream = stream
    with pytest.raises(AvlabError) as caught:
        executor.open(double)
    assert len(str(caught.value)) < 70_000 and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "answers",
    [
        [b"\x0a\x02\x1a\x7f"],
        [output(2)],
        [output(1, input=7)],
        [output(1, last=False), output(2)],
        [output(n, input=1, last=False) for n in range(1, 200)],
        [Failure(message="over", reason="oom")],
        [output(1, codec="pickle", meta=b"", buffers=[b"cos\nsystem\n(S'true'\ntR."])],
        [output(1, codec="numpy.ndarray", meta=b'{"dtype":"|S0","shape":[8589934592],"order":"C"}', buffers=[b""])],
        [output(1, codec="numpy.ndarray", meta=b'{"dtype":"<f8","shape":[1,-1],"order":"C"}', buffers=[b""])],
        [output(1, codec="tree", meta=b"[" * 3000)],
        [output(1, codec="bytes", meta=b"")],
        [output(1, codec="", meta=b"", failure=Failure("a.B", "GeneratorExit", "text"))],
    ],
    ids=[
        "torn", "a gap", "another input", "never asked for", "beyond the window", "a death", "a pickle", "no bytes each", "negative",
        "deep", "no buffer", "steering",
    ],
)  # fmt: skip
def test_outputs_that_cannot_be(impostor, executor, answers):
    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        yield encode_batch([Opened("s", "landlock", 16)])
        next(requests)
        for answer in answers:
            yield answer if isinstance(answer, bytes) else encode_batch([answer])

    impostor.stream = stream
    with executor.open(double) as session, pytest.raises(AvlabError):
        list(session.iterate("__call__", 1))
        session.call("__call__", 1)


def test_a_place_in_shared_memory_is_not_looked_up_for_a_server_elsewhere(impostor, executor):
    placed = output(1, codec="bytes", meta=b"", buffers=[bytes(5000)], slot=Slot(0, 4096, 5000, (5000,)))
    impostor.stream = script(Opened("s", "landlock", 16), b"".join(encode(placed, inline=False)))
    with executor.open(double) as session, pytest.raises(AvlabError):
        session.call("__call__", 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"time_base_numerator": 1, "time_base_denominator": 0},
        {"time_base_numerator": 0, "time_base_denominator": 1},
        {"time_base_numerator": -1, "time_base_denominator": 1000},
        {"time_base_numerator": 1, "time_base_denominator": -(1 << 63)},
    ],
    ids=str,
)
def test_times_that_are_none(impostor, executor, fields):
    item = pb.Item(input=1, k=1, last=True, ordinal=1, codec="json", meta=b"1", granted=9, pts=1, **fields)
    batch = pb.Batch(messages=[pb.Message(item=item)]).SerializeToString()
    impostor.stream = script(Opened("s", "landlock", 16), batch)
    with executor.open(double) as session, pytest.raises(AvlabError, match="time base"):
        list(session.stream([1]))


def test_the_largest_times_are_only_numbers(impostor, executor):
    far = output(1, pts=(1 << 63) - 1, time_base=Fraction((1 << 63) - 1, 1))

    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        yield encode_batch([Opened("s", "landlock", 16, has_process=True)])
        next(requests)
        yield encode_batch([far])
        yield encode_batch([output(2, codec="", meta=b"")])  # of the flush
        list(requests)

    impostor.stream = stream
    with executor.open(double) as session:
        (item,) = session.stream([avlab.Item(1)])
        assert item.time == pytest.approx(2.0**126)


@pytest.mark.parametrize(
    "message", [output(1, codec="bytes", meta=b"", buffers=[bytes(16 * MIB)]), Blob("b", bytes(16 * MIB))], ids=["item", "blob"]
)
def test_what_is_sent_without_being_asked_for_waits_in_bounded_memory(impostor, executor, message):
    """A flood of large messages, which nobody takes: the client stops reading, and gRPC's flow control the server."""
    sent = []
    large = encode_batch([message])

    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        yield encode_batch([Opened("s", "landlock", 16)])
        for _ in range(60):
            sent.append(1)
            yield large

    impostor.stream = stream
    session = executor.open(double)
    before, pause = -1, threading.Event()
    while len(sent) > before:  # until it has stood still for a while
        before = len(sent)
        pause.wait(1.5)
    assert 2 * MAX_ITEM // (16 * MIB) < len(sent) < 20
    session.close()


class Flood:
    """A call that says Opened, and then one message without end; how many were taken."""

    def __init__(self, message: Message) -> None:
        self.batch, self.taken = encode_batch([message]), 0

    def __iter__(self) -> Iterator[bytes]:
        yield encode_batch([Opened("s", "landlock", 16)])
        while self.taken < 600:
            self.taken += 1
            yield self.batch

    def cancel(self) -> None: ...


def test_items_of_very_many_empty_buffers_wait_in_bounded_memory(monkeypatch):
    """On the wire each buffer is a byte, here it is some two hundred."""
    monkeypatch.setattr("avlab.remote.links.resuming._MOST_BYTES", 16 << 20)
    flood = Flood(output(1, codec="bytes", meta=b"", buffers=[b""] * (1 << 14)))
    link = ResumingLink(lambda requests, wait: flood, "grpc://x:1")
    before, pause = -1, threading.Event()
    while flood.taken > before:  # until it has stood still for a while
        before = flood.taken
        pause.wait(1.5)
    assert 2 < flood.taken < 20
    link.close()


@pytest.mark.parametrize(
    "message",
    [
        Open(Bundle(files=[File("a", "b")] * 5000)),
        Signal(SignalKind.CANCEL, [1 << 40] * 5000),
        Blob("x", b"y"),
        Resumed(1, 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_that_no_executor_sends_are_not_kept(message):
    flood = Flood(message)
    link = ResumingLink(lambda requests, wait: flood, "grpc://x:1")
    assert isinstance(link.recv(10), Opened)
    assert [link.recv(10) for _ in range(600)] == [Credit()] * 600
    link.close()


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (output(1, stamps=(1 << 62,) * 10_000), "10000 stamps"),
        (Opened("s", "landlock", 16, consumes=["é"] * 5000), "5000 types"),
        (Signal(SignalKind.CANCEL, [1] * 20_000), "20000 inputs"),
    ],
    ids=["stamps", "types", "inputs"],
)
def test_lists_of_very_many_entries_are_refused_before_they_are_made(message, what):
    with pytest.raises(CodecError, match=what):
        list(decode_batch(encode_batch([message])))


@pytest.mark.parametrize("stamps", [(1 << 62,), (5, 4, 3, 2, 1), (-(1 << 63),) * 3, ((1 << 63) - 1, -(1 << 63))], ids=len)
def test_stamps_that_cannot_be_do_not_get_into_a_runs_figures(impostor, executor, stamps):
    def stream(requests: Iterator[bytes]) -> Iterable[bytes]:
        next(requests)
        yield encode_batch([Opened("s", "landlock", 16, has_process=True)])
        next(requests)
        yield encode_batch([output(1, stamps=stamps)])
        yield encode_batch([output(2, codec="", meta=b"", stamps=stamps)])
        list(requests)

    impostor.stream = stream
    with executor.open(double) as session:
        given = avlab.Item(1, stamps=(Stamp("source", 7),))
        (item,) = session.stream([given])
        assert item.stamps[0] == given.stamps[0]
        assert item.stamps[1:2] == () or (item.stamps[-1].hop.endswith(".arrived") and len(item.stamps) in (5, 6))
        assert session.statistics().busy >= 0


def test_a_tier_and_a_description_steer_no_terminal(impostor, executor):
    steering = "\x1b[2J\n\u202e<b>" + "x" * 1000
    impostor.describe = lambda: encode_description({"version": steering, "nodes": [steering]}, [(steering, True, steering)])
    about = executor.describe()
    impostor.stream = script(Opened("s", steering, 16))
    with executor.open(double) as session:
        for shown in (session.tier, session.statistics().tier, about.version, about.nodes[0], about.tiers[0].name, about.tiers[0].reason):
            assert "\\x1b[2J \\u202e<b>" in shown and "\x1b" not in shown and "\n" not in shown
        assert len(session.tier) < 200


def test_a_flood_of_words_passes_without_piling_up(impostor, executor):
    words = encode_batch([Log("stdout", b"x" * 1000)] * 1000)
    impostor.stream = script(Opened("s", "landlock", 16), *[words] * 20, output(1))
    lengths: list[int] = []
    with executor.open(double, on_log=lambda log: lengths.append(len(log.data))) as session:
        assert session.call("__call__", 1) == 1
    assert sum(lengths) == 20_000_000


def test_messages_out_of_place_change_nothing(impostor, executor):
    odd = [
        End(),
        Opened("other", "gvisor", 1 << 31),
        Opened("s", "", 0),
        Credit((1 << 64) - 1, 0),
        Blob("x", b"y"),
        Open(Bundle()),
    ]
    impostor.stream = script(Opened("s", "landlock", 16), *odd, output(1))
    with executor.open(double) as session:
        assert session.call("__call__", 1) == 1
        assert session.tier == "landlock"


@pytest.mark.parametrize(
    "has", [lambda _: b"\x0a\x00" * (1 << 20), lambda _: b"\xff\xff"], ids=["a million", "garbage"]
)
def test_names_of_blobs_that_are_none(impostor, executor, has):
    impostor.has = has
    with pytest.raises(CodecError):
        executor.open(double)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x00",
        encode_batch([Opened("s", "landlock", 16)]),
        encode_batch([Failure(message="no", builtin="OSError")]),
    ],
    ids=["nothing", "garbage", "no result", "failure"],
)
def test_one_call_that_is_answered_badly(impostor, executor, reply):
    impostor.execute = lambda data: reply
    with pytest.raises(AvlabError) as caught:
        executor.execute(double, "__call__", 1)
    assert isinstance(caught.value, ConnectError | CodecError | avlab.RemoteError)
