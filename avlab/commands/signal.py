"""``avlab signal``: a meeting place for peers, with a page for phones and other computers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab.remote.interrupts import NOTICE


def add_commands(commands: Any) -> None:
    """Entry point of the group ``avlab.commands``."""
    parser = commands.add_parser("signal", help="serve rooms in which WebRTC peers meet, and a page to join them")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind; others than loopback need TLS and a secret"
    )
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default 8765)")
    parser.add_argument(
        "--secret-file", type=Path, help="file with the secret of those who may invite (or AVLAB_SIGNAL_SECRET)"
    )
    parser.add_argument("--cert", type=Path, help="PEM certificate chain")
    parser.add_argument("--key", type=Path, help="PEM private key")
    parser.add_argument("--public", default="", metavar="NAME", help="host name that the invitations carry")
    parser.add_argument(
        "--origin", action="append", default=[], help="page of another server that may connect; may be repeated"
    )
    parser.add_argument("--room", default="studio", help="room of the invitations that are printed (default studio)")
    parser.add_argument("--invite", type=int, default=1, metavar="N", help="print so many invitations (default 1)")
    parser.set_defaults(run=serve)


def serve(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from avlab.media.signaling.server import SignalConfig, SignalServer  # loads aiohttp

    config = SignalConfig(
        host=options.host,
        port=options.port,
        secret=_text(options.secret_file) or os.environ.get("AVLAB_SIGNAL_SECRET", ""),
        cert=options.cert,
        key=options.key,
        public=options.public,
        origins=tuple(options.origin),
    )
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with SignalServer(config) as server:
        print(f"serving {server.url}, room {options.room}", flush=True)
        if not config.secret:
            print(f"the secret of this run, for those who may invite: {server.secret}", flush=True)
        for _ in range(options.invite):
            invitation = server.invite(options.room)
            print(f"{invitation.text() if sys.stdout.isatty() else ''}join once: {invitation.url}", flush=True)
        while not done.wait(NOTICE):
            pass
        print("ending", file=sys.stderr, flush=True)
    return 0


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
