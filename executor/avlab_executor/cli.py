"""``avlab executor serve | status``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab.remote.connect import connect


def add_commands(subparsers: Any) -> None:
    """Entry point of the group ``avlab.commands``."""
    executor = subparsers.add_parser("executor", help="serve sandboxed sessions to other processes")
    commands = executor.add_subparsers(dest="action", required=True)
    serve = commands.add_parser("serve", help="serve over gRPC until interrupted")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind; others than loopback need TLS and a token")
    serve.add_argument("--port", type=int, default=7411, help="0 takes a free one (default 7411)")
    serve.add_argument("--token-file", type=Path, help="file with the bearer token (or the variable AVLAB_TOKEN)")
    serve.add_argument("--tls-cert", type=Path, help="PEM certificate chain")
    serve.add_argument("--tls-key", type=Path, help="PEM private key")
    serve.add_argument("--min-tier", choices=("landlock", "namespaces"), help="refuse to serve with less isolation")
    serve.add_argument("--allow-process", action="store_true", help="accept plain processes: no security boundary")
    serve.add_argument("--sessions", type=int, default=32, help="most sessions at once (default 32)")
    serve.add_argument("--warm", type=int, default=2, help="workers that wait, started and locked (default 2)")
    serve.set_defaults(run=_serve)
    status = commands.add_parser("status", help="what an executor is and can do")
    status.add_argument("url", nargs="?", default="grpc://127.0.0.1:7411")
    status.set_defaults(run=_status)


def _serve(options: argparse.Namespace) -> int:
    from avlab_executor.server import Server, ServerConfig  # loads grpc

    config = ServerConfig(
        host=options.host,
        port=options.port,
        token=_text(options.token_file) or os.environ.get("AVLAB_TOKEN", ""),
        certificate=_text(options.tls_cert).encode(),
        key=_text(options.tls_key).encode(),
        minimum=options.min_tier,
        allow_process=options.allow_process,
        sessions=options.sessions,
        warm=options.warm,
    )
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Server(config) as server:
        scheme = "grpcs" if config.certificate else "grpc"
        print(f"serving {scheme}://{config.host}:{server.port}, isolation tier {server.tier}", flush=True)
        done.wait()
        print("ending", file=sys.stderr, flush=True)
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
