"""Every call of the gRPC server passes here: who calls, and what is said when something goes wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, Denied
from avlab.remote import tracing
from avlab.remote.links.grpc import SERVICE
from avlab.remote.tracing import Trace
from avlab_executor.accounts import Account, Caller
from avlab_executor.audit import Strangers
from avlab_executor.auth import Auth
from avlab_executor.relay import INTERNAL
from avlab_executor.service import Service

SEND_SECONDS = 600.0
"""How long a caller may take to send what is answered once: it holds one of the server's threads."""
_FAULTS = {getattr(grpc.StatusCode, name) for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")}
"""Statuses that are a server's own errors, by OpenTelemetry's conventions."""
_log = logging.getLogger("avlab.executor")


class Calls:
    """Calls the functions that serve. Each gets the request (or an iterator of requests), the caller and gRPC's context.

    called: told of every call that has ended: method, status, seconds.
    """

    def __init__(
        self,
        service: Service,
        auth: Auth,
        called: Callable[[str, str, float], None] = lambda method, status, seconds: None,
        clock: Clock = monotonic,
    ) -> None:
        self._service, self._auth, self._called, self._clock = service, auth, called, clock
        self._handlers: dict[str, Any] = {}
        self._refusals: dict[str, Any] = {}
        self._strangers = Strangers(clock)

    def add(self, method: str, form: str, function: Callable[[Any, Caller, Any], Any]) -> None:
        """Serve a method. form: "unary_unary", "stream_unary" or "stream_stream", as in gRPC."""
        forms: dict[str, Callable[[str, Any], Callable[[Any, Any], Any]]] = {
            "unary_unary": self._single,
            "stream_unary": self._sent,
            "stream_stream": self._stream,
        }
        handle = forms[form](method, function)
        self._handlers[f"/{SERVICE}/{method}"] = getattr(grpc, f"{form}_rpc_method_handler")(handle)
        # In the form that begins before a message has been read: strangers shall not make the server hold any.
        self._refusals[f"/{SERVICE}/{method}"] = grpc.stream_stream_rpc_method_handler(self._stream(method, _never))

    def service(self, details: Any) -> Any:
        """gRPC asks for the handler of a call, when no more than its metadata has come. None: no such method."""
        known = self._account(dict(details.invocation_metadata)) is not None
        return (self._handlers if known else self._refusals).get(details.method)

    def _single(self, method: str, function: Callable[[Any, Caller, Any], bytes]) -> Callable[[Any, Any], bytes]:
        def handle(request: Any, context: Any) -> bytes:
            with self._answering(method, context) as caller:
                return function(request, caller, context)

        return handle

    def _sent(self, method: str, function: Callable[[Any, Caller, Any], bytes]) -> Callable[[Any, Any], bytes]:
        def handle(requests: Any, context: Any) -> bytes:
            with self._answering(method, context) as caller, caller.account.stream(), _within(SEND_SECONDS, context):
                return function(requests, caller, context)

        return handle

    def _stream(
        self, method: str, function: Callable[[Any, Caller, Any], Iterator[bytes]]
    ) -> Callable[[Any, Any], Iterator[bytes]]:
        def handle(requests: Any, context: Any) -> Iterator[bytes]:
            with self._answering(method, context) as caller, caller.account.stream():
                context.send_initial_metadata(())  # the caller hears at once that its call was taken
                yield from function(requests, caller, context)

        return handle

    @contextmanager
    def _answering(self, method: str, context: Any) -> Iterator[Caller]:
        """Who calls. avlab's errors become a status, anything else a bare INTERNAL without its text."""
        began, name = self._clock(), f"{SERVICE}/{method}"
        metadata = dict(context.invocation_metadata())
        trace = tracing.start(name, "SERVER", {**tracing.RPC, "rpc.method": name}, headers=metadata)
        ended = _Ended()
        try:
            caller = self._caller(method, context, metadata, trace, ended)
            try:
                yield caller
            except Denied as error:
                self._service.deny(caller, method, error)
                ended.abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            except AvlabError as error:
                self._service.deny(caller, method, error)
                ended.abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Exception:
                if not context.is_active():
                    raise  # the caller is gone: nobody reads this
                _log.exception("an internal error")
                ended.abort(context, grpc.StatusCode.INTERNAL, INTERNAL)
        finally:
            if ended.status is grpc.StatusCode.OK and not context.is_active():
                ended.status = grpc.StatusCode.CANCELLED
            self._called(name, ended.status.name, (self._clock() - began) / 1e9)
            if trace is not None:
                trace.note(rpc__response__status_code=ended.status.name)
                trace.end(ended.status.name if ended.status in _FAULTS else "")

    def _account(self, metadata: dict[str, Any]) -> Account | None:
        header = metadata.get("authorization", "")
        return self._auth.account(header if isinstance(header, str) else "")

    def _caller(self, method: str, context: Any, metadata: dict[str, Any], trace: Trace | None, ended: _Ended) -> Caller:
        account = self._account(metadata)
        if account is None:
            self._strangers.denied(_peer(context), method)
            ended.abort(context, grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed: give auth=…")
        if trace is not None:
            trace.note(avlab__tenant=account.tenant.name)
        names = context.auth_context().get("x509_common_name", ())  # of the certificate that the client showed
        shown = "".join(f" ({name.decode('utf-8', 'replace')})" for name in names)
        return Caller(account, _peer(context) + shown, trace)


def _peer(context: Any) -> str:
    """The address of who calls; gRPC writes it as in a URL."""
    return unquote(context.peer())


@contextmanager
def _within(seconds: float, context: Any) -> Iterator[None]:
    """The call is over after so many seconds."""
    timer = threading.Timer(seconds, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _never(requests: Any, caller: Caller, context: Any) -> Iterator[bytes]:
    raise AssertionError("a stranger is refused before")


class _Ended:
    """How a call has ended."""

    status = grpc.StatusCode.OK

    def abort(self, context: Any, status: Any, text: str) -> NoReturn:
        """End the call with a status; raises."""
        self.status = status
        context.abort(status, text)
        raise AssertionError("abort raises")
