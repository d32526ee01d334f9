"""WebRTCManager: live media and items between this process and browsers or other scripts."""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from avlab.core.errors import AvlabError, ConfigError, ConnectError, LinkClosed, MediaError, TimedOut
from avlab.core.item import Item
from avlab.core.twin import Closing
from avlab.media.rtc.channel import MessageChannel
from avlab.media.rtc.outgoing import Outgoing, carries
from avlab.media.rtc.partner import Partner, Signal
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.policy import MAX_DESCRIPTION, servers
from avlab.media.rtc.receive import Mode
from avlab.media.rtc.turn import IceServers, current, tellable
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.address import Address, Invitation
from avlab.media.signaling.client import MAX_MEMBERS, WAITING, Joined, Left, Received, SignalClient, invite

T = TypeVar("T")
MAX_PARTNERS = 16
_NOBODY = "no partner within {:g} s: is the other side there?"
_TICKET = "avlab-rtc:"
_BY_HAND = "hand-"  # begins the names of partners that are no members of the room


class WebRTCManager(Closing):
    """Connections to other peers, through a signalling server or by offers that a person carries.

    url: an invitation (``https://host:port/#room=…&token=…``), or a server's address together with ``room`` and ``secret``;
    empty for hand-carried offers alone. ice_servers: STUN and TURN servers in the browser's notation, or a function that
    gives them anew for each connection (short-lived credentials, `ShortLived`); pages learn them, but of the environment's none that
    last. loopback: whether the other side may name loopback and link-local addresses (on this machine it is reached without,
    if there is a network at all). media: whether there are pictures and sound, or DataChannels alone. sync: see `Receiver`. authority: a PEM file for the
    server's TLS certificate. A context manager (also async).

    Raises ConfigError for what cannot be, ConnectError and Denied when the signalling server cannot be joined.
    """

    def __init__(
        self,
        url: str = "",
        *,
        room: str = "",
        secret: str = "",
        ice_servers: IceServers = (),
        loopback: bool = False,
        media: bool = True,
        sync: Mode = "low-latency",
        authority: str = "",
        runtime: MediaRuntime | None = None,
    ) -> None:
        if sync not in ("low-latency", "lips"):
            raise ConfigError(f"sync is {sync!r}: it can be 'low-latency' or 'lips'")
        if not callable(ice_servers):
            servers(ice_servers)
        if room and not url:
            raise ConfigError(f"room={room!r} needs the address of its signalling server: url=")
        address = Address.parse(url) if url else None
        if address is not None and room:
            address = Address(address.base, room, address.token)
        if address is not None and not (address.room and (address.token or secret)):
            raise ConfigError("give an invitation as url=, or a server's address with room= and secret=")
        self._address, self._secret, self._authority = address, secret, authority
        self._ice_servers, self._loopback, self._sync = ice_servers, loopback, sync
        self._runtime = runtime or MediaRuntime.default()
        self.outgoing = Outgoing() if media else None
        """What all partners see and hear; see `put`."""
        self._partners: dict[str, Partner] = {}
        self._fresh: deque[Partner] = deque()
        self._news = asyncio.Event()
        self._pending: Partner | None = None
        self._client: SignalClient | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: AvlabError | None = None
        self._count = 0
        self._handler: Callable[[MessageChannel], None] | None = None
        if address is not None:
            self._runtime.run(self._join(address), 30)

    # Hand-carried offers.

    def offer(self) -> str:
        """An offer for one other peer, as a line of text to carry over; its answer goes into `accept`. Raises MediaError."""
        return self._runtime.run(self._offer(), 30)

    def answer(self, text: str) -> str:
        """Take an offer and give the answer to carry back. Raises MediaError for what is no offer."""
        return self._runtime.run(self._answer(text), 30)

    def accept(self, text: str) -> Partner:
        """Take the answer to the newest offer. Raises MediaError for what is none."""
        return self._runtime.run(self._accept(text), 30)

    async def aoffer(self) -> str:
        """`offer` for async code."""
        return await asyncio.to_thread(self.offer)

    async def aanswer(self, text: str) -> str:
        """`answer` for async code."""
        return await asyncio.to_thread(self.answer, text)

    async def aaccept(self, text: str) -> Partner:
        """`accept` for async code."""
        return await asyncio.to_thread(self.accept, text)

    async def _offer(self) -> str:
        if self._pending is not None:
            await self._pending.aclose("Another offer was made.")
        self._pending = self._partner("", "script", None, offers=True)
        return _pack(await self._pending.offer())

    async def _answer(self, text: str) -> str:
        partner = self._partner("", "script", None, offers=False)
        try:
            return _pack(await partner.answer(_unpack(text)))
        except BaseException:
            await partner.aclose("Its offer could not be used.")
            raise

    async def _accept(self, text: str) -> Partner:
        if self._pending is None:
            raise MediaError("there is no offer that this could be the answer to: call offer() first")
        await self._pending.accept(_unpack(text))
        partner, self._pending = self._pending, None
        return partner

    # Partners.

    @property
    def partners(self) -> list[Partner]:
        """Those that are connected or being connected."""
        return [partner for partner in list(self._partners.values()) if partner.state != "closed"]

    def wait(self, timeout: float | None = 30.0, role: str = "") -> Partner:
        """The next partner that is connected and was not given before, of one ``role`` (script, camera, view) or any.

        Raises TimedOut after ``timeout`` seconds, ConnectError when the manager is closed.
        """
        try:
            return self._runtime.run(self._wait(role), timeout)
        except TimedOut:
            raise TimedOut(_NOBODY.format(timeout)) from None

    async def await_partner(self, timeout: float | None = 30.0, role: str = "") -> Partner:  # noqa: ASYNC109  as `wait`
        """`wait` for async code."""
        return await _bridged(self._runtime, self._wait(role), timeout)

    async def _wait(self, role: str) -> Partner:
        while True:
            for partner in list(self._fresh):
                if partner.state == "closed" or role in ("", partner.role):
                    self._fresh.remove(partner)
                    if partner.state != "closed":
                        return partner
            if self._error is not None:
                raise ConnectError(f"no partner will come: {self._error}")
            self._news.clear()
            await self._news.wait()

    def invite(self, role: str = "") -> Invitation:
        """An invitation to the room, for one use: a URL, and a QR code when displayed. role: what the page offers first,
        ``camera`` or ``view``. Raises ConfigError without the server's secret."""
        if self._address is None or not self._secret:
            raise ConfigError("invitations need the signalling server's url=, room= and secret=")
        address = self._address
        token = self._runtime.run(invite(address.base, address.room, self._secret, self._authority), 15)
        return Invitation(Address(address.base, address.room, token, role))

    def put(self, item: Item) -> None:
        """One more picture or block of sound (av frames or coded packets) for all partners; never blocks. Raises MediaError."""
        if self.outgoing is None:
            raise MediaError("this manager was made with media=False")
        if not isinstance(item, Item) or not carries(item.value):
            what = type(item.value if isinstance(item, Item) else item).__qualname__
            raise MediaError(f"put() takes an Item of a frame or packet, not a {what}: send() takes every value")
        self.outgoing.put(item)

    def send(self, value: Any) -> None:
        """Send an item to every partner that is connected and takes items; see `Partner.send`. Raises CodecError."""
        for partner in self.partners:
            if partner.state in ("connected", "stalled"):
                with suppress(LinkClosed):  # it has just gone, or its offer had no DataChannel: the others are there still
                    partner.send(value)

    def serve(self, handler: Callable[[MessageChannel], None]) -> None:
        """Give channels that partners open to ``handler``, on the media loop: it must not block."""
        self._handler = handler
        for partner in self._partners.values():
            partner.on_channel = handler

    def _partner(self, id: str, role: str, signal: Signal | None, *, offers: bool) -> Partner:
        self._partners = {key: each for key, each in self._partners.items() if each.state != "closed"}
        if self._error is not None:
            raise LinkClosed("the manager is closed")
        if len(self._partners) >= MAX_PARTNERS:
            raise MediaError(f"{MAX_PARTNERS} partners are connected: close one first")
        self._count += 1
        id = id or f"{_BY_HAND}{self._count}"
        if id in self._partners:
            raise MediaError(f"partner {id} is there already")
        partner = Partner(
            id,
            role,
            self._runtime,
            self._peer,
            outgoing=self.outgoing,
            sync=self._sync,
            signal=signal,
            offers=offers,
        )
        partner.on_channel = self._handler
        self._partners[partner.id] = partner
        self._spawn(self._announce(partner))
        return partner

    def _peer(self) -> Peer:
        return Peer(ice_servers=self._ice_servers, loopback=self._loopback)

    async def _announce(self, partner: Partner) -> None:
        try:
            await partner.until_connected()
        except LinkClosed:
            return
        self._fresh = deque(each for each in self._fresh if each.state != "closed")
        self._fresh.append(partner)
        self._news.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The room.

    async def _join(self, address: Address) -> None:
        if not address.token:
            address = address.with_token(await invite(address.base, address.room, self._secret, self._authority))
        self._client = SignalClient(address, authority=self._authority)
        await self._client.open()
        self._spawn(self._attend(self._client))

    async def _attend(self, client: SignalClient) -> None:
        """Hear the room: each member has a task of its own while it has said something, so that none waits for another."""
        said: dict[str, deque[Joined | Received]] = {}
        try:
            while True:
                event = await client.next()
                if event.member.startswith(_BY_HAND):
                    continue
                if isinstance(event, Left):
                    said.get(event.member, deque()).clear()
                    if (gone := self._partners.get(event.member)) is not None:
                        gone.end("The other side has left the room.")
                elif event.member in said:
                    said[event.member].append(event)
                elif len(said) < MAX_MEMBERS:
                    said[event.member] = deque([event], WAITING)  # of who sends more, the oldest is lost
                    self._spawn(self._listen(client, event.member, said))
        except AvlabError as error:
            self._error = self._error or error
            self._news.set()

    async def _listen(self, client: SignalClient, member: str, said: dict[str, deque[Joined | Received]]) -> None:
        try:
            while said[member]:
                try:
                    await self._heard(client, said[member].popleft())
                except AvlabError as error:
                    partner = self._partners.get(member)
                    if partner is not None and partner.state == "connecting":
                        await partner.aclose(str(error))
        finally:
            del said[member]

    async def _heard(self, client: SignalClient, event: Joined | Received) -> None:
        if isinstance(event, Joined):
            if event.role == "script":  # the newcomer makes the offer; pages always do
                partner = self._partner(event.member, event.role, _to(client, event.member), offers=event.before)
                if event.before:
                    partner.call()
        elif isinstance(event.data, dict) and event.data.get("kind") == "servers":
            now = await current(self._ice_servers)  # a page asks before each connection: credentials do not last
            await client.send(event.member, {"kind": "servers", "servers": tellable(self._ice_servers, now)})
        else:
            known = self._partners.get(event.member)
            if known is None or known.state == "closed":
                if not isinstance(event.data, dict) or event.data.get("kind") != "offer":
                    return  # its offer is on its way, with all that it knows so far
                role = event.data.get("role", "")
                role = role if role in ("camera", "view") else "script"
                known = self._partner(event.member, role, _to(client, event.member), offers=False)
            await known.heard(event.data)

    # The end.

    def close(self) -> None:
        """End all connections and leave the room. Idempotent."""
        self._runtime.run(self._end(), 10)
        if self.outgoing is not None:
            self.outgoing.close()

    async def _end(self) -> None:
        self._error = self._error or LinkClosed("the manager is closed")
        self._news.set()
        await asyncio.gather(*(partner.aclose() for partner in self._partners.values()))
        if self._client is not None:
            await self._client.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<WebRTCManager {self._address.room if self._address else 'by hand'}: {self.partners}>"


async def _bridged(runtime: MediaRuntime, work: Awaitable[T], seconds: float | None) -> T:
    """Await on any loop what runs on the media loop. Raises TimedOut."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    async def run() -> T:
        try:
            return await work
        finally:
            loop.call_soon_threadsafe(done.set)

    call = runtime.start(run())
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        raise TimedOut(_NOBODY.format(seconds)) from None
    finally:
        call.cancel()
    call.wait(1.0)
    result: T = call.result()
    return result


def _to(client: SignalClient, member: str) -> Signal:
    async def signal(data: dict[str, Any]) -> None:
        await client.send(member, data)

    return signal


def _pack(sdp: str) -> str:
    return _TICKET + base64.urlsafe_b64encode(zlib.compress(sdp.encode())).decode()


def _unpack(text: str) -> str:
    """A description out of the text that a person has carried: ours, or plain SDP."""
    text = text.strip() if isinstance(text, str) else ""
    if not text.startswith(_TICKET):
        return text.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n"
    try:
        packed = base64.urlsafe_b64decode("".join(text.removeprefix(_TICKET).split()))
        return zlib.decompressobj().decompress(packed, MAX_DESCRIPTION).decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise MediaError(f"the carried text is damaged ({error}): copy all of it") from None
