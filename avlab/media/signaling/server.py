"""The signalling server: rooms over WebSocket, a page to join them, invitations, health."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import ssl
from collections import deque
from dataclasses import dataclass, field
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from avlab.core.errors import AvlabError, ConfigError, Denied
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.address import Address, Invitation
from avlab.media.signaling.rooms import Bounds, Member, Rooms

MIN_SECRET = 16
REFUSED = 4001  # close code: what was sent is not accepted; the reason says why
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_PAGE = {"": "index.html"} | {name: name for name in ("join.js", "room.js", "line.js", "repair.js", "style.css")}
_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class SignalConfig:
    """How signalling is served. ``port`` 0 takes a free one.

    ``secret``: who has it may invite; made by itself when empty (loopback only). ``cert``, ``key``: PEM files. ``origins``:
    pages of other servers that may connect, like ``https://lab.example.org``. ``public``: the host name that invitations
    carry. Raises ConfigError for an address that is not loopback without TLS and a secret of its own.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    secret: str = field(default="", repr=False)
    cert: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ()
    public: str = ""
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if bool(self.cert) != bool(self.key):
            raise ConfigError("TLS needs both a certificate and its key: give --cert and --key")
        if self.secret and (
            len(self.secret) < MIN_SECRET or not self.secret.isascii() or not self.secret.isprintable()
        ):
            raise ConfigError(f"the secret needs at least {MIN_SECRET} printable ASCII characters")
        if not is_loopback(self.host) and not (self.cert and self.secret):
            raise ConfigError(
                f"{self.host} can be reached by others: serving there needs TLS (--cert, --key) and a secret "
                "(--secret-file), or serve on 127.0.0.1"
            )
        for origin in self.origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or f"{parts.scheme}://{parts.netloc}" != origin
            ):
                raise ConfigError(f"{origin!r} is no origin: write https://host or https://host:port")


