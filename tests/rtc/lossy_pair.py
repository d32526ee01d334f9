"""Two aiortc peers in one process, joined by a network that loses, delays and doubles packets by a seed."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import is_rtcp

from avlab.media.rtc.tap import negotiate_repair

RATE, BLOCK = 48000, 960
FLASH = Fraction(1)  # seconds from flash to flash, each with a beep


class Start:
    """When both tracks begin: when the first of them is asked for a frame."""

    at: float | None = None

    async def frame(self, track: MediaStreamTrack, seconds: float) -> None:
        """Wait until a frame that ends after so many seconds is there."""
        loop, passed = asyncio.get_running_loop(), asyncio.Event()
        self.at = self.at or loop.time()
        loop.call_at(self.at + seconds, passed.set)
        await passed.wait()
        if track.readyState != "live":
            raise MediaStreamError


class Beeps(MediaStreamTrack):
    """20 ms of a 440 Hz tone at a time, with a 1 kHz beep in the first 0.1 s of each second."""

    kind = "audio"

    def __init__(self, start: Start) -> None:
        super().__init__()
        self._start, self._number = start, 0
        t = np.arange(RATE) / RATE
        tone = 0.05 * np.sin(2 * np.pi * 440 * t)
        tone[: RATE // 10] = 0.5 * np.sin(2 * np.pi * 1000 * t[: RATE // 10])
        self._second = np.repeat((tone * 32767).astype(np.int16), 2)

    async def recv(self) -> Any:
        at = self._number % (RATE // BLOCK) * BLOCK * 2
        frame = av.AudioFrame.from_ndarray(self._second[None, at : at + 2 * BLOCK], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._number * BLOCK, Fraction(1, RATE)
        self._number += 1
        await self._start.frame(self, self._number * BLOCK / RATE)
        return frame


class Flashes(MediaStreamTrack):
    """30 pictures a second, white in the first 0.1 s of each second."""

    kind = "video"

    def __init__(self, start: Start, size: tuple[int, int] = (320, 180)) -> None:
        super().__init__()
        self._start, self._number = start, 0
        height, width = size[1], size[0]
        dark = np.full((height * 3 // 2, width), 128, np.uint8)
        dark[:height] = np.arange(width, dtype=np.uint8)[None] // 8 + 16
        white = dark.copy()
        white[:height] = 235
        self._dark, self._white = dark, white

    async def recv(self) -> Any:
        lit = (self._number / 30) % FLASH < 0.1
        frame = av.VideoFrame.from_ndarray(self._white if lit else self._dark, format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, 30)
        self._number += 1
        await self._start.frame(self, self._number / 30)
        return frame


class Network:
    """One direction. ``loss``: share of packets that vanish, media and feedback alike; ``jitter``: seconds of random delay,
    which changes their order; ``twice``: share of packets that come twice. ``cut`` loses everything."""

    def __init__(self, seed: int, loss: float = 0.0, jitter: float = 0.0, twice: float = 0.0) -> None:
        self._random, self.loss, self.jitter, self.twice = random.Random(seed), loss, jitter, twice
        self.cut = False
        self.sent = self.lost = 0
        self._late: deque[asyncio.Task[None]] = deque(maxlen=512)

    def spoil(self, transport: Any) -> None:
        """Put the network behind an ICE transport."""
        send = transport._send

        async def lossy(data: bytes) -> None:
            if not 127 < data[0] < 192:  # STUN and DTLS get through
                return await send(data)
            self.sent += not is_rtcp(data)
            if self.cut or self._random.random() < self.loss:
                self.lost += not is_rtcp(data)
                return None
            for _ in range(1 + (self._random.random() < self.twice)):
                if self.jitter:
                    self._late.append(asyncio.create_task(self._later(send, data)))
                else:
                    await send(data)
            return None

        transport._send = lossy

    async def _later(self, send: Any, data: bytes) -> None:
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(self._random.random() * self.jitter, passed.set)
        await passed.wait()
        try:
            await send(data)
        except ConnectionError:
            return


async def connect(sender: Any, receiver: Any, forth: Network, back: Network, repair: bool = True) -> None:
    """Describe and connect two peers through a network each way. Without ``repair`` the sender does not agree to NACK for Opus."""
    await sender.setLocalDescription(await sender.createOffer())
    offer = sender.localDescription.sdp
    if not repair:
        offer = offer.replace("a=rtcp-fb:96 nack\r\n", "")
    await receiver.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    answer = await receiver.createAnswer()
    for connection, network in ((sender, forth), (receiver, back)):
        for transport in {each.receiver.transport.transport for each in connection.getTransceivers()}:
            network.spoil(transport)
    await receiver.setLocalDescription(answer)
    await sender.setRemoteDescription(RTCSessionDescription(receiver.localDescription.sdp, "answer"))


@asynccontextmanager
async def peers(*, audio: bool = True, video: bool = True, codec: str = "VP8") -> AsyncIterator[tuple[Any, Any]]:
    """A sending and a receiving connection, not connected yet: `connect` them."""
    negotiate_repair()
    policy = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    sender, receiver = RTCPeerConnection(policy), RTCPeerConnection(policy)
    start = Start()
    if audio:
        sender.addTrack(Beeps(start))
    if video:
        sender.addTrack(Flashes(start))
        known = RTCRtpSender.getCapabilities("video").codecs
        sender.getTransceivers()[-1].setCodecPreferences(
            [each for each in known if each.mimeType.endswith((f"/{codec}", "/rtx"))]
        )
    try:
        yield sender, receiver
    finally:
        await asyncio.gather(sender.close(), receiver.close())
