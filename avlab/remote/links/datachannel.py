"""The DataChannel link: sessions on an executor that another peer serves, over channels that carry whole messages.

What makes such channels (WebRTC elsewhere in avlab, or anything else with these few methods) is given, not imported.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakValueDictionary

from avlab.core.errors import AvlabError, ConnectError, LinkClosed, LinkError
from avlab.core.message import Blob, Buffer, Bundle, BundleKind, Failure, ItemMessage, Log, Message, Open
from avlab.core.status import Status, decode_description, decode_status
from avlab.core.wire import decode_batch, decode_names, encode_batch, encode_names
from avlab.remote.arguments import pickle_argument
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.failure import restore
from avlab.remote.link import Description, Layer, Link, one_item
from avlab.remote.links.resuming import Broken, ResumingLink

SERVICE = "avlab.v1.Executor/"
"""What the labels of channels begin with; the method of the gRPC service of the same name follows."""
DONE, FAILED = b"\0", b"\1"
"""First byte of the reply on a channel for one call: its result follows, or a Failure."""
CONNECTING = 15.0
"""Seconds for a connection to come back while a call is begun."""
_BLOB_PART = 1 << 20
_STEP = 0.5  # seconds that a session's call waits for a connection before it looks whether it is still wanted


class MessageChannel(Protocol):
    """Carries whole messages both ways, in order, and holds up a sender whose reader is slow. first: bytes that the other side's
    first message may have; it is cut off for more."""

    first: int

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

    def open_channel(self, label: str, within: float) -> MessageChannel:
        """Raises LinkError when there will be no connection any more, TimeoutError when there is none within so many seconds."""


class ChannelCall:
    """A Call on a channel of its own, which is opened when the call is read. ``open_channel`` raises TimeoutError while there is no
    connection, LinkClosed when none will come."""

    def __init__(self, open_channel: Callable[[], MessageChannel], requests: Iterator[bytes]) -> None:
        self._open, self._requests = open_channel, requests
        self._channel: MessageChannel | None = None
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        channel = self._opened()
        yield b""
        threading.Thread(target=self._send, args=(channel,), name="avlab-send", daemon=True).start()
        try:
            while True:
                yield channel.recv()
        except LinkClosed as error:
            raise Broken(error) from None
        finally:
            channel.close()

    def _opened(self) -> MessageChannel:
        while not self._cancelled.is_set():
            try:
                self._channel = channel = self._open()
            except TimeoutError:
                continue
            except LinkClosed as error:
                raise ConnectError(f"the connection to the other peer has ended: {error}") from None
            except ConnectError as error:
                raise Broken(error) from None
            if self._cancelled.is_set():
                channel.close()
            return channel
        raise Broken(LinkClosed("the link is closed"))

    def _send(self, channel: MessageChannel) -> None:
        with suppress(LinkClosed):  # who reads learns why
            for data in self._requests:
                channel.send(data)

    def cancel(self) -> None:
        self._cancelled.set()
        if self._channel is not None:
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

        def dial(requests: Iterator[bytes], wait: bool) -> ChannelCall:
            return ChannelCall(lambda: self._channel(name, _STEP), requests)

        link = ResumingLink(dial, self._config.url, request.session, request.grace, self._config.timeout)
        with suppress(LinkClosed):  # it has ended already: recv says why
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

    def _channel(self, method: str, within: float = CONNECTING) -> MessageChannel:
        """A channel for one call. Its first message says who calls; it is empty without a token."""
        channel = self._carrier.open_channel(SERVICE + method, within)
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
        channel: MessageChannel | None = None
        try:
            channel = self._channel(method)
            for part in parts:
                channel.send(part)
            reply = channel.recv(self._config.timeout)
        except (LinkClosed, TimeoutError) as error:
            raise ConnectError(f"no executor answers at the other peer ({error}): does it serve one?") from None
        finally:
            if channel is not None:
                channel.close()
        if reply[:1] == DONE:
            return reply[1:]
        raise _error(reply[1:])


def _error(data: bytes) -> AvlabError:
    first = next(decode_batch(data), None)
    if isinstance(first, Failure):
        return restore(first)
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


__all__ = ["Carrier", "ChannelCall", "ChannelConnection", "MessageChannel", "connect", "name_of"]
