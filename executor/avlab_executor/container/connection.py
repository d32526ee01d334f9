"""``docker:``: a Connection to the executor in a container, which is started when it is needed and ends by itself when it is not."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from avlab.core.errors import ConfigError, ConnectError
from avlab.core.message import Buffer, Bundle, ItemMessage, Log, Message, Open
from avlab.core.status import Status
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.link import Connection, Description, Link
from avlab.remote.links import grpc
from avlab_executor.container.engine import Door, engine
from avlab_executor.container.options import Options


class Contained:
    """Over gRPC to the container; when that has ended idle, the next use starts it again."""

    def __init__(self, config: RemoteExecutorConfig) -> None:
        self._config, self._name = config, config.host or ""
        self._lock = threading.Lock()
        self._connection = self._connect()

    def _connect(self) -> Connection:
        with engine() as docker:
            options = Options(tier=self._config.tier) if docker.find(self._name) is None else None
            door = docker.door(docker.start(self._name, options))
        return through(door, self._config)

    def describe(self) -> Description:
        with self._lock:
            try:
                about = self._connection.describe()
            except ConnectError:
                with engine() as docker:
                    if docker.running(self._name) is not None:
                        raise
                self._connection.close()
                self._connection = self._connect()
                about = self._connection.describe()
        return replace(about, url=self._config.url)

    def status(self) -> Status:
        self.describe()
        return self._connection.status()

    def prepare(self, request: Open) -> Iterator[Log]:
        return self._connection.prepare(request)

    def open(self, request: Open, blobs: Mapping[str, bytes]) -> Link:
        self.describe()  # before, not on failure: nothing is done twice
        return self._connection.open(request, blobs)

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        self.describe()
        return self._connection.execute(request, blobs, item)

    def lend(self, obj: object) -> Bundle | None:
        return self._connection.lend(obj)

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        return self._connection.argument(value)

    def close(self) -> None:
        self._connection.close()


def through(door: Door, config: RemoteExecutorConfig) -> Connection:
    """A connection through a container's door. Raises ConnectError, Denied."""
    descriptor, path = tempfile.mkstemp(prefix="avlab-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(door.certificate)
        inside = replace(config, protocol="grpc", host="127.0.0.1", port=door.port, auth=door.token, tls=path)
        return grpc.connect(inside)
    finally:
        os.unlink(path)


def connect(config: RemoteExecutorConfig) -> Connection:
    """Entry point ``docker`` of the group ``avlab.executors``."""
    if config.auth or config.tls:
        raise ConfigError("docker: takes no auth= and tls=: the container makes its own")
    return Contained(config)
