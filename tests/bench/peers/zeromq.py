"""ZeroMQ between two processes over a Unix socket; pickle 5 with the array's memory as a frame of its own."""

import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import zmq
from echo import Basic, Echo, window_for, windowed


def send(socket: zmq.Socket, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    socket.send_multipart([head, *(buffer.raw() for buffer in buffers)], copy=False)


def receive(socket: zmq.Socket) -> Any:
    head, *frames = socket.recv_multipart(copy=False)
    return pickle.loads(head.buffer, buffers=[frame.buffer for frame in frames])


def serve(address: str) -> None:
    echo = Echo()
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.linger = 0
        socket.connect(address)
        while (value := receive(socket)) is not None:
            send(socket, echo.process(value))


class Contender(Basic):
    def __init__(self) -> None:
        address = f"ipc://{os.path.join(tempfile.gettempdir(), 'echo')}"
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.linger = 0
        self.socket.bind(address)
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(address,), daemon=True)
        self.process.start()
        self.about = f"ZeroMQ {zmq.zmq_version()}"

    def call(self, value: Any) -> Any:
        send(self.socket, value)
        return receive(self.socket)

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        window, values = window_for(values, few=4, many=256)
        return windowed(values, lambda value: send(self.socket, value), lambda _: receive(self.socket), window)

    def close(self) -> None:
        send(self.socket, None)
        self.process.join(5)
        self.socket.close()
        self.context.term()
