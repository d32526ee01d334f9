"""The gRPC link: sessions on an executor elsewhere, through the RPCs of protos/avlab/v1/executor.proto."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc

from avlab.core.errors import AvlabError, ConfigError, ConnectError, Denied, LinkClosed, LinkError
from avlab.core.message import MAX_ITEM, Blob, Buffer, Bundle, BundleKind, Credit, ItemMessage, Log, Message, Open
from avlab.core.status import Status, decode_description, decode_status
from avlab.core.wire import MAX_MESSAGE, decode_batch, decode_names, encode_batch, encode_names
from avlab.remote import tracing
from avlab.remote.arguments import pickle_argument
from avlab.remote.config import TLS, RemoteExecutorConfig
from avlab.remote.failure import scrubbed
from avlab.remote.interrupts import NOTICE, exposed
from avlab.remote.link import Description, Layer, Link
from avlab.remote.tracing import Attribute, Trace

SERVICE = "avlab.v1.Executor"
MAX_BATCH = 4 << 20
"""Small messages that wait together travel together, up to this many bytes."""
OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE + MAX_BATCH),
    ("grpc.max_receive_message_length", MAX_MESSAGE + MAX_BATCH),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
)
MAX_DETAILS = 4000
"""Characters of a server's own words in an error."""
_BLOB_PART = 1 << 20
_WAITING = 256
_MOST_BYTES = 2 * MAX_ITEM  # of payloads that have arrived and are not taken yet
_SMALL = 8 << 10


class Outbox:
    """Messages that wait for the transport: bounded, batched, iterated by gRPC."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = self._holding = False

    def put(self, data: bytes) -> None:
        """Add an encoded batch; waits while too many wait. Raises LinkClosed."""
        with self._changed:
            while len(self._waiting) >= _WAITING and not self._ended:
                with exposed:
                    self._changed.wait(NOTICE)
            if self._ended:
                raise LinkClosed("the link to the executor is closed")
            self._waiting.append(data)
            if not self._holding or len(data) > _SMALL:
                self._changed.notify_all()

    def hold(self) -> None:
        """Small batches that follow wait for `flush`."""
        self._holding = True

    def flush(self) -> None:
        """What waits may go."""
        self._holding = False
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        """No more messages; what waits still goes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._waiting:
                if self._ended:
                    raise StopIteration
                self._changed.wait()
            parts, size = [self._waiting.popleft()], 0
            size = len(parts[0])
            while self._waiting and size + len(self._waiting[0]) <= MAX_BATCH:
                parts.append(self._waiting.popleft())
                size += len(parts[-1])
            self._changed.notify_all()
        return parts[0] if len(parts) == 1 else b"".join(parts)


class GrpcLink:
    """One streaming call. A thread reads it, because a blocked gRPC read can be neither timed nor interrupted."""

    resumable = False

    def __init__(self, method: Any, metadata: tuple[tuple[str, str], ...], url: str, trace: Trace | None = None) -> None:
        self._url, self._outbox, self._trace = url, Outbox(), trace
        self._arrived: deque[Message] = deque()
        self._changed = threading.Condition()
        self._error: AvlabError | None = None
        self._call = method(self._outbox, metadata=metadata)
        self._reader = threading.Thread(target=self._read, name="avlab-grpc", daemon=True)
        self._reader.start()

    def hold(self) -> None:
        self._outbox.hold()

    def flush(self) -> None:
        self._outbox.flush()

    def send(self, message: Message) -> None:
        self._outbox.put(encode_batch([message]))

    def recv(self, timeout: float | None = None) -> Message:
        with self._changed:
            while not self._arrived:
                if self._error is not None:
                    raise self._error
                with exposed:
                    arrived = self._changed.wait(timeout)
                if not arrived:
                    raise TimeoutError(f"nothing arrived within {timeout} s")
            message = self._arrived.popleft()
            if len(self._arrived) == _WAITING - 1 or _size(message) > _SMALL:
                self._changed.notify_all()
            return message

    def arrived(self) -> Message | None:
        return self.recv() if self._arrived else None

    def wake(self) -> None:
        with self._changed:
            self._arrived.append(Credit())
            self._changed.notify_all()

    def _read(self) -> None:
        error: AvlabError = LinkClosed("the executor has ended the session")
        try:
            for data in self._call:
                if len(data) > _SMALL:
                    with self._changed:
                        while sum(map(_size, self._arrived)) > _MOST_BYTES and self._error is None:
                            self._changed.wait()
                for message in decode_batch(data):
                    with self._changed:
                        while len(self._arrived) >= _WAITING and self._error is None:
                            self._changed.wait()
                        self._arrived.append(message)
                        self._changed.notify_all()
        except grpc.RpcError as broken:
            error = _translate(broken, self._url)
        except AvlabError as malformed:
            error = malformed
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._outbox.end()
        if self._trace is not None:
            self._trace.end("" if isinstance(self._error, LinkClosed) else tracing.kind_of(self._error))

    def kill(self) -> None:
        """Break the call: the executor ends the worker."""
        self._call.cancel()

    def close(self) -> None:
        self._outbox.end()
        with self._changed:
            self._error = self._error or LinkClosed("the link is closed")
            self._changed.notify_all()
        self._call.cancel()
        if threading.current_thread() is not self._reader:
            self._reader.join()


