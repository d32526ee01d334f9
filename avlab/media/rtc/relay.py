"""Relay: which of several TURN servers works from here. aiortc would use the first one, whether it works or not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aioice.stun import TransactionError, TransactionFailed
from aioice.turn import create_turn_endpoint
from aiortc import RTCIceServer
from aiortc.rtcicetransport import connection_kwargs

from avlab.core.errors import ConfigError
from avlab.media.rtc.turn import Servers, is_turn, way

WITHIN = 2.0
"""Seconds in which a relay must answer."""
GRACE = 0.6
"""Seconds that a better relay has after another one has answered; one lost packet is sent again after half a second."""
MOST = 8
"""Relays that are tried at a time."""
_GONE = 0.3  # seconds for giving an allocation back
_RANK = {"udp": 0, "tcp": 1, "tls": 2}


@dataclass(frozen=True, slots=True)
class Tried:
    """One TURN URL, tried. ``way``: udp, tcp or tls. ``reason``: why it does not work, empty when it does. ``milliseconds``
    until there was an allocation."""

    url: str
    way: str
    reason: str = ""
    milliseconds: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # with credentials: never shown

    @property
    def works(self) -> bool:
        """Whether an allocation was made."""
        return not self.reason

    def __str__(self) -> str:
        return f"{self.url} " + (self.reason or f"works over {self.way.upper()} ({self.milliseconds:.0f} ms)")


@dataclass(frozen=True, slots=True)
class Choice:
    """The relay to use, None when there is none, and all that were tried."""

    relay: Tried | None
    tried: Sequence[Tried]

    @property
    def reason(self) -> str:
        """Why there is no relay, as the end of a sentence; empty when there is one."""
        if self.relay is not None:
            return ""
        if not self.tried:
            return "there is no TURN server in ice_servers"
        return "no TURN server works: " + "; ".join(f"{each.url} {each.reason}" for each in self.tried)


async def choose(servers: Servers) -> Choice:
    """The best relay that works (UDP before TCP before TLS), found in about two seconds at most; without TURN at once."""
    return best(await probe(servers, patient=False))


def best(tried: Sequence[Tried]) -> Choice:
    """UDP before TCP before TLS."""
    working = [each for each in tried if each.works]
    return Choice(min(working, key=lambda each: _RANK[each.way], default=None), tried)


async def probe(servers: Servers, *, within: float = WITHIN, patient: bool = True) -> list[Tried]:
    """Ask each TURN server for an allocation, all at once; what was found, in the order of the servers. Raises nothing.

    patient: wait for all, up to ``within`` seconds. Otherwise until no better one is to be expected: then the missing are left out.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within + _GONE
    tasks = {asyncio.create_task(_try(server, url, within)): url for server, url in _relays(servers)}
    pending = set(tasks)
    try:
        while pending and loop.time() < end:
            done, pending = await asyncio.wait(pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            working = {each.way for each in (task.result() for task in done) if each.works}
            if working and not patient:
                if "udp" in working:
                    break
                end = min(end, loop.time() + GRACE)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if not patient and any(task.result().works for task in tasks if not task.cancelled()):
        return [task.result() for task in tasks if not task.cancelled()]
    return [Tried(url, way(url), _silent(within)) if task.cancelled() else task.result() for task, url in tasks.items()]


def stun_of(servers: Servers) -> dict[str, Any]:
    """The first STUN server, as options of the ICE agent; empty without one. Raises ConfigError for an URL that is none."""
    urls = [url for server in servers for url in _urls(server) if not is_turn(url)]
    try:
        return dict(connection_kwargs([RTCIceServer(urls)]))
    except ValueError:
        raise ConfigError(f"ice_servers: {urls} has a malformed URL: write stun:host:port") from None


def _urls(server: Mapping[str, Any]) -> list[str]:
    urls = server["urls"]
    return [urls] if isinstance(urls, str) else list(urls)


def _relays(servers: Servers) -> Iterator[tuple[Mapping[str, Any], str]]:
    count = 0
    for server in servers:
        for url in _urls(server):
            if is_turn(url) and count < MOST:
                count += 1
                yield server, url


async def _try(server: Mapping[str, Any], url: str, within: float) -> Tried:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        options = connection_kwargs([RTCIceServer([url], server.get("username"), server.get("credential"))])
    except ValueError:
        options = {}
    if "turn_server" not in options:
        return Tried(url, way(url), "is not a URL that can be used here (turn:host:port, with ?transport=udp or tcp)")
    try:
        async with asyncio.timeout(within):
            transport, allocation = await create_turn_endpoint(
                _Allocation,
                server_addr=options["turn_server"],
                username=options["turn_username"],
                password=options["turn_password"],
                lifetime=60,
                ssl=options["turn_ssl"] or None,
                transport=options["turn_transport"],
            )
    except (OSError, TransactionError, ValueError) as error:
        return Tried(url, way(url), _why(error, server, within))
    milliseconds = (loop.time() - began) * 1e3
    transport.close()
    try:
        async with asyncio.timeout(_GONE):
            await allocation.gone.wait()
    except TimeoutError:
        pass  # the server gives it up by itself
    return Tried(url, way(url), "", milliseconds, options)


class _Allocation(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.gone = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()


def _why(error: BaseException, server: Mapping[str, Any], within: float) -> str:
    """What an error means for the one who has configured the server."""
    if isinstance(error, TransactionFailed):
        code = error.response.error_code or 0
        if code == 401 and not (server.get("username") and server.get("credential")):
            return "wants a username and a credential"
        return {
            401: "refuses the credentials: they are wrong, or have run out",
            403: "forbids it",
            486: "has no allocation left for this user",
            508: "has no capacity left",
        }.get(code, f"refuses (error {code})")
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS there"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "has a name that cannot be found"
    if isinstance(error, ConnectionRefusedError):
        return "does not listen there"
    if isinstance(error, TimeoutError | TransactionError):
        return _silent(within)
    return f"cannot be reached: {getattr(error, 'strerror', None) or type(error).__name__}"


def _silent(within: float) -> str:
    return f"does not answer within {within:g} s"
