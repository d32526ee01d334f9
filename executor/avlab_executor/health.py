"""Whether a server is healthy, asked on its own machine: gRPC's health check on a Unix socket.

The socket needs no certificate and no token, so an orchestrator's probe needs neither; it answers nothing but health.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from avlab.core.errors import ConfigError, ConnectError

_METHOD = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # grpc.health.v1.HealthCheckResponse


def handlers(serves: Callable[[], bool]) -> grpc.GenericRpcHandler:
    """The health service. ``serves``: whether new sessions are taken."""
    check = grpc.unary_unary_rpc_method_handler(lambda request, context: _SERVING if serves() else _NOT_SERVING)
    return grpc.method_handlers_generic_handler(_METHOD, {"Check": check})


class HealthSocket:
    """Health answers at ``path`` until closed. A context manager; raises ConfigError if the socket cannot be made."""

    def __init__(self, path: Path, serves: Callable[[], bool]) -> None:
        self._path = path
        path.unlink(missing_ok=True)  # of a server that was killed
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="avlab-health")
        self._grpc = grpc.server(self._threads)
        self._grpc.add_generic_rpc_handlers((handlers(serves),))
        try:
            self._grpc.add_insecure_port(f"unix:{path}")
            os.chmod(path, 0o600)
        except (RuntimeError, OSError):
            self.close()
            raise ConfigError(f"--health-socket {path}: no socket can be made there: is its folder writable?") from None
        self._grpc.start()

    def close(self) -> None:
        """Answer no more. Idempotent."""
        self._grpc.stop(None).wait()
        self._threads.shutdown()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> HealthSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check(path: Path, timeout: float = 3.0) -> None:
    """Raises ConnectError unless the server behind the socket says, within ``timeout`` seconds, that it serves."""
    with grpc.insecure_channel(f"unix:{path}") as channel:
        try:
            answer = channel.unary_unary(f"/{_METHOD}/Check")(b"", timeout=timeout)
        except grpc.RpcError as error:
            raise ConnectError(f"no executor answers at {path} ({error.details()})") from None
    if answer != _SERVING:
        raise ConnectError(f"the executor at {path} does not serve now")
