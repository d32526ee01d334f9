"""The gRPC link: sessions on an executor elsewhere, through the RPCs of protos/avlab/v1/executor.proto."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc

from avlab.core.clock import monotonic
from avlab.core.errors import AvlabError, ConfigError, ConnectError, Denied, LinkClosed, LinkError, SessionClosed
from avlab.core.latch import Latch
from avlab.core.message import Blob, Buffer, Bundle, BundleKind, ItemMessage, Log, Message, Open
from avlab.core.scrub import scrubbed
from avlab.core.status import Status, decode_description, decode_status
from avlab.core.wire import MAX_MESSAGE, decode_batch, decode_names, encode_batch, encode_names
from avlab.remote import tracing
from avlab.remote.arguments import pickle_argument
from avlab.remote.config import TLS, RemoteExecutorConfig
from avlab.remote.interrupts import exposed, shielded
from avlab.remote.link import Description, Layer, Link
from avlab.remote.links.resuming import Broken, ResumingLink
from avlab.remote.outbox import MAX_BATCH
from avlab.remote.tracing import Attribute

SERVICE = "avlab.v1.Executor"
OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE + MAX_BATCH),
    ("grpc.max_receive_message_length", MAX_MESSAGE + MAX_BATCH),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: of 60 kB of gzip become 60 MB before anybody looks at them
    # A silent peer is noticed 2 + 2 s after its last byte (without ping_timeout_ms it would take a minute) …
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # … and one that is there again soon: an attempt to connect lasts 1.5 s, so a round trip may take 0.5 s (TCP, TLS, HTTP/2).
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_500),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_BLOB_PART = 1 << 20
_PROBE_SECONDS = 1.0
MAX_DETAILS = 4000
"""Characters of a server's own words in an error."""
_CUT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How gRPC calls a connection that broke."""
_REMEDY = "is `avlab executor serve` running there?"
_REMEDIES = (
    ("CERTIFICATE_VERIFY_FAILED", ("grpcs",), "its certificate is not trusted here: give tls='ca.pem', the authority that signed it"),
    ("Hostname Verification", ("grpcs",), "its certificate is for another name: use that one in the URL"),
    ("WRONG_VERSION_NUMBER", ("grpcs",), "what listens there speaks no TLS: write grpc://, if it is on this machine"),
    ("Socket closed", ("grpc",), "does it speak TLS? Then write grpcs://"),
    ("Socket closed", ("grpcs",), "does it ask clients for a certificate? Then give tls=avlab.TLS(ca=…, certificate=…, key=…)"),
)
"""What gRPC says of a handshake that failed, under which scheme, and what to do."""
_REFUSED = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
)


class GrpcCall:
    """A Call over gRPC."""

    def __init__(self, call: Any, url: str) -> None:
        self._call, self._url = call, url

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._call.initial_metadata()  # an executor sends it at once
            if self._call.is_active():
                yield b""
            yield from self._call
        except grpc.RpcError as error:
            meant = translate(error, self._url)
            raise (Broken(meant) if error.code() in _CUT else meant) from None

    def cancel(self) -> None:
        self._call.cancel()


class GrpcConnection:
    """A Connection over one gRPC channel."""

    def __init__(self, config: RemoteExecutorConfig) -> None:
        self._config, self._url = config, config.url
        self._channel = _open_channel(config)
        self._closed = False
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
        method = self._channel.stream_stream(f"/{SERVICE}/{name}")
        trace = tracing.start(f"{SERVICE}/{name}", "CLIENT", self._about | {"rpc.method": f"{SERVICE}/{name}"})
        metadata = self._metadata + trace.headers() if trace else self._metadata

        def dial(requests: Iterator[bytes], wait: bool) -> GrpcCall:
            with self._unless_closed():
                return GrpcCall(method(requests, metadata=metadata, wait_for_ready=wait), self._url)

        link = ResumingLink(dial, self._url, request.session, request.grace, self._config.timeout, self._probe, trace)
        with suppress(LinkClosed):  # it has ended already: recv says why
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
        self._closed = True
        self._channel.close()

    @contextmanager
    def _unless_closed(self) -> Iterator[None]:
        """gRPC raises ValueError for calls on a channel that is closed. Raises SessionClosed instead."""
        try:
            yield
        except ValueError:
            if not self._closed:
                raise
            raise SessionClosed(f"the executor {self._url} is closed: connect again") from None

    def _probe(self) -> str:
        """Why the executor cannot be reached, as far as a plain connection tells."""
        assert self._config.host is not None
        try:
            with socket.create_connection((self._config.host, self._config.port), _PROBE_SECONDS):
                return "something takes connections there, but does not answer"
        except ConnectionRefusedError:
            return "nothing listens there"
        except OSError as error:
            return f"it is out of reach: {error}"

    def _send_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Send what the executor lacks. After a cut it is asked again what that is, for as long as it may take to connect."""
        until: int | None = None
        while blobs:
            try:
                return self._send_missing(blobs, wait=until is not None)
            except ConnectError:
                now = monotonic()
                until = until or now + int(min(self._config.timeout, self._config.grace) * 1e9)
                if now >= until:
                    raise

    def _send_missing(self, blobs: Mapping[str, bytes], wait: bool) -> None:
        held = set(decode_names(self._unary("HasBlobs", encode_names(blobs), wait=wait)))
        missing = {name: data for name, data in blobs.items() if name not in held}
        if missing:
            self._called("PutBlobs", self._channel.stream_unary, _parts(missing), 300)

    def _unary(self, method: str, data: bytes, timeout: float | None = 0, wait: bool = False) -> bytes:
        timeout = self._config.timeout if timeout == 0 else timeout
        return self._called(method, self._channel.unary_unary, data, timeout, wait)

    def _called(
        self, method: str, kind: Callable[[str], Any], request: Any, timeout: float | None, wait: bool = False
    ) -> bytes:
        name = f"{SERVICE}/{method}"
        with tracing.tracing(name, "CLIENT", self._about | {"rpc.method": name}) as trace:
            metadata = self._metadata + trace.headers() if trace else self._metadata
            try:
                with shielded, self._unless_closed():  # an interrupt inside of gRPC would leave the channel's lock closed
                    call = kind(f"/{name}").future(request, metadata=metadata, timeout=timeout, wait_for_ready=wait)
                    reply = _result(call)
            except grpc.RpcError as error:
                if trace is not None:
                    trace.note(rpc__response__status_code=error.code().name)
                raise translate(error, self._url) from None
            if trace is not None:
                trace.note(rpc__response__status_code="OK")
        return reply


