"""Remote nodes: what stands in a pipeline for a node whose far bank lies in a sandbox."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from avlab.core.errors import SessionClosed
from avlab.core.item import Item
from avlab.core.node import Node, consumes
from avlab.core.registry import registered
from avlab.remote.config import RemoteExecutorConfig, check_delivery
from avlab.remote.connect import shared
from avlab.remote.session import Session
from avlab.remote.statistics import SessionStatistics

Opener = Callable[[], Session]


class RemoteNode(Node):
    """A node that sends what it consumes to a session and passes on what comes back.

    ``open_session`` gives the session when the pipeline starts. ``owned``: whether the node closes it at the end. delivery:
    "reliable", "live", or "": live behind a live source, else reliable. live: whether it is; None until a pipeline decides.
    Raises ConfigError.
    """

    def __init__(
        self,
        open_session: Opener,
        *,
        consumes: tuple[type, ...] | None = None,
        name: str = "",
        owned: bool = True,
        delivery: str = "",
    ) -> None:
        check_delivery(delivery)
        self.live: bool | Mapping[str, int] | None = delivery == "live" if delivery else None
        self._open_session, self._owned = open_session, owned
        self.consumes, self.__name__ = consumes, name or type(self).__name__
        self._session: Session | None = None
        self._statistics = SessionStatistics()

    def open(self) -> None:
        """Open the session."""
        self._session = self._open_session()

    def stream(self, items: Iterable[Item]) -> Iterator[Item]:
        """Results of the items, in order, as they come. Raises RemoteError, WorkerDied, SessionError."""
        return self._opened().stream(items, live=self.live)

    def set(self, **parameters: Any) -> None:
        """Change parameters between two items."""
        self._opened().set(**parameters)

    @property
    def tier(self) -> str:
        """The isolation tier of the open session, or of the last one; empty before the first."""
        session = self._session  # which another thread may close meanwhile
        return session.tier if session is not None else self._statistics.tier

    def statistics(self) -> SessionStatistics:
        """Figures of the open session, or of the last one."""
        session = self._session
        return session.statistics() if session is not None else self._statistics

    def close(self) -> None:
        """End the session if it is this node's own."""
        session = self._session
        if session is not None:
            self._statistics, self._session = session.statistics(), None
            if self._owned:
                session.close()

    def _opened(self) -> Session:
        session = self._session
        if session is None:
            raise SessionClosed(f"{self!r} is not open: run it in a pipeline, or call open() first")
        return session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__}>"


class RemoteObjectExecutionNode(RemoteNode):
    """Any picklable object with a ``process``, run by an executor through the RPC StreamObject."""

    def __init__(
        self, target: object, config: RemoteExecutorConfig | str | None = None, *, delivery: str = "", **limits: Any
    ) -> None:
        where = _config(config)
        packed: Any = target
        super().__init__(
            lambda: shared(where).open(packed, **limits),
            delivery=delivery or where.delivery,
            consumes=consumes(target) if hasattr(target, "process") else (),
            name=getattr(target, "__name__", type(target).__name__),
        )


class RemoteExecutionNode(RemoteNode):
    """A node that is registered at the executor, by name and JSON parameters, run through the RPC StreamNode."""

    def __init__(
        self,
        node: str,
        parameters: Mapping[str, Any] | None = None,
        config: RemoteExecutorConfig | str | None = None,
        *,
        delivery: str = "",
        **limits: Any,
    ) -> None:
        where = _config(config)
        super().__init__(
            lambda: shared(where).open(node, dict(parameters or {}), **limits),
            delivery=delivery or where.delivery,
            consumes=consumes(registered(node)),
            name=node,
        )


class SerializedClassExecutorNode(Node):
    """One method of a picklable object, called once for each item through the unary RPC ExecuteObject.

    Each call has a fresh worker: the method sees the object as it was packed, and nothing is kept between items.
    """

    stateless = True
    own_thread = True  # waits for a worker each time

    def __init__(
        self, target: object, method: str = "process", config: RemoteExecutorConfig | str | None = None, **limits: Any
    ) -> None:
        self._target, self._method, self._limits = target, method, limits
        self._config = _config(config)
        self.consumes = consumes(target) if hasattr(target, "process") else ()

    def process(self, value: Any) -> Any:
        """The method's result for this value. Raises RemoteError, WorkerDied."""
        return shared(self._config).execute(self._target, self._method, value, **self._limits)


def place(node: object, config: RemoteExecutorConfig | str) -> RemoteObjectExecutionNode:
    """The node as one that runs where ``config`` says; where it runs does not travel with it."""
    plain = copy.copy(node)
    vars(plain).pop("remote", None)
    return RemoteObjectExecutionNode(plain, config)


def _config(config: RemoteExecutorConfig | str | None) -> RemoteExecutorConfig:
    if isinstance(config, RemoteExecutorConfig):
        return config
    return RemoteExecutorConfig.from_url(config or "local:")
