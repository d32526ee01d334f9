"""Peer: one WebRTC connection to one other side. It lives on the media runtime's loop; only that loop may touch it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import SessionDescription, candidate_from_sdp

from avlab.core.errors import ConfigError, ConnectError, MediaError
from avlab.media.rtc.policy import MAX_CANDIDATES, clean, servers, usable, with_bitrate
from avlab.media.rtc.relay import Choice, choose, stun_of
from avlab.media.rtc.round_trip import answer_round_trips, negotiate_round_trips
from avlab.media.rtc.tap import negotiate_repair
from avlab.media.rtc.turn import IceServers, current

CLOSING = 0.5  # seconds
START, MINIMUM = 2500, 1000  # kbit/s


class Peer:
    """One RTCPeerConnection with avlab's policy; make it on the loop it will live on.

    ``ice_servers``: STUN and TURN servers in the browser's notation, or a function that gives them anew for each connection
    (credentials that do not last); empty: those of the environment, see `avlab.media.rtc.turn`; never a public one by itself.
    The TURN server that works best from here is found when the description is made (two seconds at most).
    ``loopback`` takes loopback and link-local candidates of the other side, which are refused otherwise; addresses of metadata services
    and ``.local`` names are refused always. ``bitrate``: kbit/s at which a browser is asked to start and not to go below.
    """

    def __init__(
        self,
        *,
        ice_servers: IceServers = (),
        loopback: bool = False,
        bitrate: tuple[int, int] = (START, MINIMUM),
    ) -> None:
        if not callable(ice_servers):
            servers(ice_servers)
        negotiate_repair()
        negotiate_round_trips()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # without a list, aiortc asks a public one
        self._servers = ice_servers
        self._relays: Choice | None = None
        self._loopback, self._bitrate, self._trickled = loopback, bitrate, 0
        self._closing: asyncio.Task[None] | None = None
        self._path = ""
        self._changed = asyncio.Event()
        self.connection.on("connectionstatechange", self._note)

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` or ``closed``."""
        return "closed" if self._closing else str(self.connection.connectionState)

    @property
    def path(self) -> str:
        """``direct``, ``turn udp``, ``turn tcp`` or ``turn tls`` (through our relay), ``turn`` (through the other side's); empty
        before the peers are connected."""
        return self._path

    @property
    def reason(self) -> str:
        """The state and the path in one plain sentence."""
        state, path = self.state, self._path
        if state == "connected":
            relayed = "the other side's relay" if path == "turn" else f"a relay ({path})"
            return "Connected directly." if path == "direct" else f"Connected through {relayed}."
        if state == "failed":
            return self._no_path
        return {
            "new": "Waiting for the other side.",
            "connecting": f"Looking for a path to the other side{self.no_relay and f' ({self.no_relay})'}.",
            "closed": "Closed.",
        }[state]

    @property
    def _no_path(self) -> str:
        relay = self._relays and self._relays.relay
        why = self.no_relay or f"none through {relay.url if relay else 'a relay'} either"
        return f"There is no direct path to the other side, and {why}."

    @property
    def no_relay(self) -> str:
        """Why no TURN server is used, as the end of a sentence; empty when one is, and before the description is made."""
        return self._relays.reason if self._relays is not None else ""

    async def offer(self) -> str:
        """The description of this side, candidates included; tracks and channels are added before. Raises MediaError."""
        return await self._local(await self._usable(self.connection.createOffer()))

    async def answer(self, sdp: str) -> str:
        """Take the other side's offer and give the answer, candidates included. Raises MediaError."""
        await self._remote(sdp, "offer")
        return await self._local(await self._usable(self.connection.createAnswer()))

    async def accept(self, sdp: str) -> None:
        """Take the other side's answer. Raises MediaError."""
        await self._remote(sdp, "answer")

    async def add_candidate(self, candidate: Any) -> None:
        """A candidate that came after the description, in the browser's notation; None or an empty one: no more come.

        Refused ones are ignored. Raises MediaError for what is no candidate, and for too many.
        """
        if candidate is not None and not isinstance(candidate, Mapping):
            raise MediaError("the other peer's candidate is none")
        text = candidate.get("candidate") if candidate else None
        if not text:
            return  # the end: aiortc would give up then, and a peer that hides its addresses may still knock
        self._trickled += 1
        if not isinstance(text, str) or self._trickled > MAX_CANDIDATES:
            raise MediaError(f"the other peer sends more than {MAX_CANDIDATES} candidates, or what is none")
        text = text.removeprefix("candidate:")
        if self.state == "closed" or not usable(text, loopback=self._loopback):
            return
        assert candidate is not None
        try:
            parsed = candidate_from_sdp(text)
            parsed.sdpMid, parsed.sdpMLineIndex = candidate.get("sdpMid"), candidate.get("sdpMLineIndex")
            await self.connection.addIceCandidate(parsed)
        except (ValueError, AssertionError) as error:
            raise MediaError(f"the other peer's candidate cannot be used: {error}") from None

    async def connected(self, within: float = 10.0) -> None:
        """Wait until media can flow. Raises ConnectError when it cannot, or not within so many seconds."""
        try:
            async with asyncio.timeout(within):
                while self.state != "connected":
                    if self.state in ("failed", "closed"):
                        why = _lower(self.reason)
                        raise ConnectError(f"the peers did not connect: {why}")
                    await self.changed()
        except TimeoutError:
            why = _lower(self._no_path) if self.state == "connecting" else self.reason
            raise ConnectError(f"the peers did not connect within {within:g} s: {why}") from None

    async def closed(self) -> None:
        """Wait until the connection has failed or either side has closed it."""
        while self.state not in ("failed", "closed"):
            await self.changed()

    async def changed(self) -> None:
        """Wait for the next change of `state`."""
        await self._changed.wait()

    async def close(self) -> None:
        """End the connection; the other side notices at once. Idempotent; takes at most half a second."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._end())
            self._note()
        await asyncio.wait({self._closing}, timeout=CLOSING)

    async def _end(self) -> None:
        try:
            await self.connection.close()
        except asyncio.CancelledError:  # the loop ends first: its sockets are not left to the garbage collector
            for each in self._transports():
                for protocol in each.transport._connection._protocols:
                    protocol.transport.close()
            raise

    def _note(self) -> None:
        if self.connection.connectionState == "connected" and not self._path:
            self._path = self._find_path()
        self._changed.set()
        self._changed = asyncio.Event()

    def _find_path(self) -> str:
        pair = next(iter(self._pairs()), None)
        relay = self._relays and self._relays.relay
        if pair is not None and pair.local_candidate.type == "relay" and relay:
            return "turn " + relay.way
        return "turn" if pair is not None and pair.remote_candidate.type == "relay" else "direct"

    @property
    def packets(self) -> int:
        """How many packets have come from the other side: media, reports and data; grows while there is a path."""
        reports = [report for transport in self._transports() for report in transport._get_stats().values()]
        return sum(report.packetsReceived for report in reports)

    def _pairs(self) -> list[Any]:
        # aiortc's getStats has no candidate pairs: the ICE agent's own table does.
        return [pair for each in self._transports() for pair in each.transport._connection._nominated.values()]

    def _transports(self) -> set[Any]:
        owners: list[Any] = [*self.connection.getSenders(), *([self.connection.sctp] if self.connection.sctp else [])]
        return {owner.transport for owner in owners}

    async def _remote(self, sdp: str, kind: str) -> None:
        text = read(sdp, loopback=self._loopback)
        await self._usable(self.connection.setRemoteDescription(RTCSessionDescription(text, kind)))

    async def _gather_from(self) -> None:
        """Tell the ICE agents whom to ask for candidates, just before they do."""
        given = await current(self._servers)
        self._relays = await choose(given)
        relay = self._relays.relay
        options = {**stun_of(given), **(relay.options if relay is not None else {})}
        for transport in self._transports():
            answer_round_trips(transport)
            agent = transport.transport._connection
            for name, value in options.items():  # what RTCIceGatherer itself would have given to its agent
                setattr(agent, name, value)
            agent.query_consent = _until_closed(agent)

    async def _local(self, description: RTCSessionDescription) -> str:
        await self._gather_from()
        await self._usable(self.connection.setLocalDescription(description))
        return with_bitrate(self.connection.localDescription.sdp, *self._bitrate)

    async def _usable(self, step: Any) -> Any:
        """aiortc's exceptions stay here: its parser raises whatever a malformed description makes it raise."""
        try:
            return await step
        except (ConfigError, MediaError):
            raise
        except Exception as error:
            raise MediaError(f"the peers cannot agree: {type(error).__name__}: {error}") from error


def read(sdp: str, *, loopback: bool) -> str:
    """A remote description, `clean`, of which the parser makes sense: others are refused before anything is made for them.

    Raises MediaError.
    """
    text = clean(sdp, loopback=loopback)
    try:
        SessionDescription.parse(text)
    except Exception as error:  # whatever a malformed line makes it raise
        raise MediaError(f"the other peer's description makes no sense: {type(error).__name__}: {error}") from error
    return text


def _until_closed(agent: Any) -> Any:
    """How an ICE agent asks for consent: aioice, closed while it connects, would begin to ask then, and never end."""
    ask = type(agent).query_consent

    async def query_consent() -> None:
        if not getattr(agent, "_closing", False):
            await ask(agent)

    return query_consent


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
