"""Where a server's traces go: what OpenTelemetry's own environment variables say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points, version

from avlab.core.errors import ConfigError

EXPORTER = "OTEL_TRACES_EXPORTER"
_ALIASES = {"otlp": "otlp_proto_http"}  # the one that the extra installs
_NONE = ("", "none")


def export_traces(environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Send spans to the exporter that OTEL_TRACES_EXPORTER names (otlp, console); nowhere without it. Returns what ends that.

    The exporter reads its own variables, OTEL_EXPORTER_OTLP_ENDPOINT and others. Raises ConfigError when it is not installed.
    """
    name = environment.get(EXPORTER, "")
    if name in _NONE:
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(f"{EXPORTER}={name} needs OpenTelemetry: pip install 'avlab[operation]'") from None
    found = entry_points(group="opentelemetry_traces_exporter", name=_ALIASES.get(name, name))
    if not found:
        raise ConfigError(f"{EXPORTER}={name}: no such exporter is installed: pip install 'avlab[operation]' has otlp, console")
    about = {"service.name": "avlab-executor", "service.version": version("avlab")}
    provider = TracerProvider(resource=Resource.create(about))  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before
    provider.add_span_processor(BatchSpanProcessor(next(iter(found)).load()()))
    trace.set_tracer_provider(provider)
    return provider.shutdown
