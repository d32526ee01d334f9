"""Partner: one other side, over as many connections as it takes. Media, items and channels go on where they were."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from avlab.core.codec import registry as codecs
from avlab.core.errors import AvlabError, LinkClosed, MediaError, TimedOut
from avlab.core.item import Item
from avlab.core.tree import Values
from avlab.media.rtc.carried import decode_item, encode_item
from avlab.media.rtc.channel import SESSION_HOLD, MessageChannel
from avlab.media.rtc.outgoing import Outgoing
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.policy import room
from avlab.media.rtc.receive import Mode, Receiver, ReceiverStatistics
from avlab.media.rtc.reconnect import BEAT, LOST, STALLED, Backoff, Silence
from avlab.media.rtc.view_track import attach
from avlab.media.runtime import MediaRuntime

CONTROL, ITEMS = "avlab.control", "avlab.items"  # DataChannels that both sides have, 0 and 2
MAX_CHANNELS = 64
CONNECTING, CARRIED = 15.0, 600.0  # seconds: until peers are connected; an answer that a person carries takes longer
_ALL = frozenset(("video", "audio", "application"))

Signal = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PartnerStatistics:
    """``reconnections``: connections after the first. ``media``: figures of what is received, None without media."""

    state: str
    path: str
    reconnections: int
    media: ReceiverStatistics | None


class Partner:
    """The other side of a connection.

    `send` and `receive` carry items (any value that has a codec, arrays and frames too) over a DataChannel, in order, each at
    most once: those under way while a connection is lost are lost. `media` gives its live pictures and sound. Iterating it
    gives its items. Everything may be used from any thread; ``asend`` and ``areceive`` are the twins for async code.
    """

    def __init__(
        self,
        id: str,
        role: str,
        runtime: MediaRuntime,
        make: Callable[[], Peer],
        *,
        outgoing: Outgoing | None,
        sync: Mode,
        signal: Signal | None,
        offers: bool,
    ) -> None:
        self.id, self.role = id, role
        self.reason = "Waiting for the other side."
        self.reconnections = 0
        self._runtime, self._make, self._outgoing, self._signal, self._offers = runtime, make, outgoing, signal, offers
        self._receiver = Receiver(sync=sync, lasting=True) if outgoing is not None else None
        self._values = Values(registry=codecs)
        self._state, self._generation = "connecting", 0
        self._peer: Peer | None = None
        self._retired: list[Peer] = []
        self._items: MessageChannel | None = None
        self._control: Any = None
        self._channels: list[MessageChannel] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._up, self._over = asyncio.Event(), asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._calling: asyncio.Task[None] | None = None
        self.on_channel: Callable[[MessageChannel], None] | None = None

    @property
    def state(self) -> str:
        """``connecting``, ``connected``, ``stalled`` (2 s of silence), ``reconnecting`` (5 s) or ``closed``."""
        return self._state

    @property
    def path(self) -> str:
        """``direct`` or through which relay; see `Peer.path`."""
        return self._peer.path if self._peer is not None else ""

    # Negotiation, on the loop.

    async def offer(self) -> str:
        """A new connection's offer."""
        peer = self._begin()
        self._prepare(peer)
        return await peer.offer()

    async def answer(self, sdp: str, generation: int = 0) -> str:
        """Take an offer: of the first connection, or of one that replaces it."""
        peer = self._begin()
        self._generation = max(generation, self._generation)
        self._prepare(peer, room(sdp) & ({"application"} if self.role == "camera" else _ALL))
        text = await peer.answer(sdp)
        self._follow(peer)
        return text

    async def accept(self, sdp: str) -> None:
        """Take the answer to our offer."""
        if self._peer is None:
            raise MediaError("there is no offer that this could be the answer to: call offer() first")
        await self._peer.accept(sdp)
        self._follow(self._peer)

    async def heard(self, data: Any) -> None:
        """A message from this member over the signalling server. Raises MediaError for what is none."""
        kind = data.get("kind") if isinstance(data, dict) else None
        if self._signal is None or kind not in ("offer", "answer", "candidate", "renew"):
            raise MediaError("the other peer's message is not understood")
        generation = data.get("generation")
        if not isinstance(generation, int) or not 0 <= generation < 1 << 31:
            raise MediaError("the other peer's message has no generation")
        if kind == "offer" and (generation > self._generation or self._peer is None):
            try:
                text = await self.answer(data.get("sdp", ""), generation)
            except AvlabError as error:
                if self._peer is not None and self._state != "connecting":  # it has taken the place of one that stood
                    self._lost(self._peer, str(error))
                raise
            await self._signal({"kind": "answer", "generation": generation, "sdp": text})
        elif kind == "answer" and generation == self._generation and self._offers:
            await self.accept(data.get("sdp", ""))
        elif kind == "candidate" and generation == self._generation and self._peer is not None:
            await self._peer.add_candidate(data.get("candidate"))
        elif kind == "renew" and generation == self._generation and self._offers:
            self.call(again=True)

    def call(self, *, again: bool = False) -> None:
        """Begin to make a connection over the signalling server, the first or another one; for the side that makes the offers."""
        if self._calling is None or self._calling.done():
            if again:
                self._set("reconnecting", "The connection is lost: making another one.")
            self._calling = self._spawn(self._call(again))

    def _begin(self) -> Peer:
        if self._over.is_set():
            raise LinkClosed("the partner is closed")
        old, self._peer = self._peer, self._make()
        self._up.clear()
        if old is not None and old.state == "connected":
            self._retired.append(old)  # closed now, it would look to the other side as if we had gone
        elif old is not None:
            self._spawn(old.close())
        return self._peer

    def _prepare(self, peer: Peer, kinds: frozenset[str] = _ALL) -> None:
        """Add what the other side has room for: aiortc does not connect with more."""
        if self._outgoing is not None and kinds - {"application"}:
            attach(self._outgoing, peer.connection, kinds=kinds)
        self._control, self._items, self._channels = None, None, []
        if "application" not in kinds:
            return
        self._control = peer.connection.createDataChannel(CONTROL, negotiated=True, id=0)
        self._items = MessageChannel(peer.connection.createDataChannel(ITEMS, negotiated=True, id=2), self._runtime)
        self._channels = [self._items]
        peer.connection.on("datachannel", self._channel)

    def _channel(self, channel: Any) -> None:
        if self.on_channel is None or len(self._channels) >= MAX_CHANNELS:
            channel.close()
            return
        made = MessageChannel(channel, self._runtime, SESSION_HOLD)
        self._channels = [each for each in self._channels if each.open] + [made]
        self.on_channel(made)

    def _follow(self, peer: Peer) -> None:
        if self._receiver is not None:
            self._receiver.attach(peer.connection)
        self._spawn(self._watch(peer))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The life of a connection.

    async def _watch(self, peer: Peer, patient: bool = False) -> None:
        try:
            await peer.connected(CARRIED if patient else CONNECTING)
        except AvlabError as error:
            if peer is not self._peer:
                return
            if patient or self._offers or self._signal or peer.state != "connecting":
                return self._lost(peer, str(error))
            self._set("connecting", f"Waiting until the answer is carried to the other side; if it has been: {error}")
            return await self._watch(peer, patient=True)
        if peer is not self._peer:
            return
        self._set("connected", peer.reason)
        self._up.set()
        await self._close_retired()
        loop = asyncio.get_running_loop()
        silence = Silence(loop.time())
        while peer is self._peer and peer.state == "connected":
            beats = self._control is not None and self._control.readyState == "open"
            if beats:
                self._control.send(".")
            try:
                async with asyncio.timeout(BEAT):
                    await peer.changed()
            except TimeoutError:
                if not beats and not peer.connection.getTransceivers():
                    continue  # of another make, and nothing has to come: if it is gone, the ICE agent will notice
                quiet = silence.seen(loop.time(), peer.packets)
                if quiet >= LOST:
                    break
                if quiet >= STALLED:
                    self._set("stalled", f"Nothing has come for {quiet:.0f} s.")
                elif self._state == "stalled":
                    self._set("connected", peer.reason)
        if peer is self._peer:
            if peer.state == "closed":
                self.end("The other side has ended the connection.")
            else:
                self._lost(peer, "The connection is lost.")

    def _lost(self, peer: Peer, why: str) -> None:
        self._up.clear()
        if self._signal is None:
            self.end(f"{why.rstrip('.')}. Without a signalling server it cannot be renewed: make another offer.")
        elif self._offers:
            self.call(again=True)
        else:
            self._set("reconnecting", why)
            self._spawn(self._ask(peer))

    async def _ask(self, peer: Peer) -> None:
        """The other side makes the offers: ask it to, until it has."""
        assert self._signal is not None
        backoff = Backoff(asyncio.get_running_loop().time())
        while peer is self._peer and not self._over.is_set():
            pause = backoff.pause(asyncio.get_running_loop().time())
            if pause is None:
                self.end("The connection was lost and could not be renewed within a minute.")
                return
            with suppress(AvlabError):  # signalling is not there now: it may be by the next time
                await self._signal({"kind": "renew", "generation": self._generation})
            await asyncio.sleep(pause)

    async def _call(self, again: bool) -> None:
        assert self._signal is not None
        loop = asyncio.get_running_loop()
        backoff = Backoff(loop.time())
        while not self._over.is_set():
            try:
                self._generation += 1
                await self._signal({"kind": "offer", "generation": self._generation, "sdp": await self.offer()})
                async with asyncio.timeout(CONNECTING):
                    await self._up.wait()
                self.reconnections += again
                return
            except (AvlabError, TimeoutError) as error:
                why = str(error) or "the other side does not answer"
                pause = backoff.pause(loop.time())
            if pause is None:
                self.end(f"No connection could be made within a minute: {why}")
                return
            await asyncio.sleep(pause)

    async def _close_retired(self) -> None:
        retired, self._retired = self._retired, []
        await asyncio.gather(*(peer.close() for peer in retired))

    def _set(self, state: str, reason: str) -> None:
        if self._state != "closed":
            self._state, self.reason = state, reason

    async def until_connected(self) -> None:
        """Wait for the first connection. Raises LinkClosed when there will be none."""
        up, over = asyncio.create_task(self._up.wait()), asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({up, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            over.cancel()
        if self._over.is_set():
            raise LinkClosed(f"partner {self.id}: {self.reason}")

    def end(self, reason: str = "Closed.") -> asyncio.Task[None]:
        """Begin to end the connection, on the loop; the other side notices at once. Idempotent."""
        if self._closing is None:
            self._set("closed", reason)
            self._over.set()
            self._closing = asyncio.create_task(self._close())
        return self._closing

    async def aclose(self, reason: str = "Closed.") -> None:
        """End the connection, on the loop."""
        await asyncio.shield(self.end(reason))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for channel in self._channels:
            channel.end()
        if self._peer is not None:
            await asyncio.gather(self._peer.close(), self._close_retired())
        if self._receiver is not None:
            await self._receiver.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # For everybody.

    def close(self) -> None:
        """End the connection; the other side notices within half a second. Idempotent."""
        self._runtime.run(self.aclose())

    def send(self, value: Any) -> None:
        """Send an item (or a value, which becomes one); blocks while the other side does not read.

        Raises CodecError for a value that cannot travel, LinkClosed when there is no connection.
        """
        self._runtime.run(self._send(encode_item(value, self._values)))

    async def asend(self, value: Any) -> None:
        """`send` for async code."""
        await asyncio.to_thread(self.send, value)

    async def _send(self, data: bytes) -> None:
        await (await self._connected_items()).asend(data)

    async def _connected_items(self) -> MessageChannel:
        await self.until_connected()
        if self._items is None:
            raise LinkClosed("the other side takes no items: its offer has no DataChannel")
        return self._items

    def receive(self, timeout: float | None = None) -> Item:
        """The next item. Raises TimedOut after ``timeout`` seconds, LinkClosed at the end, CodecError for what is no item."""
        while True:
            channel = self._items or self._runtime.run(self._connected_items(), timeout)
            try:
                data = channel.recv(timeout)
            except TimeoutError:
                raise TimedOut(f"no item from partner {self.id} within {timeout:g} s") from None
            except LinkClosed:
                if channel is self._items and self._state in ("closed", "connected"):
                    raise
                self._runtime.run(self.until_connected(), timeout)  # another connection brings another channel
                continue
            return decode_item(data, self._values)

    async def areceive(self, timeout: float | None = None) -> Item:  # noqa: ASYNC109  as `receive` has it
        """`receive` for async code."""
        return await asyncio.to_thread(self.receive, timeout)

    def __iter__(self) -> Iterator[Item]:
        while True:
            try:
                yield self.receive()
            except LinkClosed:
                return

    def media(self) -> AsyncIterator[Item]:
        """Live pictures and sound as items of av.VideoFrame and av.AudioFrame, for one consumer; see `Receiver`."""
        if self._receiver is None:
            raise MediaError("this manager was made with media=False")
        return self._receiver.items()

    def frames(self) -> Iterator[Item]:
        """`media` for a thread."""
        if self._receiver is None:
            raise MediaError("this manager was made with media=False")
        return iter(self._receiver)

    def open_channel(self, label: str, within: float = CONNECTING) -> MessageChannel:
        """A channel of its own for messages; the other side gets it through its ``on_channel``.

        Raises LinkClosed, and TimedOut when there is no connection within so many seconds.
        """
        return self._runtime.run(self._open_channel(label), within)

    async def _open_channel(self, label: str) -> MessageChannel:
        await self._connected_items()
        assert self._peer is not None
        channel = MessageChannel(self._peer.connection.createDataChannel(label), self._runtime, SESSION_HOLD)
        self._channels = [each for each in self._channels if each.open] + [channel]
        return channel

    def statistics(self) -> PartnerStatistics:
        """Figures so far."""
        media = self._receiver.statistics() if self._receiver is not None else None
        return PartnerStatistics(self._state, self.path, self.reconnections, media)

    def __repr__(self) -> str:
        return f"<Partner {json.dumps(self.id)} ({self.role}) {self._state}: {self.reason}>"
