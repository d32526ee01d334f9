"""Bare gRPC: bytes over one bidirectional stream to a server process on loopback. No messages, no objects, no sandbox."""

import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from echo import Echo, window_for, windowed

SIZES = [("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20)]


def serve() -> None:
    """The server process; ends with its standard input."""
    echo = Echo()
    handler = grpc.stream_stream_rpc_method_handler(lambda requests, context: map(echo.process, requests))
    server = grpc.server(ThreadPoolExecutor(2), options=SIZES)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bench", {"Echo": handler}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


class Contender:
    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "peers.grpc_bytes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=sys.path[0],
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{int(self.server.stdout.readline())}", SIZES)
        self.outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.replies = self.channel.stream_stream("/Bench/Echo")(iter(self.outbox.get, None))
        self.about = f"grpcio {grpc.__version__}"

    def prepare(self, payload: np.ndarray) -> bytes:
        return payload.tobytes()

    def call(self, value: bytes) -> bytes:
        self.outbox.put(value)
        return next(self.replies)

    def stream(self, values: Iterable[bytes]) -> Iterator[bytes]:
        window, values = window_for(values, few=4, many=128)
        return windowed(values, self.outbox.put, self._receive, window)

    def _receive(self, _: Any) -> bytes:
        return next(self.replies)

    def close(self) -> None:
        self.outbox.put(None)
        self.channel.close()
        self.server.communicate(timeout=10)


if __name__ == "__main__":
    serve()