class GrpcConnection:
    """A Connection over one gRPC channel."""

    def __init__(self, config: RemoteExecutorConfig) -> None:
        self._config, self._url = config, config.url
        self._channel = _open_channel(config)
        self._metadata = (("authorization", f"Bearer {config.auth}"),) if config.auth else ()
        self._about: dict[str, Attribute] = {**tracing.RPC, "server.address": str(config.host), "server.port": config.port}

    def describe(self) -> Description:
        values, tiers = decode_description(self._unary("Describe", b""))
        return Description(url=self._url, tiers=[Layer(*tier) for tier in tiers], **values)

    def status(self) -> Status:
        return decode_status(self._unary("Status", b""))

    def prepare(self, request: Open) -> Iterator[Log]:
        return iter(())  # the executor does it, within the stream

    def open(self, request: Open, blobs: Mapping[str, bytes]) -> Link:
        self._send_blobs(blobs)
        name = "StreamNode" if request.bundle.kind is BundleKind.NODE else "StreamObject"
        trace = tracing.start(f"{SERVICE}/{name}", "CLIENT", self._about | {"rpc.method": f"{SERVICE}/{name}"})
        metadata = self._metadata + trace.headers() if trace else self._metadata
        link = GrpcLink(self._channel.stream_stream(f"/{SERVICE}/{name}"), metadata, self._url, trace)
        link.send(request)
        return link

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        self._send_blobs(blobs)
        name = "ExecuteNode" if request.bundle.kind is BundleKind.NODE else "ExecuteObject"
        return decode_batch(self._unary(name, encode_batch([request, item]), None))

    def lend(self, obj: object) -> Bundle | None:
        return None

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        return pickle_argument(value)

    def close(self) -> None:
        self._channel.close()

    def _send_blobs(self, blobs: Mapping[str, bytes]) -> None:
        if not blobs:
            return
        held = set(decode_names(self._unary("HasBlobs", encode_names(blobs))))
        missing = {name: data for name, data in blobs.items() if name not in held}
        if missing:
            self._called("PutBlobs", self._channel.stream_unary, _parts(missing), 300)

    def _unary(self, method: str, data: bytes, timeout: float | None = 0) -> bytes:
        return self._called(method, self._channel.unary_unary, data, self._config.timeout if timeout == 0 else timeout)

    def _called(self, method: str, kind: Callable[[str], Any], request: Any, timeout: float | None) -> bytes:
        name = f"{SERVICE}/{method}"
        with tracing.tracing(name, "CLIENT", self._about | {"rpc.method": name}) as trace:
            metadata = self._metadata + trace.headers() if trace else self._metadata
            try:
                reply: bytes = kind(f"/{name}")(request, metadata=metadata, timeout=timeout)
            except grpc.RpcError as error:
                if trace is not None:
                    trace.note(rpc__response__status_code=error.code().name)
                raise _translate(error, self._url) from None
            if trace is not None:
                trace.note(rpc__response__status_code="OK")
        return reply


def _size(message: Message) -> int:
    if type(message) is ItemMessage:
        return message.nbytes
    return len(message.data) if type(message) is Log else 0


def _parts(blobs: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, data in blobs.items():
        for start in range(0, max(1, len(data)), _BLOB_PART):
            yield encode_batch([Blob(name, data[start : start + _BLOB_PART], start, len(data))])


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only. Names other than localhost count as far."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open_channel(config: RemoteExecutorConfig) -> grpc.Channel:
    assert config.host is not None  # RemoteExecutorConfig has checked it
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    if config.tls:
        files = config.tls if isinstance(config.tls, TLS) else TLS()
        credentials = grpc.ssl_channel_credentials(
            _read("ca", files.ca), _read("key", files.key), _read("certificate", files.certificate)
        )
        return grpc.secure_channel(address, credentials, OPTIONS)
    if config.auth and not is_loopback(config.host):
        raise ConfigError(f"a token is not sent to {config.host} without TLS: use grpcs://{address}")
    return grpc.insecure_channel(address, OPTIONS)


def _read(what: str, path: str | None) -> bytes | None:
    """The content of a file of `TLS`."""
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"tls: {what} {path!r} cannot be read: {error.strerror}") from None


_REFUSED = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
)


def _translate(error: Any, url: str) -> AvlabError:
    """gRPC's exceptions stay here."""
    code, details = error.code(), scrubbed(error.details() or "", MAX_DETAILS)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ConnectError(f"no executor answers at {url} ({details}): is `avlab executor serve` running there?")
    if code in _REFUSED:
        return Denied(f"the executor at {url} refuses: {details}")
    if code is grpc.StatusCode.CANCELLED:
        return LinkClosed("the link to the executor was closed")
    return LinkError(f"the executor at {url} failed: {code.name}: {details}")


def connect(config: RemoteExecutorConfig) -> GrpcConnection:
    """Connect and make sure that an executor answers. Raises ConnectError, Denied, ConfigError."""
    connection = GrpcConnection(config)
    try:
        connection.describe()
    except BaseException:
        connection.close()
        raise
    return connection


__all__ = ["SERVICE", "GrpcConnection", "GrpcLink", "connect", "is_loopback"]
