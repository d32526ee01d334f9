"""A caller that has said all closes its half of the stream, as gRPC's clients do: what it has sent is answered, then the session ends."""

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any, Self

import grpc
import pytest
from avlab_executor.server import Server, ServerConfig
from serving import at_work, until

from avlab.core.message import Blob, Bundle, End, Failure, ItemMessage, Log, Message, Mode, Open, Opened, Receipt
from avlab.core.tree import Values
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote.bundle import pack
from avlab.remote.links.grpc import OPTIONS, SERVICE

WINDOW = 4
VALUES = Values()


class Sums:
    """Holds back its last value; prints when it is closed."""

    def __init__(self) -> None:
        self.total = 0

    def process(self, value: int) -> Iterator[int]:
        self.total += value
        for _ in range(value % 3):
            yield self.total

    def flush(self) -> int:
        return -self.total

    def close(self) -> None:
        print("closed")

    def large(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            yield bytes([number]) * (3 << 20)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def die(self, code: int) -> None:
        os._exit(code)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ServerConfig(port=0, sessions=6)) as made:
        yield made


@pytest.fixture(scope="module")
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", OPTIONS) as made:
        yield made


@pytest.fixture(scope="module")
def bundle(channel) -> Bundle:
    """Sums, whose blobs the executor has."""
    packed = pack(Sums())
    blobs = [encode_batch([Blob(name, data, 0, len(data))]) for name, data in packed.blobs.items()]
    channel.stream_unary(f"/{SERVICE}/PutBlobs")(iter(blobs))
    return packed.manifest


class Said:
    """What a caller says at once, before it closes its half; and what it hears until the end."""

    def __init__(self, bundle: Bundle, grace: float = 0.0) -> None:
        name = os.urandom(16).hex()
        self.messages: list[Message] = [Open(bundle, window=WINDOW, session=name, grace=grace)]

    def say(self, mode: Mode = Mode.PROCESS, value: object = None, method: str = "") -> Self:
        codec, meta, buffers = VALUES.encode(value) if mode is not Mode.FLUSH else ("", b"", ())
        item = ItemMessage(len(self.messages), mode=mode, method=method, codec=codec, meta=meta, buffers=buffers)
        self.messages.append(item)
        return self

    def call(self, channel: grpc.Channel) -> Any:
        return channel.stream_stream(f"/{SERVICE}/StreamObject")(iter([encode_batch(self.messages)]), timeout=60)

    def heard(self, channel: grpc.Channel) -> list[Message]:
        call = self.call(channel)
        messages = [m for data in call for m in decode_batch(data)]
        assert call.code() is grpc.StatusCode.OK
        return messages


def values(messages: list[Message]) -> list[object]:
    return [VALUES.decode(m.codec, m.meta, m.buffers) for m in messages if isinstance(m, ItemMessage) and m.codec]


@pytest.mark.parametrize("grace", [0, 30])
def test_what_was_sent_is_answered_flushed_and_closed(channel, bundle, grace) -> None:
    """Many more results than the window, none of which is acknowledged; the end is no failure."""
    said = Said(bundle, grace)
    for number in range(40):
        said.say(value=number)
    heard = said.say(Mode.FLUSH).heard(channel)
    sums = list(itertools.accumulate(range(40)))
    assert values(heard) == [sums[n] for n in range(40) for _ in range(n % 3)] + [-sums[-1]]
    assert not [m for m in heard if isinstance(m, Failure)]
    assert b"".join(bytes(m.data) for m in heard if isinstance(m, Log)) == b"closed\n"


def test_without_an_input_it_only_opens(server, channel, bundle) -> None:
    heard = Said(bundle).heard(channel)
    assert [type(m) for m in heard if not isinstance(m, Receipt | Log)] == [Opened]
    assert until(lambda: at_work(server) == 0)


@pytest.mark.parametrize("grace", [0, 30])
def test_more_than_is_kept_for_those_who_confirm(server, channel, bundle, grace) -> None:
    heard = Said(bundle, grace).say(Mode.ITERATE, 15, "large").heard(channel)
    assert [value[:1] for value in values(heard)] == [bytes([n]) for n in range(15)]
    assert until(lambda: at_work(server) == 0)


def test_a_failure_of_the_code_is_an_answer(channel, bundle) -> None:
    heard = Said(bundle).say(value=None).say(value=2).heard(channel)
    outputs = [m for m in heard if isinstance(m, ItemMessage)]
    assert outputs[0].failure is not None and outputs[0].failure.builtin == "TypeError"
    assert values(heard) == [2, 2]


def test_a_worker_that_dies_before_it_has_answered_says_why(channel, bundle) -> None:
    heard = Said(bundle).say(Mode.CALL, 3, "die").heard(channel)
    assert isinstance(heard[-1], Failure)
    assert heard[-1].reason == "exit"


@pytest.mark.parametrize("grace", [0, 30])
def test_a_caller_that_then_breaks_off_frees_its_worker_at_once(server, channel, bundle, grace) -> None:
    call = Said(bundle, grace).say(Mode.CALL, 60, "sleep").call(channel)
    arriving = (m for data in call for m in decode_batch(data))
    assert any(isinstance(m, Opened) for m in arriving)
    assert at_work(server) == 1
    call.cancel()
    assert until(lambda: at_work(server) == 0)


def test_an_end_that_follows_is_an_end_at_once(server, channel, bundle) -> None:
    said = Said(bundle).say(Mode.CALL, 60, "sleep")
    said.messages.append(End())
    said.heard(channel)
    assert until(lambda: at_work(server) == 0)
