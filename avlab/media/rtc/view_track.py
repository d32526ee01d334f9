"""Tracks that hand coded media to aiortc, which only packs and sends it, and what the other side answers to them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    unpack_remb_fci,
)

from avlab.media.rtc.encoder import PICTURE_BASE, SOUND_BASE, Coded
from avlab.media.rtc.outgoing import Outgoing, Viewer

_WAITING = {"video": 8, "audio": 25}
_KEY_AGAIN = 0.5
"""Seconds in which one key picture is enough: a browser asks again after 0.2 s, and another one would only be in the first one's way."""
_SETTLING = 3.0  # seconds in which a browser's first estimates are lower than what it can take


class LiveTrack(MediaStreamTrack):
    """Coded media as an aiortc track; made on the loop that it is read on. What the peer does not send in time is dropped."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__()
        self.sent = self.dropped = 0
        self.overrun: Callable[[], None] = lambda: None
        self.seen: Callable[[Coded], None] | None = None
        self.sender: Any = None
        self.origin: int | None = None
        """RTP timestamp of pts 0 on this connection, once known: what a browser sees less this is the stream's time."""
        self._before: int | None = None
        self._home = asyncio.get_running_loop()
        self._queued: deque[Coded] = deque()
        self._read = False
        self._filled = asyncio.Event()

    def push(self, coded: Coded) -> None:
        """One more, from any thread."""
        if not self._home.is_closed():
            self._home.call_soon_threadsafe(self._push, coded)

    def _push(self, coded: Coded) -> None:
        if self.readyState != "live":
            return
        if len(self._queued) >= _WAITING[self.kind]:
            self.dropped += len(self._queued) if self.kind == "video" else 1
            if self.kind == "video":
                self._queued.clear()
                self.overrun()
                if not coded.key:
                    self.dropped += 1
                    return
            else:
                self._queued.popleft()
        self._queued.append(coded)
        self._filled.set()

    async def recv(self) -> av.Packet:
        """The next packet. Raises MediaStreamError when the track was stopped."""
        if not self._read and self.kind == "audio":
            # The connection stands only now. What has come meanwhile would lie in the browser's buffer for many seconds.
            while len(self._queued) > 1:
                self._queued.popleft()
        self._read = True
        while not self._queued:
            if self.readyState != "live":
                raise MediaStreamError
            self._filled.clear()
            await self._filled.wait()
        coded = self._queued.popleft()
        if self.origin is None and self._before is not None:
            # aiortc begins at a random timestamp and tells it to nobody; what it has sent last shows it.
            last = getattr(self.sender, "_RTCRtpSender__rtp_timestamp", None)
            self.origin = None if last is None else (last - self._before) & 0xFFFFFFFF
        self._before = coded.pts
        packet: Any = av.Packet(coded.data)
        packet.pts, packet.time_base = coded.pts, PICTURE_BASE if self.kind == "video" else SOUND_BASE
        self.sent += 1
        if self.seen is not None:
            self.seen(coded)
        return packet

    def stop(self) -> None:
        """End the track. Idempotent."""
        super().stop()
        self._queued.clear()
        self._filled.set()


def attach(
    hub: Outgoing,
    connection: RTCPeerConnection,
    *,
    kinds: Collection[str] = ("video", "audio"),
    rung: int = 0,
    seen: Callable[[Coded], None] | None = None,
) -> Viewer:
    """Send a stream, H.264 and Opus or one of ``kinds``, on a connection that has no description yet; call it on the connection's loop.

    The viewer ends when the connection does. Its `limit` and key pictures follow what the other side reports. seen: called on
    the loop with each picture and block of sound as it is handed to the connection.
    """
    tracks = {kind: LiveTrack(kind) for kind in ("video", "audio") if kind in kinds}
    viewer = hub.viewer(lambda coded: tracks[coded.kind].push(coded) if coded.kind in tracks else None, rung)
    viewer.sound = "audio" in tracks
    next(iter(tracks.values())).on("ended", viewer.close)
    viewer.origins = lambda: {kind: track.origin for kind, track in tracks.items()}
    for track in tracks.values():
        track.seen = seen
        sender = track.sender = connection.addTrack(track)
        if track.kind == "video":
            track.overrun = viewer.ask_key
            transceiver = next(each for each in connection.getTransceivers() if each.sender is sender)
            codecs = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([c for c in codecs if c.mimeType in ("video/H264", "video/rtx")])
            _listen(sender, viewer)
    return viewer


def _listen(sender: Any, viewer: Viewer) -> None:
    """aiortc keeps key picture requests and estimates for its own encoders; here they go to the viewer as well. It sends again all
    that is asked for; here no more than there is room for."""
    handle, loop = sender._handle_rtcp_packet, asyncio.get_running_loop()
    began, resent, asked = loop.time(), Resent(), -_KEY_AGAIN

    async def heard(packet: Any) -> None:
        nonlocal asked
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK and viewer.limit:
            packet.lost = resent.within(viewer.limit, packet.lost, loop.time())
        if isinstance(packet, RtcpPsfbPacket):
            if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                if loop.time() - asked >= _KEY_AGAIN:
                    asked = loop.time()
                    viewer.ask_key()
            elif packet.fmt == RTCP_PSFB_APP and loop.time() - began > _SETTLING:
                viewer.limit = _estimate(packet.fci) or viewer.limit
        await handle(packet)

    sender._handle_rtcp_packet = heard


class Resent:
    """Keeps what is sent again within a share of what the other side can take: a narrow network would carry nothing else, and the more is
    lost the more. What is not sent again is made up for by a key picture."""

    SHARE, LEAST, PACKET = 0.5, 10, 1200 * 8  # of the limit; packets a second; bits of one

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def within(self, limit: int, lost: list[int], now: float) -> list[int]:
        """Those of the packets that may be sent again now."""
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        room = max(self.LEAST, int(limit * self.SHARE / self.PACKET)) - len(self._times)
        granted = lost[: max(0, room)]
        self._times.extend([now] * len(granted))
        return granted


def _estimate(message: bytes) -> int | None:
    try:
        bits, _ = unpack_remb_fci(message)
    except ValueError:  # another application's message
        return None
    return int(bits)
