"""Traces through OpenTelemetry, where this process uses it: whoever has not set it up gets nothing, and pays nothing.

Names follow the semantic conventions of OpenTelemetry for RPC; what they do not know stands under ``avlab.``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from avlab.core.errors import AvlabError

Attribute = str | int | float | bool
RPC = {"rpc.system.name": "grpc"}
_MOST = 512
"""Characters of a header of the other side that are read, and of a text that is kept."""


def enabled() -> bool:
    """Whether this process uses OpenTelemetry: has imported it, as libraries do, and has set a tracer provider."""
    api = sys.modules.get("opentelemetry.trace")
    provider, none = getattr(api, "get_tracer_provider", None), getattr(api, "ProxyTracerProvider", None)
    return provider is not None and none is not None and not isinstance(provider(), none)


class Trace:
    """A span under way. Ends once."""

    def __init__(self, span: Any) -> None:
        self._span, self._ended = span, False

    @property
    def id(self) -> str:
        """The trace's number, as it stands in a traceparent header."""
        return format(self._span.get_span_context().trace_id, "032x")

    def note(self, **attributes: Attribute) -> None:
        """Add attributes; a name's double underscore stands for a dot."""
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value[:_MOST] if isinstance(value, str) else value)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What tells another process of it: W3C traceparent, and tracestate if there is one."""
        carrier: dict[str, str] = {}
        _propagator().inject(carrier, _api().set_span_in_context(self._span))
        return tuple(carrier.items())

    def end(self, error: str = "") -> None:
        """It is over; ``error``: the kind of what went wrong, as a short name."""
        if self._ended:
            return
        self._ended = True
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(_api().StatusCode.ERROR)
        self._span.end()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Spans that this thread starts within belong to it."""
        with _api().use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


    def enter(self) -> None:
        """Spans that this context starts from now on belong to it, until `leave`: where no block can be around them."""
        _context().attach(_api().set_span_in_context(self._span))

    def leave(self) -> None:
        """Spans that this context starts from now on belong to none."""
        _context().attach(_context().Context())


def start(
    name: str,
    kind: str = "INTERNAL",
    attributes: Mapping[str, Attribute] | None = None,
    *,
    parent: Trace | None = None,
    headers: Mapping[str, object] | None = None,
) -> Trace | None:
    """A span that begins now; None where there is no OpenTelemetry.

    kind: INTERNAL, CLIENT or SERVER. Its parent is ``parent``, what the ``headers`` of a caller name, or this thread's span.
    """
    if not enabled():
        return None
    api, context = _api(), None
    if parent is not None:
        context = api.set_span_in_context(parent._span)
    elif headers is not None:
        known = {key: headers.get(key) for key in ("traceparent", "tracestate")}
        told = {key: value for key, value in known.items() if isinstance(value, str) and len(value) <= _MOST}
        context = _propagator().extract(told, _context().Context())
    tracer = api.get_tracer("avlab")
    return Trace(tracer.start_span(name, context, getattr(api.SpanKind, kind), dict(attributes or {})))


@contextmanager
def tracing(name: str, kind: str = "INTERNAL", attributes: Mapping[str, Attribute] | None = None) -> Iterator[Trace | None]:
    """A span around a block, of this thread."""
    trace = start(name, kind, attributes)
    if trace is None:
        yield None
        return
    try:
        with trace.current():
            yield trace
    except BaseException as error:
        trace.end(kind_of(error))
        raise
    trace.end()


def kind_of(error: BaseException) -> str:
    """The name of an error as it stands in a trace: of avlab's own, or of its type."""
    cls = type(error)
    return next((c.__name__ for c in cls.__mro__ if c.__module__ == AvlabError.__module__), cls.__name__)


def _api() -> Any:
    return sys.modules["opentelemetry.trace"]


def _context() -> Any:
    return import_module("opentelemetry.context")


def _propagator() -> Any:
    # Alone: what else a process hands on, such as baggage, is not for another one's executor.
    return import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
