"""connect: an executor by its address; and the executors that the nodes of this process share.

The connection is made before the rest of the client is imported: embedded workers start meanwhile.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from avlab.core.errors import ConfigError, ConnectError
from avlab.core.points import points
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.interrupts import shielded

if TYPE_CHECKING:
    from avlab.remote.client import Executor
    from avlab.remote.link import Connection
    from avlab.remote.links.datachannel import Carrier


def connect(url: str | RemoteExecutorConfig | Carrier = "local:", **config: Any) -> Executor:
    """Connect to an executor: "local:" (the embedded one, which starts by itself), "docker:" (in a container,
    which is started if none runs, and ends when it is idle), "grpc://host:port", "grpcs://…", or the one that a partner of a
    WebRTCManager serves: give the partner.

    ``config``: fields of RemoteExecutorConfig, and limits as defaults for all sessions. Raises ConfigError, ConnectError,
    TierUnavailable.
    """
    if isinstance(url, RemoteExecutorConfig):
        settings = url
    elif not isinstance(url, str) and not hasattr(url, "open_channel"):
        raise ConfigError(
            f"{url!r} is no address of an executor: use 'local:', 'docker:', 'grpc://host:port' or 'grpcs://host:port'"
        )
    else:
        own = {k: config.pop(k) for k in list(config) if k in RemoteExecutorConfig.__dataclass_fields__}
        if not isinstance(url, str):
            from avlab.remote.links.datachannel import name_of

            url = f"datachannel:{name_of(url)}"
        settings = RemoteExecutorConfig.from_url(url, **own)
    if config:
        settings = settings.with_limits(config)
    # A container may take minutes to start, which can be interrupted; elsewhere an interrupt waits until somebody owns what was started.
    with nullcontext() if settings.protocol == "docker" else shielded:
        connection = _connection(settings)
        try:
            from avlab.remote.client import Executor

            return Executor(connection, settings)
        except BaseException:
            connection.close()
            raise


def _connection(settings: RemoteExecutorConfig) -> Connection:
    if settings.protocol == "grpc":
        from avlab.remote.links.grpc import connect as connect_grpc  # loads grpc

        return connect_grpc(settings)
    if settings.protocol == "inproc":
        from avlab.remote.links.inproc import connect as connect_inproc

        return connect_inproc()
    if settings.protocol == "datachannel":
        from avlab.remote.links.datachannel import connect as connect_peer

        return connect_peer(settings)
    found = points("avlab.executors").select(name=settings.protocol)
    if not found:
        raise ConnectError(f"no executor for {settings.url!r} is installed here: install avlab with its executor")
    connection: Connection = next(iter(found)).load()(settings)
    return connection


async def aconnect(url: str | RemoteExecutorConfig | Carrier = "local:", **config: Any) -> Executor:
    """`connect` for async code."""
    from avlab.core.twin import in_thread

    return await in_thread(lambda: connect(url, **config), discard=lambda executor: executor.close())


_shared: dict[RemoteExecutorConfig, Executor] = {}
_sharing = threading.Lock()


def shared(config: RemoteExecutorConfig) -> Executor:
    """The process's one executor for a config: nodes that run at the same place share it."""
    with _sharing:
        executor = _shared.get(config)
        if executor is None or executor.closed:
            executor = _shared[config] = connect(config)
        return executor


def close_shared() -> None:
    """End the executors that nodes of this process share; the next use connects again."""
    with _sharing:
        executors = list(_shared.values())
        _shared.clear()
    for executor in executors:
        executor.close()
