"""``avlab executor serve | health | status``, and those of the container."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab_executor import serve, status
from avlab_executor.container import commands as container

_HEALTH_SOCKET = "AVLAB_HEALTH_SOCKET"  # environment variable


def add_commands(subparsers: Any) -> None:
    """Entry point of the group ``avlab.commands``."""
    executor = subparsers.add_parser("executor", help="serve sandboxed sessions to other processes")
    commands = executor.add_subparsers(dest="action", required=True)
    health_socket: dict[str, Any] = {"type": Path, "metavar": "PATH", "default": os.environ.get(_HEALTH_SOCKET)}
    serve.add_parser(commands)
    health = commands.add_parser("health", help="whether the server behind a Unix socket serves: exit code 0")
    health.add_argument("socket", nargs="?", **health_socket, help=f"its --health-socket ({_HEALTH_SOCKET})")
    health.set_defaults(run=_health)
    container.add_commands(commands)
    status.add_parser(commands)


def _health(options: argparse.Namespace) -> int:
    from avlab_executor.health import check  # loads grpc

    if options.socket is None:
        raise ConfigError(
            f"health: which socket? Give the path of the server's --health-socket, or set {_HEALTH_SOCKET}"
        )
    check(options.socket)
    print("serving")
    return 0
