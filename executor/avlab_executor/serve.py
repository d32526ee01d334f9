"""``avlab executor serve``: from settings to a running server."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avlab.core.errors import ConfigError
from avlab.remote.interrupts import NOTICE
from avlab.remote.limits import parse_size
from avlab_executor import allocator, logs, settings
from avlab_executor.environments.policy import Policy
from avlab_executor.tenants import DEFAULT, read_tokens

if TYPE_CHECKING:
    from avlab_executor.server import ServerConfig

DESCRIPTION = """\
Serve sandboxed sessions over gRPC until interrupted.

Each setting is a flag, a variable AVLAB_EXECUTOR_NAME (for --min-tier: AVLAB_EXECUTOR_MIN_TIER) or a key of the TOML file
(min_tier); a flag goes before a variable, a variable before the file. One token can also stand in AVLAB_EXECUTOR_TOKEN.
Traces go where OpenTelemetry's variable OTEL_TRACES_EXPORTER says (otlp, console).
"""
EXAMPLES = """\
examples:
  avlab executor serve                                       for this machine alone, no token
  avlab executor serve --host 0.0.0.0 --token-file tokens --tls-cert cert.pem --tls-key key.pem
                                                             for others: TLS and a token are a must
  avlab executor serve --config executor.toml --log-format json
                                                             with tenants and quotas: see docs/operation.md
"""
_TOKENS = (settings.PREFIX + "TOKEN", "AVLAB_TOKEN")
_log = logging.getLogger("avlab.executor")


def add_parser(commands: Any) -> None:
    """The sub-command."""
    parser = commands.add_parser(
        "serve",
        help="serve over gRPC until interrupted",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    settings.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM (open sessions may go on for a while), SIGINT (they may not) or long idleness.

    Raises ConfigError, TierUnavailable.
    """
    allocator.settle()
    from avlab_executor.exporting import export_traces
    from avlab_executor.health import HealthSocket  # loads grpc
    from avlab_executor.idle import until_idle
    from avlab_executor.server import Server

    values = settings.resolve(vars(options))
    config = server_config(values)
    guarded = any(tenant.tokens for tenant in config.callers())
    logs.configure(values["log_format"], values["log_level"], audited=guarded or values["audit"])
    for name in settings.unknown():
        _log.warning("the variable %s is no setting: it is ignored", name)
    done, drained = threading.Event(), values["drain"]

    def end(number: int, *_: object) -> None:
        nonlocal drained
        if number == signal.SIGINT:
            drained = 0.0
        done.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with contextlib.ExitStack() as stack:
        stack.callback(export_traces())
        server = stack.enter_context(Server(config))
        if values["health_socket"]:
            stack.enter_context(HealthSocket(values["health_socket"], server.serves))
        scheme = "grpcs" if config.certificate else "grpc"
        if server.metrics is not None:
            _log.info("metrics at %s:%d/metrics", values["metrics"][0], server.metrics.port)
        print(f"serving {scheme}://{config.host}:{server.port}, isolation tier {server.tier}", flush=True)
        if values["idle_exit"] is None:
            while not done.wait(NOTICE):
                pass
        elif until_idle(server.used, done.wait, values["idle_exit"]):
            print(f"no session for {values['idle_exit']:g} s", file=sys.stderr, flush=True)
        print("ending", file=sys.stderr, flush=True)
        server.drain(drained)
    return 0


def server_config(values: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> ServerConfig:
    """What settings mean for a server: files are read, tokens become tenants. Raises ConfigError."""
    from avlab_executor.server import ServerConfig

    token = next((environment[name] for name in _TOKENS if environment.get(name)), "")
    file: Path | None = values["token_file"]
    if values["self_signed"]:
        if values["tls_cert"] or values["tls_key"] or file or token:
            raise ConfigError(
                f"--self-signed makes token and certificate: give no --tls-cert, --tls-key, --token-file, {', '.join(_TOKENS)}"
            )
        from avlab_executor.identity import make

        own = make(values["self_signed"])
        token, certificate, key = own.token, own.certificate, own.key
    else:
        certificate, key = _text(values["tls_cert"]).encode(), _text(values["tls_key"]).encode()
    tokens = read_tokens(_text(file), str(file)) if file else {DEFAULT: (token,)} if token else {}
    return ServerConfig(
        host=values["host"],
        port=values["port"],
        tenants=values["tenants"](tokens),
        certificate=certificate,
        key=key,
        client_ca=_text(values["tls_client_ca"]).encode(),
        metrics=values["metrics"],
        minimum=values["min_tier"],
        allow_process=values["allow_process"],
        sessions=values["sessions"],
        warm=values["warm"],
        environments=Policy(
            mode=values["pip_policy"],
            allow=values["pip_allow"] or (),
            folder=str(values["environments"] or ""),
            size=parse_size(values["environments_size"]),
        ),
    )


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
