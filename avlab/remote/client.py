"""Executor: sessions on objects and registered nodes, wherever the executor is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from avlab.core.errors import ConfigError, ConnectError, LinkClosed, SessionClosed
from avlab.core.message import Failure, ItemMessage, Log, Mode, Open, Opened
from avlab.core.scrub import cut, harmless
from avlab.core.status import Status
from avlab.core.tree import Values, class_name
from avlab.core.twin import Closing, in_thread
from avlab.remote import bundle
from avlab.remote.arguments import dataclasses_of
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.failure import restore
from avlab.remote.interrupts import NOTICE, shielded
from avlab.remote.limits import Limits
from avlab.remote.link import Connection, Description, Link
from avlab.remote.restart import RestartingLink
from avlab.remote.session import WINDOW, OnLog, Session, close_soon, new_session_id

MAX_PRINTED = 256 << 10
"""Characters of one piece of a worker's output that are printed."""


class Executor(Closing):
    """An executor, connected. A context manager (also async); closing it ends its sessions. One that nobody holds any more, not even
    by a session, is closed too."""

    def __init__(self, connection: Connection, config: RemoteExecutorConfig) -> None:
        self._connection, self.config = connection, config
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._closed = False
        self._forgotten = weakref.finalize(self, close_soon, connection)
        self._forgotten.atexit = False

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._closed

    @property
    def url(self) -> str:
        """Where it is."""
        return self.config.url

    def describe(self) -> Description:
        """Tiers, versions, registered nodes, capacity. Raises ConnectError."""
        return self._connection.describe()

    def status(self) -> Status:
        """The sessions that are open there and what is used of each quota: of this caller's tenant, for an operator of all.

        Raises ConnectError.
        """
        return self._connection.status()

    def open(
        self,
        target: Any,
        config: Mapping[str, Any] | None = None,
        *,
        types: Iterable[type] = (),
        on_log: OnLog | None = None,
        **limits: Any,
    ) -> Session:
        """Open a session on an object, a function, a class instance, a `Packed` bundle, or a registered node's name.

        ``config``: parameters of a registered node. ``types``: dataclasses that results may be of, besides those that the
        object's own methods mention. ``on_log`` gets the worker's output as it comes; without it the
        output is printed. ``limits``: see `Limits`, and ``tier=``, ``pip=`` and ``python=`` (see RemoteExecutorConfig; while the executor
        installs, ``on_log`` gets its progress). Raises BundleError, TierUnavailable, LimitUnsupported, EnvironmentFailed, Denied,
        ConnectError, and what the object's own loading raises, as RemoteError.
        """
        request, blobs, name, classes = self._request(target, config, limits)
        classes = {**classes, **{class_name(cls): cls for cls in types}}
        log = on_log or print_log
        self._prepare(request, log)
        session: Session | None = None
        try:
            with shielded:  # until the worker has an owner who closes it
                link, opened = self._begin(request, blobs, log)
                if opened.stateless or opened.restores:

                    def reopen(use: Callable[[Link], None]) -> tuple[Link, Opened]:
                        return self._begin(replace(request, session=new_session_id()), blobs, log, use)

                    link = RestartingLink(link, opened, reopen, window=WINDOW, patience=self.config.grace)
                session = Session(
                    link,
                    Values(classes=classes, pickle=self._connection.argument),
                    opened,
                    name=name,
                    on_log=log,
                    kill=getattr(link, "kill", None),
                    live=self.config.delivery == "live",
                    executor=self,
                )
                self._sessions.add(session)
            return session
        except BaseException:
            if session is not None:
                session.close()
            raise

    def _begin(
        self, request: Open, blobs: Mapping[str, bytes], log: OnLog, use: Callable[[Link], None] = lambda link: None
    ) -> tuple[Link, Opened]:
        """A link with an open session; ``use`` gets it before that stands."""
        link = self._connection.open(request, blobs)
        use(link)
        try:
            return link, _opened(link, log)
        except BaseException:
            link.close()
            raise

    def execute(self, target: Any, method: str, *args: Any, on_log: OnLog | None = None, **limits: Any) -> Any:
        """Open a session, make one call in it and close it: one round trip where the executor can do it in one.

        Raises what `open` and `Session.call` raise.
        """
        request, blobs, _, classes = self._request(target, None, limits)
        values = Values(classes=classes, pickle=self._connection.argument)
        codec, meta, buffers = values.encode((args, {}))
        item = ItemMessage(input=1, mode=Mode.CALL, method=method, codec=codec, meta=meta, buffers=buffers, packed=True)
        log = on_log or print_log
        self._prepare(request, log)
        for message in self._connection.execute(request, blobs, item):
            if isinstance(message, Log):
                log(message)
            elif isinstance(message, Failure):
                raise restore(message)
            elif isinstance(message, ItemMessage):
                if message.failure is not None:
                    raise restore(message.failure)
                return values.decode(message.codec, message.meta, message.buffers)
        raise ConnectError(f"the executor {self.url} gave no result")

    def _request(
        self, target: Any, config: Mapping[str, Any] | None, limits: Mapping[str, Any]
    ) -> tuple[Open, Mapping[str, bytes], str, Mapping[str, type]]:
        """The Open for a target, the blobs it names, the target's name, and the dataclasses that may come back."""
        if self._closed:
            raise SessionClosed(f"the executor {self.url} is closed: connect again")
        if config and not isinstance(target, str):
            raise ConfigError("config= is for registered nodes: give an object its parameters when you make it")
        settings = self.config.with_limits(limits)
        assert isinstance(settings.limits, Limits)
        blobs: Mapping[str, bytes] = {}
        classes = {} if isinstance(target, str | bundle.Packed) else dataclasses_of(target)
        manifest = None if isinstance(target, str | bundle.Packed) else self._connection.lend(target)
        if manifest is None:
            if isinstance(target, bundle.Packed):
                packed = target
            elif isinstance(target, str):
                packed = bundle.pack_node(target, config or {})
            else:
                packed = bundle.pack(target, missing_ok=bool(settings.pip))
            manifest, blobs = packed.manifest, packed.blobs
        manifest = bundle.needing(manifest, settings.pip, settings.python)
        name = target if isinstance(target, str) else getattr(target, "__name__", "") or type(target).__name__
        request = Open(
            manifest, settings.limits.given(), settings.tier or "", WINDOW, new_session_id(), self.config.grace
        )
        return request, blobs, manifest.name if isinstance(target, bundle.Packed) else name, classes

    def _prepare(self, request: Open, log: OnLog) -> None:
        for line in self._connection.prepare(request):
            if line.data:
                log(line)

    async def aopen(self, target: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Session:
        """`open` for async code."""
        return await in_thread(lambda: self.open(target, config, **options), discard=Session.close)

    def close(self) -> None:
        """End all sessions and free the executor (an embedded one goes). Idempotent."""
        with shielded:
            if not self._closed:
                self._closed = True
                self._forgotten.detach()
                for session in list(self._sessions):
                    session.close()
                self._connection.close()

    def __repr__(self) -> str:
        return f"<Executor {self.url} {'closed' if self._closed else 'connected'}>"


def print_log(log: Log) -> None:
    """Where a worker's output goes when nobody else takes it: this process's own output."""
    import sys

    if log.mime == "text/plain":
        stream = sys.stderr if log.stream == "stderr" else sys.stdout
        if log.dropped:
            stream.write(f"[{log.dropped} bytes of output left out]\n")
        stream.write(harmless(cut(log.data.decode("utf-8", "replace"), MAX_PRINTED)))
        stream.flush()


def _opened(link: Link, log: OnLog) -> Opened:
    while True:
        try:
            message = link.recv(NOTICE)
        except TimeoutError:
            continue
        except LinkClosed as error:
            raise ConnectError(f"the executor ended the session while it was opened: {error}") from None
        if isinstance(message, Opened):
            return message
        if isinstance(message, Failure):
            raise restore(message)
        if isinstance(message, Log) and (message.data or message.dropped):  # an empty one says that it goes on
            log(message)
