"""``avlab executor up | down | logs``: the executor in a container."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from avlab.core.errors import ConnectError
from avlab_executor.container.options import Options, container_name

_UP = ["avlab", "executor", "up"]


def add_commands(commands: Any) -> None:
    """To the subparsers of ``avlab executor``."""
    default = Options()
    up = commands.add_parser("up", help="start an executor in a container (docker:)")
    _add_name(up)
    up.add_argument("--image", default=default.image, help=f"default: {default.image}, which `make image` builds")
    up.add_argument("--port", type=int, default=0, help="of 127.0.0.1; default: a free one, which clients find")
    up.add_argument("--memory", default=default.memory, help=f"of all its sessions together (default {default.memory})")
    up.add_argument("--cpus", type=float, default=default.cpus, help=f"processors (default {default.cpus:g})")
    up.add_argument("--pids", type=int, default=default.pids, help=f"processes and threads (default {default.pids})")
    up.add_argument("--sessions", type=int, default=default.sessions, help=f"most at once (default {default.sessions})")
    up.add_argument(
        "--min-tier", dest="tier", choices=("landlock", "namespaces", "gvisor"), help="refuse to serve with less"
    )
    up.add_argument(
        "--idle-exit", dest="idle", type=float, metavar="SECONDS", help="end after that long without a session"
    )
    up.add_argument(
        "--engine-seccomp", dest="seccomp", action="store_false",
        help="keep the engine's own seccomp profile: the tier is then landlock",
    )  # fmt: skip
    up.add_argument(
        "--pip-index", default=default.pip_index, metavar="URL", help="where sessions' packages come from (default: the ordinary registry)"
    )
    up.add_argument(
        "--pip-ca", default=default.pip_ca, metavar="FILE", type=lambda file: file and os.path.abspath(file),
        help="PEM authorities that vouch for it, on the engine's machine",
    )  # fmt: skip
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="stop and remove the executor's container")
    _add_name(down)
    down.set_defaults(run=_down)
    logs = commands.add_parser("logs", help="what the executor in the container has written")
    _add_name(logs)
    logs.add_argument("--lines", type=int, default=100, help="how many (default 100)")
    logs.add_argument("--follow", action="store_true", help="go on until interrupted")
    logs.set_defaults(run=_logs)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", help="of one of several; its address is docker:NAME")


def _up(options: argparse.Namespace) -> int:
    from avlab.remote.connect import connect
    from avlab_executor.container.engine import engine  # loads docker

    wanted = Options(**{name: getattr(options, name) for name in Options.__dataclass_fields__})
    with engine() as docker:
        already = docker.running(options.name) is not None
        docker.start(options.name, wanted)
    with connect(f"docker:{options.name}") as executor:
        about = executor.describe()
    print(f"{'already ' if already else ''}serving {executor.url}, isolation tier {about.tier}")
    print(f"use it: avlab.connect({executor.url!r}) or %avlab connect {executor.url}")
    return 0


def _down(options: argparse.Namespace) -> int:
    from avlab_executor.container.engine import engine  # loads docker

    with engine() as docker:
        there = docker.down(options.name)
    print(f"{'removed' if there else 'there is no'} container {container_name(options.name)}")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from avlab_executor.container.engine import engine  # loads docker

    with engine() as docker:
        for piece in docker.logs(options.name, options.lines, options.follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    return 0


def require(url: str) -> None:
    """Raises ConnectError unless a container runs for this ``docker:`` address: asking for its status must not start it."""
    from avlab_executor.container.engine import engine  # loads docker

    name = url.removeprefix("docker:")
    with engine() as docker:
        if docker.running(name) is None:
            raise ConnectError(f"no container {container_name(name)} runs: `{' '.join(_UP + name.split())}` starts it")
