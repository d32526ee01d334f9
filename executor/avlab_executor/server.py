"""The gRPC server: binds an address, and gives each stream to the relay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import grpc

from avlab.core.errors import AvlabError, CodecError, ConfigError, ItemTooLarge, LinkClosed
from avlab.core.message import BundleKind, ItemMessage, Open, Resume
from avlab.core.wire import MAX_MESSAGE, decode_batch
from avlab.remote.config import check_token
from avlab.remote.link import one_item
from avlab.remote.links.grpc import OPTIONS, is_loopback
from avlab_executor import health
from avlab_executor.accounts import Caller
from avlab_executor.auth import Auth
from avlab_executor.calls import Calls
from avlab_executor.environments.policy import OFF, Policy
from avlab_executor.relay import relay
from avlab_executor.service import STREAMS, Service
from avlab_executor.session import Session, encoded, refusal
from avlab_executor.tenants import DEFAULT, Tenant, check_tenants

if TYPE_CHECKING:
    from avlab_executor.metrics import MetricsServer

OPEN_SECONDS = 10.0
"""How long a stream may say nothing before its Open: each holds one of the server's threads."""
_SERVER_OPTIONS = (
    *OPTIONS,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How an executor is served. ``port`` 0 takes a free one. ``sessions``: most at once; ``warm``: workers that wait.
    ``environments``: what is installed for sessions.

    token: of the one tenant "default"; or tenants: who may call, each with tokens and a quota. certificate, key: PEM; client_ca:
    PEM of the authorities that must have signed a client's certificate. metrics: host and port where Prometheus finds the figures,
    with the same TLS and an operator's token where there are tokens. Raises ConfigError for an address that is not loopback
    without TLS and a token, and for numbers and tokens that cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 7411
    token: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    client_ca: bytes = b""
    metrics: tuple[str, int] | None = None
    tenants: tuple[Tenant, ...] = ()
    minimum: str | None = None
    allow_process: bool = False
    sessions: int = 32
    warm: int = 2
    environments: Policy = OFF

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.sessions < 1 or self.warm < 0:
            raise ConfigError(f"sessions={self.sessions}, warm={self.warm}: at least 1 session and 0 waiting workers")
        check_token(self.token)
        if self.token and self.tenants:
            raise ConfigError("a token beside tenants: give each tenant its own")
        check_tenants(self.tenants)
        for tenant in self.tenants:
            if not tenant.tokens and len(self.tenants) > 1:
                raise ConfigError(f"tenant {tenant.name!r} has no token: a line in the token file (--token-file) gives it one")
        if self.client_ca and not self.certificate:
            raise ConfigError("certificates of clients are asked for in TLS only: give --tls-cert and --tls-key too")
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("TLS needs both a certificate and its key: give --tls-cert and --tls-key")
        tokens = any(tenant.tokens for tenant in self.callers())
        for what, host in (("", self.host), ("metrics: ", self.metrics[0] if self.metrics else "127.0.0.1")):
            if not is_loopback(host) and not (tokens and self.certificate):
                raise ConfigError(
                    f"{what}{host} can be reached by others: serving there needs TLS (--tls-cert, --tls-key) and a token "
                    "(--token-file), or serve on 127.0.0.1"
                )
        if self.metrics and not any(tenant.operator for tenant in self.callers()):
            raise ConfigError("metrics are for an operator: let a tenant be one ([tenants.NAME] operator = true)")

    def callers(self) -> tuple[Tenant, ...]:
        """Who may call."""
        if self.tenants:
            return self.tenants
        return (Tenant(DEFAULT, (self.token,) if self.token else (), operator=True),)


class Server:
    """A running executor service. A context manager; raises TierUnavailable and ConfigError when it cannot serve safely."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._service = Service(
            minimum=config.minimum,
            allow_process=config.allow_process,
            sessions=config.sessions,
            warm=config.warm,
            tenants=config.callers(),
            environments=config.environments,
        )
        self.tier = self._service.tier
        self._auth = Auth(self._service.accounts)
        self._called: Callable[[str, str, float], None] = lambda method, status, seconds: None
        self.metrics: MetricsServer | None = None
        try:
            if config.metrics:
                self.metrics = self._measure(config.metrics)
            # gRPC holds one thread per stream for its whole life; the rest are for short calls.
            self._threads = ThreadPoolExecutor(config.sessions + 8, thread_name_prefix="avlab-serve")
            self._grpc = grpc.server(self._threads, options=_SERVER_OPTIONS)
            self._grpc.add_generic_rpc_handlers((self._handlers(), health.handlers(self.serves)))
            self.port = self._bind()
            self._grpc.start()
        except BaseException:
            if self.metrics is not None:
                self.metrics.close()
            self._service.close()
            raise

    def _measure(self, address: tuple[str, int]) -> MetricsServer:
        try:
            from avlab_executor.metrics import Metrics, MetricsServer
        except ImportError:
            raise ConfigError("metrics need the Prometheus client: pip install 'avlab[operation]'") from None
        metrics = Metrics(self._service)
        self._called = metrics.called
        return MetricsServer(metrics, self._auth, address, self._config.certificate, self._config.key)

    def _bind(self) -> int:
        c = self._config
        host = "127.0.0.1" if c.host == "localhost" else c.host  # gRPC might listen on ::1 only
        address = f"[{host}]:{c.port}" if ":" in host else f"{host}:{c.port}"
        try:
            if c.certificate:
                credentials = grpc.ssl_server_credentials(
                    [(c.key, c.certificate)], c.client_ca or None, require_client_auth=bool(c.client_ca)
                )
                return int(self._grpc.add_secure_port(address, credentials))
            return int(self._grpc.add_insecure_port(address))
        except RuntimeError:
            what = "is the port in use, or the address not of this machine"
            if c.certificate:
                what += ", or are certificate, key and authorities no PEM files, or not of each other"
            raise ConfigError(f"cannot listen on {address}: {what}?") from None

    def _handlers(self) -> Calls:
        calls, service = Calls(self._service, self._auth, self._called), self._service
        functions: dict[str, Callable[[Any, Caller, Any], Any]] = {
            "StreamObject": self._stream(*STREAMS["StreamObject"]),
            "StreamNode": self._stream(*STREAMS["StreamNode"]),
            "ExecuteObject": self._execute(*STREAMS["StreamObject"]),
            "ExecuteNode": self._execute(*STREAMS["StreamNode"]),
            "HasBlobs": lambda data, caller, _: service.has(data, caller),
            "PutBlobs": lambda requests, caller, _: service.put(requests, caller),
            "Describe": lambda _, caller, __: service.describe(caller),
            "Status": lambda _, caller, __: service.status(caller),
        }
        for name, function in functions.items():
            streams = name.startswith("Stream")
            calls.add(name, "stream_stream" if streams else "stream_unary" if name == "PutBlobs" else "unary_unary", function)
        return calls

    def _stream(self, *kinds: BundleKind) -> Callable[[Any, Caller, Any], Iterator[bytes]]:
        def serve(requests: Any, caller: Caller, context: Any) -> Iterator[bytes]:
            silent = threading.Timer(OPEN_SECONDS, context.cancel)
            silent.daemon = True
            silent.start()

            def start(request: Open) -> Session:
                silent.cancel()
                return self._service.session(request, kinds, caller)

            def find(request: Resume) -> Session:
                silent.cancel()
                return self._service.find(request, caller)

            try:
                yield from relay(requests, start, find, context.cancel, context.add_callback)
            finally:
                silent.cancel()

        return serve

    def _execute(self, *kinds: BundleKind) -> Callable[[bytes, Caller, Any], bytes]:
        def execute(data: bytes, caller: Caller, context: Any) -> bytes:
            match list(islice(decode_batch(data), 3)):
                case [Open() as request, ItemMessage(slot=None) as item]:
                    pass
                case _:
                    raise CodecError("an Execute call carries Open and one item with its payload")
            replies: list[bytes] = []
            size = 0
            try:
                for line in self._service.prepare(request, caller):
                    if not context.is_active():
                        raise LinkClosed("the caller is gone")
                    replies += [encoded(line)] if line.data else []
                link = self._service.start(request, kinds, caller)
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

    def serves(self) -> bool:
        """Whether it takes new sessions."""
        return not self._service.draining

    def drain(self, seconds: float) -> None:
        """Take no more sessions and say so to health checks; wait up to ``seconds`` for those that are open."""
        self._service.drain(seconds)

    def close(self, grace: float = 1.0) -> None:
        """Take no more sessions, end those that are left after ``grace`` seconds, free everything. Idempotent."""
        self.drain(grace)
        self._grpc.stop(0).wait()
        if self.metrics is not None:
            self.metrics.close()
            self.metrics = None
        self._service.close()
        self._threads.shutdown()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