class SignalServer:
    """A running signalling server, on the media runtime's loop. A context manager; `close` ends it."""

    def __init__(self, config: SignalConfig | None = None, *, runtime: MediaRuntime | None = None) -> None:
        self._config = config or SignalConfig()
        self.secret = self._config.secret or secrets.token_urlsafe(24)
        self._rooms = Rooms(self._config.bounds)
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._present: dict[Member, web.WebSocketResponse] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._runtime = runtime or MediaRuntime.default()
        self._runner: web.AppRunner | None = None
        self.port = 0
        self._runtime.run(self._start(_tls(self._config)), 10)

    @property
    def url(self) -> str:
        """Where browsers and scripts find it."""
        scheme = "https" if self._config.cert else "http"
        host = self._config.public or self._config.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def invite(self, room: str, role: str = "") -> Invitation:
        """An invitation for one use, good for ten minutes. Raises ConfigError, Denied."""

        async def make() -> str:  # rooms belong to the loop
            return self._rooms.invite(room)

        return Invitation(Address(self.url, room, self._runtime.run(make(), 10), role))

    def close(self) -> None:
        """End all connections and free the port. Idempotent."""
        self._runtime.run(self._stop(), 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _start(self, tls: ssl.SSLContext | None) -> None:
        app = web.Application(client_max_size=4096)
        app.router.add_get("/health", self._health)
        app.router.add_get("/socket", self._socket)
        app.router.add_post("/invitations", self._invite)
        for path, name in _PAGE.items():
            app.router.add_get(f"/{path}", _served(name))
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=15, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._config.host, self._config.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self._config.host}:{self._config.port} ({error.strerror}): take another --port"
            ) from None
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for timer in self._timers:
            timer.cancel()
        for site in list(runner.sites):
            await site.stop()  # first of all: members come back at once
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._sockets)))
        await runner.cleanup()
        for _ in range(3):  # closed connections end in the next rounds of the loop, which may be the last
            await asyncio.sleep(0)

    async def _health(self, _: web.Request) -> web.Response:
        rooms, members = self._rooms.count
        return web.json_response({"status": "ok", "rooms": rooms, "members": members}, headers=_HEADERS)

    async def _invite(self, request: web.Request) -> web.Response:
        """A token for who knows the secret. Browsers of other sites cannot send the header without asking first."""
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.secret}".encode()):
            return web.json_response({"error": "the secret is wrong"}, status=401, headers=_HEADERS)
        try:
            room = (await request.json())["room"]
            return web.json_response({"token": self._rooms.invite(room)}, headers=_HEADERS)
        except AvlabError as error:
            return web.json_response({"error": str(error)}, status=400, headers=_HEADERS)
        except (ValueError, KeyError, TypeError, RecursionError):
            return web.json_response({"error": 'send {"room": name}'}, status=400, headers=_HEADERS)

    def _known_origin(self, request: web.Request) -> bool:
        """A page may connect when it came from here, or from a listed origin. Scripts send none; they need a token too."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._config.origins:
            return True
        if origin != f"{'https' if self._config.cert else 'http'}://{request.host}":
            return False
        # Another site's name may have been pointed at this address: on loopback, and as itself, only its own names count.
        try:
            host = urlsplit(origin).hostname or ""
        except ValueError:
            return False
        return host in (self._config.public, self._config.host) or is_loopback(host)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if not self._known_origin(request):
            return web.Response(status=403, text="this page may not connect: allow its origin with --origin")
        if len(self._sockets) >= self._config.bounds.connections:
            return web.Response(status=503, text="too many connections: try again later")
        bounds = self._config.bounds
        socket = web.WebSocketResponse(max_msg_size=bounds.message, heartbeat=15.0, timeout=1.0, compress=False)
        self._sockets[socket] = request
        member: Member | None = None
        try:
            await socket.prepare(request)
            async with asyncio.timeout(bounds.join_seconds):
                member, welcome = self._admit(_read(await socket.receive()))
            await self._attend(socket, member, welcome)
        except Denied as error:
            await _refuse(socket, str(error))
        except TimeoutError:
            await _refuse(socket, "nobody joined in time")
        finally:
            if member is not None:
                self._part(socket, member)
            del self._sockets[socket]
        return socket

    def _admit(self, hello: Any) -> tuple[Member, dict[str, Any]]:
        if not isinstance(hello, dict):
            raise Denied('the first message is {"join": room, "token": …} or {"resume": key}')
        if "resume" in hello:
            member = self._rooms.resume(hello["resume"])
        else:
            member = self._rooms.admit(hello.get("join", ""), hello.get("token", ""), hello.get("role", "script"))
        present = [{"id": other.id, "role": other.role} for other in self._rooms.others(member)]
        return member, {"welcome": member.id, "members": present, "key": self._rooms.key(member)}

    async def _attend(self, socket: web.WebSocketResponse, member: Member, welcome: dict[str, Any]) -> None:
        if (old := self._sockets.get(self._present.get(member, socket))) is not None and old is not self._sockets[
            socket
        ]:
            _cut(old)
        self._present[member] = socket
        outbox: deque[str] = deque()
        filled = asyncio.Event()

        def deliver(text: str) -> bool:
            outbox.append(text)
            if self._rooms.full(len(outbox), sum(map(len, outbox))):  # who does not read is not waited for
                outbox.clear()
                _cut(self._sockets[socket])
                return False
            filled.set()
            return True

        self._rooms.enter(member, deliver)
        await socket.send_str(json.dumps(welcome))  # before anything that has come for it meanwhile
        sending = asyncio.create_task(_send(socket, outbox, filled))
        try:
            while (message := await socket.receive()).type not in _ENDS:
                self._rooms.route(member, _read(message))
        finally:
            sending.cancel()

    def _part(self, socket: web.WebSocketResponse, member: Member) -> None:
        """A socket has ended: who said goodbye, or was refused, is gone; others may come back."""
        if self._present.get(member, socket) is not socket:
            return  # it has come back already
        self._present.pop(member, None)
        if socket.close_code in (WSCloseCode.OK, WSCloseCode.GOING_AWAY, REFUSED) or self._runner is None:
            self._rooms.leave(member)
            return
        self._rooms.away(member)

        def late() -> None:
            self._timers.discard(timer)
            self._rooms.sweep()

        timer = asyncio.get_running_loop().call_later(self._config.bounds.away_seconds + 0.1, late)
        self._timers.add(timer)


def _read(message: Any) -> Any:
    if message.type is not WSMsgType.TEXT:
        raise Denied("messages are text")
    try:
        return json.loads(message.data)
    except (ValueError, RecursionError):
        raise Denied("messages are JSON") from None


async def _send(socket: web.WebSocketResponse, outbox: deque[str], filled: asyncio.Event) -> None:
    try:
        while True:
            await filled.wait()
            filled.clear()
            while outbox:
                await socket.send_str(outbox.popleft())
    except ConnectionError:
        return  # the reading side notices too


def _cut(request: web.Request) -> None:
    """End a connection without a word to a side that does not listen."""
    if request.transport is not None:
        request.transport.abort()


async def _refuse(socket: web.WebSocketResponse, reason: str) -> None:
    if socket.prepared and not socket.closed:
        await socket.close(code=REFUSED, message=reason.encode()[:120])


def _served(name: str) -> Any:
    async def serve(_: web.Request) -> web.Response:
        text = (files("avlab.media.signaling") / "page" / name).read_text()
        return web.Response(text=text, content_type=_KINDS[name.rpartition(".")[2]], headers=_HEADERS)

    return serve


def _tls(config: SignalConfig) -> ssl.SSLContext | None:
    if config.cert is None or config.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.cert, config.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{config.cert} and {config.key} cannot be used for TLS: {error}") from None
    return context


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only. Names other than localhost count as far."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
