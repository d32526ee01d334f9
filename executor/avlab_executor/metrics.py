"""Figures for Prometheus, read from the books when they are asked for; and the address where they are asked for.

Labels have few values: tenants of the configuration, tiers, reasons of an end, kinds of errors, methods. Nothing that a caller can
choose becomes one.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from avlab.core.errors import ConfigError
from avlab_executor.auth import Auth
from avlab_executor.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of durations, those of OpenTelemetry's conventions for RPC."""
_READ_SECONDS = 5.0


class Metrics(Collector):
    """The figures of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        self.registry.register(self)
        self._calls = Histogram(
            "rpc_server_call_duration_seconds",
            "Duration of a call, streams from their first message to their end",
            ("rpc_system_name", "rpc_method", "rpc_response_status_code"),
            buckets=SECONDS,
            registry=self.registry,
        )

    def called(self, method: str, status: str, seconds: float) -> None:
        """A call has ended."""
        self._calls.labels("grpc", method, status).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The state of the books now."""
        yield InfoMetricFamily("avlab_executor", "This executor", {"version": version("avlab"), "tier": self._service.tier})
        tiers = GaugeMetricFamily("avlab_tier_available", "Whether an isolation tier is possible here", labels=["tier"])
        for report in self._service.tiers():
            tiers.add_metric([report.name], int(report.available))
        yield tiers
        yield GaugeMetricFamily("avlab_sessions_capacity", "Most sessions at once", self._service.capacity)
        yield from self._environments()
        yield from self._tenants()

    def _environments(self) -> Iterator[Metric]:
        kept = self._service.environments()
        if kept is None:
            return
        yield GaugeMetricFamily("avlab_environments", "Environments that are kept", kept.environments)
        yield GaugeMetricFamily("avlab_environments_bytes", "Bytes of environments that are kept", kept.bytes)
        builds = CounterMetricFamily("avlab_environment_builds", "Builds of environments", labels=["outcome"])
        for outcome, count in kept.builds.items():
            builds.add_metric([outcome], count)
        yield builds
        yield CounterMetricFamily("avlab_environments_removed", "Environments that were removed to make room", kept.removed)

    def _tenants(self) -> Iterator[Metric]:
        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"avlab_{name}", text, labels=["tenant", *labels])

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"avlab_{name}", text, labels=["tenant", *labels])

        sessions = gauge("sessions", "Open sessions")
        memory = gauge("worker_memory_bytes", "Memory of the workers of open sessions")
        used, most = gauge("quota_used", "What is used of a quota", "quota"), gauge("quota_limit", "A quota", "quota")
        opened = counter("sessions_opened", "Sessions that were opened", "tier")
        ended = counter("sessions_ended", "Sessions that have ended", "reason")
        refused = counter("refused", "What was refused", "error")
        items = counter("items", "Items to (in) and from (out) workers", "direction")
        size = counter("payload_bytes", "Bytes of their payload", "direction")
        cpu = counter("worker_cpu_seconds", "CPU time of workers")
        for account in self._service.accounts:
            name = account.tenant.name
            for quota in account.quotas():  # settles the books first
                used.add_metric([name, quota.name], quota.used)
                if quota.most is not None:
                    most.add_metric([name, quota.name], quota.most)
            open_now, totals = account.sessions(), account.totals
            sessions.add_metric([name], len(open_now))
            memory.add_metric([name], sum(each.memory for each in open_now))
            for family, counts in ((opened, totals.sessions), (ended, totals.ends), (refused, totals.denied)):
                for key, count in sorted(counts.items()):
                    family.add_metric([name, key], count)
            for family, there, back in ((items, totals.inputs, totals.outputs), (size, totals.received, totals.sent)):
                family.add_metric([name, "in"], there)
                family.add_metric([name, "out"], back)
            cpu.add_metric([name], totals.cpu_seconds)
        yield from (sessions, memory, used, most, opened, ended, refused, items, size, cpu)


class MetricsServer:
    """Serves the figures over HTTP (with a certificate: HTTPS) at ``/metrics``, from one thread, until closed.

    With tokens, whoever asks needs that of an operator. Raises ConfigError for an address that cannot be bound.
    """

    def __init__(self, metrics: Metrics, auth: Auth, address: tuple[str, int], certificate: bytes = b"", key: bytes = b"") -> None:
        handler = type("Handler", (_Handler,), {"registry": metrics.registry, "auth": auth})
        context = _context(certificate, key) if certificate else None
        try:
            self._http = _Http(address, handler, context)
        except OSError as error:
            raise ConfigError(f"metrics: cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from None
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, name="avlab-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(HTTPServer):
    """One request at a time, each with little patience, also in all: a scraper needs no more, and who sends a byte now and then
    keeps nobody else from asking, nor this from closing."""

    def __init__(self, address: tuple[str, int], handler: Callable[..., Any], context: ssl.SSLContext | None) -> None:
        self._context = context
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket, Any]:
        """A connection whose handshake is made where its patience counts."""
        connection, peer = super().get_request()
        connection.settimeout(_READ_SECONDS)
        if self._context is not None:
            try:
                connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                raise
        return connection, peer

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer it, and be cut off after a while."""
        timer = threading.Timer(_READ_SECONDS, _cut, (request,))
        timer.daemon = True
        timer.start()
        try:
            super().process_request(request, client_address)
        finally:
            timer.cancel()

    def server_bind(self) -> None:
        """Without the look-up of a name that HTTPServer makes."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that left, or none at all: nobody to tell."""


class _Handler(BaseHTTPRequestHandler):
    """GET /metrics."""

    registry: CollectorRegistry
    auth: Auth
    timeout = _READ_SECONDS
    server_version, sys_version = "avlab", ""

    def do_GET(self) -> None:
        """The figures, or why not."""
        account = self.auth.account(self.headers.get("Authorization", ""))
        if account is None or not account.tenant.operator:
            self._answer(401, b"an operator's token is needed\n", ("WWW-Authenticate", "Bearer"))
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"figures are at /metrics\n")
        else:
            encoder, form = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encoder(self.registry), ("Content-Type", form))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        """Scrapes are not logged."""


def _cut(connection: socket) -> None:
    """End it under whoever reads it; its TLS, which has no lock, is left alone."""
    with suppress(OSError):  # it has ended
        socket.shutdown(connection, SHUT_RDWR)


def _context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    paths, held = [], []
    try:
        for data in (certificate, key):  # memory of this process: the key is in no file
            held.append(os.memfd_create("pem"))
            os.write(held[-1], data)
            paths.append(f"/proc/self/fd/{held[-1]}")
        context.load_cert_chain(*paths)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"metrics: certificate and key cannot be used: {error}") from None
    finally:
        for descriptor in held:
            os.close(descriptor)
    return context