def _result(call: Any) -> bytes:
    """The reply to a call, which an interrupt cancels."""
    ended = Latch()
    call.add_done_callback(lambda _: ended.set())
    try:
        with exposed:
            ended.wait()
    except BaseException:
        call.cancel()
        raise
    reply: bytes = call.result()
    return reply


def _parts(blobs: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, data in blobs.items():
        for start in range(0, max(1, len(data)), _BLOB_PART):
            yield encode_batch([Blob(name, data[start : start + _BLOB_PART], start, len(data))])


def translate(error: Any, url: str) -> AvlabError:
    """gRPC's exceptions stay here."""
    code, details = error.code(), scrubbed(error.details() or "", MAX_DETAILS)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        scheme = url.partition(":")[0]
        remedy = next((remedy for sign, of, remedy in _REMEDIES if sign in details and scheme in of), _REMEDY)
        return ConnectError(f"no executor answers at {url} ({details}): {remedy}")
    if code in _REFUSED:
        return Denied(f"the executor at {url} refuses: {details}")
    if code is grpc.StatusCode.CANCELLED:
        return LinkClosed("the link to the executor was closed")
    return LinkError(f"the executor at {url} failed: {code.name}: {details}")


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


def connect(config: RemoteExecutorConfig) -> GrpcConnection:
    """Connect and make sure that an executor answers. Raises ConnectError, Denied, ConfigError."""
    connection = GrpcConnection(config)
    try:
        connection.describe()
    except BaseException:
        connection.close()
        raise
    return connection


__all__ = ["SERVICE", "GrpcConnection", "connect", "is_loopback"]
