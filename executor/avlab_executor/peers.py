"""Serving sessions to peers: each channel that a peer opens is one call, as on the gRPC server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Self

from avlab.core.errors import AvlabError, CodecError, ConfigError, Denied, LinkClosed
from avlab.core.message import Open, Resume
from avlab.remote.links.datachannel import DONE, FAILED, SERVICE, MessageChannel
from avlab_executor.accounts import Caller
from avlab_executor.audit import Strangers
from avlab_executor.auth import Auth
from avlab_executor.relay import relay
from avlab_executor.service import STREAMS, Service
from avlab_executor.session import Session, encoded, refusal
from avlab_executor.tenants import Tenant

OPEN_SECONDS = 10.0
"""How long a channel may say nothing before its first message: each holds one thread."""
MAX_SHOWN = 8 << 10
"""Bytes of a channel's first message, which holds a token: more are not taken from strangers."""
_log = logging.getLogger("avlab.executor")


class PeerExecutor:
    """Serves sandboxed sessions on channels of other peers: give it to ``manager.serve(…)``. A context manager.

    Being in the room does not suffice: callers show a token, ``avlab.connect(partner, auth=token)``. token: the one to show;
    ``tenants`` instead tells several callers apart by theirs. anybody: whoever is connected may run code in a sandbox here, without
    a token. ``options`` are those of `Service`: minimum, sessions, warm. Raises TierUnavailable, and ConfigError, also when nothing
    says who may call.
    """

    def __init__(
        self,
        *,
        token: str = "",
        tenants: Sequence[Tenant] = (),
        anybody: bool = False,
        sessions: int = 8,
        **options: object,
    ) -> None:
        known = tenants or ([Tenant(tokens=(token,), operator=True)] if token else [])
        if bool(known) == anybody or (token and tenants):
            raise ConfigError(
                "say who may run code here: PeerExecutor(token=…) or tenants=… for callers that show a token, or anybody=True "
                "for whoever is connected"
            )
        if not anybody and not all(tenant.tokens for tenant in known):
            raise ConfigError("a tenant without a token could not call: give each of tenants= its tokens")
        self._service = Service(sessions=sessions, tenants=known, **options)  # type: ignore[arg-type]
        self._auth, self._strangers = Auth(self._service.accounts), Strangers()
        self._room = threading.Semaphore(sessions + 8)
        self._threads: dict[threading.Thread, MessageChannel] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def tier(self) -> str:
        """The isolation tier of its sessions."""
        return self._service.tier

    def __call__(self, channel: MessageChannel) -> None:
        """Serve a channel in a thread of its own; returns at once. Channels beyond the capacity are closed."""
        with self._lock:
            if self._closed or not channel.label.startswith(SERVICE) or not self._room.acquire(blocking=False):
                channel.close()
                return
            channel.first = MAX_SHOWN
            thread = threading.Thread(target=self._serve, args=(channel,), name="avlab-peer", daemon=True)
            self._threads[thread] = channel
            thread.start()  # before `close` can wait for it

    def _serve(self, channel: MessageChannel) -> None:
        method = channel.label.removeprefix(SERVICE)
        try:
            caller = self._caller(channel.recv(OPEN_SECONDS))  # nothing else of a stranger is read
            if caller is None:
                refused = encoded(refusal(Denied("this peer's executor wants a valid token: connect with auth=…")))
                channel.send(refused if method in STREAMS else FAILED + refused)
            elif method in STREAMS:
                return self._stream(channel, method, caller)
            else:
                channel.send(self._reply(channel, method, caller))
            channel.wait(OPEN_SECONDS)  # the caller closes when it has the reply
        except (LinkClosed, TimeoutError):
            return  # the caller is gone, or never began: nobody reads an answer
        except Exception:  # noqa: BLE001  it costs this channel and no other
            _log.exception("an internal error")
        finally:
            channel.close()
            self._room.release()
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _caller(self, shown: bytes) -> Caller | None:
        account = self._auth.account(shown.decode(errors="replace"))
        if account is None:
            self._strangers.denied("a peer", "call")
            return None
        return Caller(account, "a peer")

    def _stream(self, channel: MessageChannel, method: str, caller: Caller) -> None:
        def start(request: Open) -> Session:
            return self._service.session(request, STREAMS[method], caller)

        def find(request: Resume) -> Session:
            return self._service.find(request, caller)

        for data in relay(_requests(channel), start, find, channel.close):
            channel.send(data)

    def _reply(self, channel: MessageChannel, method: str, caller: Caller) -> bytes:
        try:
            if method == "Describe":
                channel.recv(OPEN_SECONDS)
                return DONE + self._service.describe(caller)
            if method == "Status":
                channel.recv(OPEN_SECONDS)
                return DONE + self._service.status(caller)
            if method == "HasBlobs":
                return DONE + self._service.has(channel.recv(OPEN_SECONDS), caller)
            if method == "PutBlobs":
                return DONE + self._service.put(_parts(channel), caller)
            raise CodecError(f"there is no method {method[:40]!r}")
        except LinkClosed:
            raise
        except AvlabError as error:
            return FAILED + encoded(refusal(error))

    def close(self) -> None:
        """End all sessions and their workers. Idempotent."""
        with self._lock:
            self._closed = True
            serving = dict(self._threads)
        for channel in serving.values():
            channel.close()
        for thread in serving:
            thread.join()
        self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _requests(channel: MessageChannel) -> Iterator[bytes]:
    """The caller's messages. Raises LinkClosed at the end of the channel, which is the end of the caller."""
    yield channel.recv(OPEN_SECONDS)
    while True:
        yield channel.recv()


def _parts(channel: MessageChannel) -> Iterator[bytes]:
    while part := channel.recv(OPEN_SECONDS):
        yield part


__all__ = ["PeerExecutor"]
