"""``avlab executor serve | health | status``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avlab.core.errors import ConfigError
from avlab.remote.connect import connect

if TYPE_CHECKING:
    from avlab_executor.identity import Identity

_HEALTH_SOCKET = "AVLAB_HEALTH_SOCKET"  # environment variable, for the server and for who asks it


def add_commands(subparsers: Any) -> None:
    """Entry point of the group ``avlab.commands``."""
    executor = subparsers.add_parser("executor", help="serve sandboxed sessions to other processes")
    commands = executor.add_subparsers(dest="action", required=True)
    health_socket: dict[str, Any] = {"type": Path, "metavar": "PATH", "default": os.environ.get(_HEALTH_SOCKET)}
    serve = commands.add_parser("serve", help="serve over gRPC until interrupted")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind; others than loopback need TLS and a token")
    serve.add_argument("--port", type=int, default=7411, help="0 takes a free one (default 7411)")
    serve.add_argument("--token-file", type=Path, help="bearer tokens, a `tenant token` per line (or one: AVLAB_TOKEN)")
    serve.add_argument("--tls-cert", type=Path, help="PEM certificate chain")
    serve.add_argument("--tls-key", type=Path, help="PEM private key")
    serve.add_argument("--tls-client-ca", type=Path, help="PEM authorities that must have signed a client's certificate")
    serve.add_argument("--min-tier", choices=("landlock", "namespaces"), help="refuse to serve with less isolation")
    serve.add_argument("--allow-process", action="store_true", help="accept plain processes: no security boundary")
    serve.add_argument("--sessions", type=int, default=32, help="most sessions at once (default 32)")
    serve.add_argument("--warm", type=int, default=2, help="workers that wait, started and locked (default 2)")
    serve.add_argument(
        "--self-signed", type=Path, metavar="FOLDER",
        help="make a token and a certificate at start and leave them there for the owner's clients, until the next start",
    )  # fmt: skip
    serve.add_argument(
        "--health-socket", **health_socket, help=f"answer health checks at this Unix socket too ({_HEALTH_SOCKET})"
    )
    serve.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end after that long without a session")
    serve.set_defaults(run=_serve)
    health = commands.add_parser("health", help="whether the server behind a Unix socket serves: exit code 0")
    health.add_argument("socket", nargs="?", **health_socket, help=f"its --health-socket ({_HEALTH_SOCKET})")
    health.set_defaults(run=_health)
    status = commands.add_parser("status", help="what an executor is and can do")
    status.add_argument("url", nargs="?", default="grpc://127.0.0.1:7411")
    status.set_defaults(run=_status)


def _serve(options: argparse.Namespace) -> int:
    from avlab_executor.health import HealthSocket  # loads grpc
    from avlab_executor.idle import until_idle
    from avlab_executor.server import Server, ServerConfig
    from avlab_executor.tenants import Tenant, read_tokens

    own = _own_identity(options)
    tokens = read_tokens(_text(options.token_file), str(options.token_file)) if options.token_file else {}
    token = own.token if own else "" if tokens else os.environ.get("AVLAB_TOKEN", "")
    config = ServerConfig(
        host=options.host,
        port=options.port,
        token=token,
        tenants=tuple(Tenant(name, mine, operator=len(tokens) == 1) for name, mine in tokens.items()),
        client_ca=_text(options.tls_client_ca).encode(),
        certificate=own.certificate if own else _text(options.tls_cert).encode(),
        key=own.key if own else _text(options.tls_key).encode(),
        minimum=options.min_tier,
        allow_process=options.allow_process,
        sessions=options.sessions,
        warm=options.warm,
    )
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(config))
        if options.health_socket:
            stack.enter_context(HealthSocket(options.health_socket))
        scheme = "grpcs" if config.certificate else "grpc"
        print(f"serving {scheme}://{config.host}:{server.port}, isolation tier {server.tier}", flush=True)
        if options.idle_exit is None:
            done.wait()
        elif until_idle(server.used, done.wait, options.idle_exit):
            print(f"no session for {options.idle_exit:g} s", file=sys.stderr, flush=True)
        print("ending", file=sys.stderr, flush=True)
    return 0


def _own_identity(options: argparse.Namespace) -> Identity | None:
    if options.self_signed is None:
        return None
    if options.tls_cert or options.tls_key or options.token_file or os.environ.get("AVLAB_TOKEN"):
        raise ConfigError(
            "--self-signed makes token and certificate: give no --tls-cert, --tls-key, --token-file, AVLAB_TOKEN"
        )
    from avlab_executor.identity import make

    return make(options.self_signed)


def _health(options: argparse.Namespace) -> int:
    from avlab_executor.health import check  # loads grpc

    if options.socket is None:
        raise ConfigError(
            f"health: which socket? Give the path of the server's --health-socket, or set {_HEALTH_SOCKET}"
        )
    check(options.socket)
    print("serving")
    return 0


def _status(options: argparse.Namespace) -> int:
    with connect(options.url, auth=os.environ.get("AVLAB_TOKEN") or None) as executor:
        about = executor.describe()
    print(f"{about.url}: avlab {about.version}, Python {about.python}, isolation tier {about.tier}")
    print(f"sessions {about.sessions} of {about.capacity or 'any number'}, largest item {about.max_item >> 20} MiB")
    for tier in about.tiers:
        print(f"  {tier.name:<11}{'on' if tier.available else 'off':<4}{tier.reason}")
    return 0


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().strip() + ("\n" if path.suffix == ".pem" else "")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
