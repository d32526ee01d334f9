"""The gRPC server: binds an address, checks tokens, and gives each stream to the relay."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc

from avlab.core.errors import AvlabError, CodecError, ConfigError, Denied, ItemTooLarge
from avlab.core.message import BundleKind, ItemMessage, Open
from avlab.core.wire import MAX_MESSAGE, decode_batch
from avlab.remote.config import check_token
from avlab.remote.link import one_item
from avlab.remote.links.grpc import OPTIONS, SERVICE, is_loopback
from avlab_executor import health
from avlab_executor.relay import encoded, refusal, relay
from avlab_executor.service import STREAMS, Service
from avlab_executor.worker_link import WorkerLink

INTERNAL = "an internal error of the executor: its log says more"
_log = logging.getLogger("avlab.executor")
OPEN_SECONDS = 10.0
"""How long a stream may say nothing before its Open: each holds one of the server's threads."""
_SERVER_OPTIONS = (*OPTIONS, ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000), ("grpc.so_reuseport", 0))


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How an executor is served. ``port`` 0 takes a free one. ``sessions``: most at once; ``warm``: workers that wait.

    Raises ConfigError for an address that is not loopback without TLS and a token, and for numbers and tokens that cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 7411
    token: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    minimum: str | None = None
    allow_process: bool = False
    sessions: int = 32
    warm: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.sessions < 1 or self.warm < 0:
            raise ConfigError(f"sessions={self.sessions}, warm={self.warm}: at least 1 session and 0 waiting workers")
        check_token(self.token)
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("TLS needs both a certificate and its key: give --tls-cert and --tls-key")
        if not is_loopback(self.host) and not (self.token and self.certificate):
            raise ConfigError(
                f"{self.host} can be reached by others: serving there needs TLS (--tls-cert, --tls-key) and a token "
                "(--token-file), or serve on 127.0.0.1"
            )


class Server:
    """A running executor service. A context manager; raises TierUnavailable and ConfigError when it cannot serve safely."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._service = Service(
            minimum=config.minimum, allow_process=config.allow_process, sessions=config.sessions, warm=config.warm
        )
        self.tier = self._service.tier
        try:
            # gRPC holds one thread per stream for its whole life; the rest are for short calls.
            self._threads = ThreadPoolExecutor(config.sessions + 8, thread_name_prefix="avlab-serve")
            self._grpc = grpc.server(self._threads, options=_SERVER_OPTIONS)
            self._grpc.add_generic_rpc_handlers((self._handlers(), health.handlers()))
            self.port = self._bind()
            self._grpc.start()
        except BaseException:
            self._service.close()
            raise

    def _bind(self) -> int:
        c = self._config
        host = "127.0.0.1" if c.host == "localhost" else c.host  # gRPC might listen on ::1 only
        address = f"[{host}]:{c.port}" if ":" in host else f"{host}:{c.port}"
        try:
            if c.certificate:
                credentials = grpc.ssl_server_credentials([(c.key, c.certificate)])
                return int(self._grpc.add_secure_port(address, credentials))
            return int(self._grpc.add_insecure_port(address))
        except RuntimeError:
            what = "is the port in use, or the address not of this machine"
            if c.certificate:
                what += ", or are certificate and key no PEM files that belong together"
            raise ConfigError(f"cannot listen on {address}: {what}?") from None

    def _handlers(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamObject": stream(self._guarded_stream(*STREAMS["StreamObject"])),
                "StreamNode": stream(self._guarded_stream(*STREAMS["StreamNode"])),
                "ExecuteObject": unary(self._guarded(self._execute(*STREAMS["StreamObject"]))),
                "ExecuteNode": unary(self._guarded(self._execute(*STREAMS["StreamNode"]))),
                "HasBlobs": unary(self._guarded(lambda data, _: self._service.has(data))),
                "PutBlobs": grpc.stream_unary_rpc_method_handler(
                    self._guarded(lambda data, _: self._service.put(data))
                ),
                "Describe": unary(self._guarded(lambda _, __: self._service.describe())),
            },
        )

    def _guarded(self, function: Callable[[Any, Any], bytes]) -> Callable[[Any, Any], bytes]:
        """Checks the token; avlab's errors become a status, anything else a bare INTERNAL without its text."""

        def handle(request: Any, context: Any) -> bytes:
            self._authorise(context)
            try:
                return function(request, context)
            except Denied as error:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            except AvlabError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Exception:
                if not context.is_active():
                    raise  # the caller is gone: nobody reads this
                _log.exception("an internal error")
                context.abort(grpc.StatusCode.INTERNAL, INTERNAL)
            raise AssertionError("abort raises")

        return handle

    def _guarded_stream(self, *kinds: BundleKind) -> Callable[[Any, Any], Iterator[bytes]]:
        def handle(requests: Any, context: Any) -> Iterator[bytes]:
            self._authorise(context)
            silent = threading.Timer(OPEN_SECONDS, context.cancel)
            silent.daemon = True
            silent.start()

            def start(request: Open) -> WorkerLink:
                silent.cancel()
                return self._service.start(request, kinds)

            try:
                yield from relay(requests, start)
            except Exception:
                if not context.is_active():
                    raise
                _log.exception("an internal error")
                context.abort(grpc.StatusCode.INTERNAL, INTERNAL)
            finally:
                silent.cancel()

        return handle

    def _authorise(self, context: Any) -> None:
        if not self._config.token:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(str(given).encode(), f"Bearer {self._config.token}".encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed: give auth=…")

    def _execute(self, *kinds: BundleKind) -> Callable[[bytes, Any], bytes]:
        def execute(data: bytes, context: Any) -> bytes:
            match list(islice(decode_batch(data), 3)):
                case [Open() as request, ItemMessage() as item]:
                    pass
                case _:
                    raise CodecError("an Execute call carries Open and one item")
            replies: list[bytes] = []
            size = 0
            try:
                link = self._service.start(request, kinds)
                if not context.add_callback(link.kill):  # when the caller goes, so does the worker
                    link.kill()
                for message in one_item(link, item):
                    replies.append(encoded(message))
                    size += len(replies[-1])
                    if size > MAX_MESSAGE:
                        raise ItemTooLarge(f"the results of one call exceed {MAX_MESSAGE} bytes: open a session")
            except AvlabError as error:
                replies.append(encoded(refusal(error)))
            return b"".join(replies)

        return execute

    def used(self) -> bool:
        """Whether a session was open at any time since the last call."""
        return self._service.used()

    def wait(self) -> None:
        """Until the server is closed."""
        self._grpc.wait_for_termination()

    def close(self, grace: float = 1.0) -> None:
        """Take no more sessions, end those that are left after ``grace`` seconds, free everything. Idempotent."""
        self._grpc.stop(grace).wait()
        self._service.close()
        self._threads.shutdown()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
