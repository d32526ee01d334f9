"""Peer: one WebRTC connection to one other side. It lives on the media runtime's loop; only that loop may touch it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from avlab.core.errors import ConfigError, ConnectError, MediaError
from avlab.media.rtc.policy import MAX_CANDIDATES, clean, servers, usable, with_bitrate

CLOSING = 0.5  # seconds
START, MINIMUM = 2500, 1000  # kbit/s


class Peer:
    """One RTCPeerConnection with avlab's policy; make it on the loop it will live on.

    ``ice_servers``: STUN and TURN servers in the browser's notation, none by default (never a public one by itself).
    ``loopback=False`` refuses loopback and link-local candidates of the other side; addresses of metadata services and
    ``.local`` names are refused always. ``bitrate``: kbit/s at which a browser is asked to start and not to go below.
    """

    def __init__(
        self,
        *,
        ice_servers: Sequence[Mapping[str, Any]] = (),
        loopback: bool = True,
        bitrate: tuple[int, int] = (START, MINIMUM),
    ) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=servers(ice_servers)))
        self._turn = _first_turn(ice_servers)
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
        """``direct``, ``turn udp``, ``turn tcp`` or ``turn tls``; empty before the peers are connected."""
        return self._path

    @property
    def reason(self) -> str:
        """The state and the path in one plain sentence."""
        if self.state == "connected":
            return f"Connected through a relay ({self.path})." if self.path != "direct" else "Connected directly."
        return {
            "new": "Waiting for the other side.",
            "connecting": "Looking for a path to the other side.",
            "failed": "No path to the other side"
            + (
                " (there is no TURN server in ice_servers)."
                if not self._turn
                else ", not through the TURN server either."
            ),
            "closed": "Closed.",
        }[self.state]

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

    async def add_candidate(self, candidate: Mapping[str, Any] | None) -> None:
        """A candidate that came after the description, in the browser's notation; None or an empty one: no more come.

        Refused ones are ignored. Raises MediaError for what is no candidate, and for too many.
        """
        text = (candidate or {}).get("candidate") or ""
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
                        raise ConnectError(f"the peers did not connect: {self.reason}")
                    await self.changed()
        except TimeoutError:
            raise ConnectError(f"the peers did not connect within {within:g} s: {self.reason}") from None

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
            self._closing = asyncio.create_task(self.connection.close())
            self._note()
        await asyncio.wait({self._closing}, timeout=CLOSING)

    def _note(self) -> None:
        if self.connection.connectionState == "connected" and not self._path:
            self._path = self._find_path()
        self._changed.set()
        self._changed = asyncio.Event()

    def _find_path(self) -> str:
        local = next((pair.local_candidate for pair in self._pairs()), None)
        if local is None or local.type != "relay":
            return "direct"
        return "turn " + self._turn

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
        text = clean(sdp, loopback=self._loopback)
        await self._usable(self.connection.setRemoteDescription(RTCSessionDescription(text, kind)))

    async def _local(self, description: RTCSessionDescription) -> str:
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


def _first_turn(ice_servers: Sequence[Mapping[str, Any]]) -> str:
    """How the first TURN server (the only one aiortc uses) is reached: udp, tcp, tls, or empty without one."""
    for server in ice_servers:
        urls = server["urls"]
        for url in [urls] if isinstance(urls, str) else urls:
            if url.startswith("turns:"):
                return "tls"
            if url.startswith("turn:"):
                return "tcp" if "transport=tcp" in url else "udp"
    return ""
