"""The client of the signalling server: one membership of a room that outlives its connections."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from avlab.core.errors import ConfigError, ConnectError, Denied, LinkClosed
from avlab.media.signaling.address import Address

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds between attempts to come back
PATIENCE = 60.0
REFUSED = 4001
MAX_MESSAGE = 512 << 10
WAITING = 256
MAX_MEMBERS = 1024
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody is in the room: was there already (``before``), or has just come."""

    member: str
    role: str
    before: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody has gone for good."""

    member: str


@dataclass(frozen=True, slots=True)
class Received:
    """What another member has sent."""

    member: str
    data: Any


Event = Joined | Left | Received


class SignalClient:
    """A member of a room; lives on one event loop.

    A lost connection is taken up again under the same name, at once and then with growing pauses (0.25 to 8 s) for
    ``patience`` seconds; meanwhile `send` waits. ``authority``: a PEM file with the server's certificate authority.
    """

    def __init__(
        self, address: Address, *, role: str = "script", authority: str = "", patience: float = PATIENCE
    ) -> None:
        self._address, self._role, self._patience = address, role, patience
        self._tls: ssl.SSLContext | bool = True
        if authority:
            try:
                self._tls = ssl.create_default_context(cafile=authority)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{authority}: the file of authorities cannot be read: {error}") from None
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._up = asyncio.Event()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)
        self._keeper: asyncio.Task[None] | None = None
        self._known: set[str] = set()
        self._key = ""
        self._error: LinkClosed | Denied | None = None
        self.id = ""
        self.reconnections = 0

    async def open(self) -> None:
        """Join. Raises ConnectError when no server answers, Denied when it refuses."""
        self._http = aiohttp.ClientSession()
        hello = {"join": self._address.room, "token": self._address.token, "role": self._role}
        try:
            await self._enter(hello)
        except BaseException:
            await self._http.close()
            await asyncio.sleep(0)
            raise
        self._keeper = asyncio.create_task(self._keep(), name="avlab-signal")

    async def send(self, member: str, data: Any) -> None:
        """Send plain JSON data to another member; waits while the connection is being taken up again. Raises LinkClosed."""
        text = json.dumps({"to": member, "data": data})
        while True:
            await self._up.wait()
            if self._error is not None:
                raise self._error
            socket = self._socket
            assert socket is not None
            try:
                return await socket.send_str(text)
            except (ConnectionError, aiohttp.ClientError):
                if socket is self._socket:  # else the keeper has noticed already, and another one is there
                    self._up.clear()
                    await socket.close()  # the keeper notices and comes back

    async def next(self) -> Event:
        """What happens next in the room. Raises LinkClosed or Denied when it is over."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise self._error or LinkClosed("the signalling connection is closed")
        return event

    async def close(self) -> None:
        """Leave the room. Idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        if self._socket is not None:
            await self._socket.close()
        if self._http is not None:
            await self._http.close()
            await asyncio.sleep(0)  # its connections end in the next round of the loop
        self._end(LinkClosed("the signalling connection is closed"))

    async def _enter(self, hello: Mapping[str, str]) -> None:
        assert self._http is not None
        try:
            async with asyncio.timeout(10):
                socket = await self._http.ws_connect(
                    self._address.socket,
                    ssl=self._tls,
                    max_msg_size=MAX_MESSAGE,
                    heartbeat=15.0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                )
                await socket.send_str(json.dumps(hello))
                message = await socket.receive()
        except aiohttp.WSServerHandshakeError as error:
            raise Denied(f"the signalling server at {self._address.base} refuses (HTTP {error.status})") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectError(
                f"no signalling server answers at {self._address.base} ({error or 'time-out'}): is `avlab signal` running "
                "there?"
            ) from None
        if message.type is not aiohttp.WSMsgType.TEXT:
            await socket.close()
            if socket.close_code == REFUSED:
                raise Denied(f"the signalling server refuses: {message.extra or 'no reason given'}")
            raise ConnectError(f"the signalling server at {self._address.base} hung up")
        welcome = _parsed(message.data)
        self.id, self._key, self._socket = _name(welcome, "welcome"), _name(welcome, "key"), socket
        members = welcome.get("members")
        if not isinstance(members, list) or not all(isinstance(other, dict) for other in members):
            raise LinkClosed(_NONE)
        present = {_name(other, "id"): _name(other, "role") for other in members[: MAX_MEMBERS + 1]}
        for member in self._known - present.keys():
            await self._tell(Left(member))
        for member in present.keys() - self._known:
            await self._tell(Joined(member, present[member], before=True))
        self._up.set()

    async def _keep(self) -> None:
        try:
            while True:
                await self._listen()
                self._up.clear()
                await self._return()
        except (LinkClosed, Denied) as error:
            self._end(error)

    async def _listen(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            data = _parsed(message.data)
            if "from" in data:
                await self._tell(Received(_name(data, "from"), data.get("data")))
            elif "joined" in data:
                await self._tell(Joined(_name(data, "joined"), _name(data, "role")))
            elif "left" in data:
                await self._tell(Left(_name(data, "left")))
        if self._socket.close_code == REFUSED:
            raise Denied("the signalling server has ended the membership: it sent too much, or what is no message")

    async def _return(self) -> None:
        """Take the membership up again. Raises LinkClosed when patience ends, Denied when the server says no."""
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    try:
                        await self._enter({"resume": self._key})
                    except ConnectError:
                        await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # all members come back at once otherwise
                        pause = min(2 * pause, LONGEST_PAUSE)
                    else:
                        self.reconnections += 1
                        return
        except TimeoutError:
            raise LinkClosed(
                f"the signalling server at {self._address.base} has not answered for {self._patience:g} s"
            ) from None

    async def _tell(self, event: Event) -> None:
        if isinstance(event, Joined):
            self._known.add(event.member)
            if len(self._known) > MAX_MEMBERS:
                raise LinkClosed(f"the signalling server tells of more than {MAX_MEMBERS} members")
        elif isinstance(event, Left):
            self._known.discard(event.member)
        await self._events.put(event)  # waits: what is not read here stays with the server, which is bounded too

    def _end(self, error: LinkClosed | Denied) -> None:
        self._error = self._error or error
        self._up.set()
        while self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(None)


async def invite(base: str, room: str, secret: str, authority: str = "") -> str:
    """A token for a room from a server whose secret we know. Raises ConnectError, Denied, ConfigError."""
    tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=authority) if authority else True
    try:
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession() as http,
            http.post(
                f"{base}/invitations", json={"room": room}, headers={"Authorization": f"Bearer {secret}"}, ssl=tls
            ) as response,
        ):
            answer = _parsed(await response.text())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectError(f"no signalling server answers at {base} ({error or 'time-out'})") from None
    if response.status == 401:
        raise Denied(f"the signalling server at {base} refuses: {answer.get('error')}")
    if response.status != 200:
        raise ConfigError(str(answer.get("error")))
    return _name(answer, "token")


_NONE = "what answers is no signalling server"


def _name(message: dict[str, Any], key: str) -> str:
    """A short text out of a server's message. Raises LinkClosed for what is none."""
    value = message.get(key)
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise LinkClosed(_NONE)
    return value


def _parsed(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise LinkClosed(_NONE)
    return data
