"""The DataChannel link: sessions on an executor that another peer serves, over channels that carry whole messages.

What makes such channels (WebRTC elsewhere in avlab, or anything else with these few methods) is given, not imported.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

from avlab.core.errors import AvlabError, ConnectError, LinkClosed, LinkError
from avlab.core.message import Blob, Buffer, Bundle, BundleKind, Credit, Failure, ItemMessage, Log, Message, Open
from avlab.core.status import Status, decode_description, decode_status
from avlab.core.wire import decode_batch, decode_names, encode_batch, encode_names
from avlab.remote.arguments import pickle_argument
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.failure import restore
from avlab.remote.interrupts import exposed
from avlab.remote.link import Description, Layer, Link, one_item

SERVICE = "avlab.v1.Executor/"
"""What the labels of channels begin with; the method of the gRPC service of the same name follows."""
DONE, FAILED = b"\0", b"\1"
"""First byte of the reply on a channel for one call: its result follows, or a Failure."""
_BLOB_PART = 1 << 20
_SMALL, _MAX_HELD = 8 << 10, 256 << 10


class MessageChannel(Protocol):
    """Carries whole messages both ways, in order, and holds up a sender whose reader is slow."""

    @property
    def label(self) -> str:
        """What it is for; both sides see it."""

    @property
    def waiting(self) -> bool:
        """Whether `recv` would return at once."""

    def send(self, data: Buffer) -> None:
        """Blocks while the other side does not read. Raises LinkClosed."""

    def wait(self, timeout: float | None = None) -> bool:
        """Whether a message, or the end, has come within ``timeout`` seconds."""

    def recv(self, timeout: float | None = None) -> bytes:
        """Raises TimeoutError after ``timeout`` seconds, LinkClosed at the end."""

    def wake(self) -> None:
        """Make a `recv` that waits return an empty message."""

    def close(self) -> None:
        """End both directions; what was sent before still arrives. Idempotent."""


class Carrier(Protocol):
    """The way to another peer, on which channels are opened."""

    def open_channel(self, label: str) -> MessageChannel:
        """Raises LinkError."""


class ChannelLink:
    """One session on one channel."""

    def __init__(self, channel: MessageChannel) -> None:
        self._channel = channel
        self._arrived: deque[Message] = deque()
        self._held: list[bytes] = []
        self._holding = False
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        data = encode_batch([message])
        with self._sending:
            self._held.append(data)
            if not self._holding or len(data) > _SMALL or sum(map(len, self._held)) > _MAX_HELD:
                self._send_held()

    def hold(self) -> None:
        self._holding = True

    def flush(self) -> None:
        self._holding = False
        with self._sending:
            if self._held:
                self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, []
        # Not `exposed`: half a message would cost the session. The other side reads on by credit, so this does not last; a path
        # that is dead is noticed within seconds.
        self._channel.send(held[0] if len(held) == 1 else b"".join(held))

    def recv(self, timeout: float | None = None) -> Message:
        while not self._arrived:
            with exposed:
                there = self._channel.wait(timeout)
            if not there:
                raise TimeoutError(f"nothing arrived within {timeout} s")
            self._arrived.extend(decode_batch(self._channel.recv(0)) or ())
            if not self._arrived:  # an empty one: `wake`
                return Credit()
        return self._arrived.popleft()

    def arrived(self) -> Message | None:
        return self._arrived.popleft() if self._arrived else None

    def wake(self) -> None:
        self._channel.wake()

    def kill(self) -> None:
        """Break the channel: the executor ends the worker."""
        self._channel.close()

    def close(self) -> None:
        self._channel.close()


class ChannelConnection:
    """A Connection to the executor at the other end of a carrier."""

    def __init__(self, carrier: Carrier, config: RemoteExecutorConfig) -> None:
        self._carrier, self._config = carrier, config

    def describe(self) -> Description:
        values, tiers = decode_description(self._call("Describe", b""))
        return Description(url=self._config.url, tiers=[Layer(*tier) for tier in tiers], **values)

    def status(self) -> Status:
        return decode_status(self._call("Status", b""))

    def prepare(self, request: Open) -> Iterator[Log]:
        return iter(())  # the executor does it, within the stream

    def open(self, request: Open, blobs: Mapping[str, bytes]) -> Link:
        self._send_blobs(blobs)
        name = "StreamNode" if request.bundle.kind is BundleKind.NODE else "StreamObject"
        link = ChannelLink(self._channel(name))
        link.send(request)
        return link

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        return one_item(self.open(request, blobs), item)

    def lend(self, obj: object) -> Bundle | None:
        return None

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        return pickle_argument(value)

    def close(self) -> None:
        """Sessions end with their links; the carrier is its maker's."""

    def _channel(self, method: str) -> MessageChannel:
        """A channel for one call. Its first message says who calls; it is empty without a token."""
        channel = self._carrier.open_channel(SERVICE + method)
        try:
            channel.send(f"Bearer {self._config.auth}".encode() if self._config.auth else b"")
        except LinkClosed as error:
            channel.close()
            raise ConnectError(f"no executor answers at the other peer ({error}): does it serve one?") from None
        return channel

    def _send_blobs(self, blobs: Mapping[str, bytes]) -> None:
        if not blobs:
            return
        held = set(decode_names(self._call("HasBlobs", encode_names(blobs))))
        missing = {name: data for name, data in blobs.items() if name not in held}
        if missing:
            self._call("PutBlobs", *_parts(missing), b"")

    def _call(self, method: str, *parts: bytes) -> bytes:
        channel = self._channel(method)
        try:
            for part in parts:
                channel.send(part)
            reply = channel.recv(self._config.timeout)
        except (LinkClosed, TimeoutError) as error:
            raise ConnectError(f"no executor answers at the other peer ({error}): does it serve one?") from None
        finally:
            channel.close()
        if reply[:1] == DONE:
            return reply[1:]
        raise _error(reply[1:])


def _error(data: bytes) -> AvlabError:
    match list(decode_batch(data)):
        case [Failure() as failure]:
            return restore(failure)
    return LinkError("the other peer's executor failed without saying why")


def _parts(blobs: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, data in blobs.items():
        for start in range(0, max(1, len(data)), _BLOB_PART):
            yield encode_batch([Blob(name, data[start : start + _BLOB_PART], start, len(data))])


_carriers: WeakValueDictionary[str, Carrier] = WeakValueDictionary()
_numbers = itertools.count(1)


def name_of(carrier: Carrier) -> str:
    """The name under which a config finds a carrier, as long as somebody holds it."""
    for name, known in list(_carriers.items()):
        if known is carrier:
            return name
    name = f"peer-{next(_numbers)}"
    _carriers[name] = carrier
    return name


def connect(config: RemoteExecutorConfig) -> ChannelConnection:
    """The executor that the peer named by ``config.host`` serves. Raises ConnectError when there is none.

    Closing it leaves the carrier open.
    """
    carrier = _carriers.get(config.host or "")
    if carrier is None:
        raise ConnectError(f"no peer is called {config.host!r} here: connect to the partner of a WebRTCManager itself")
    connection = ChannelConnection(carrier, config)
    connection.describe()
    return connection


__all__ = ["Carrier", "ChannelConnection", "ChannelLink", "MessageChannel", "connect", "name_of"]
