"""Tap: the one place that reaches into aiortc's receiver, to put our own jitter buffer in the place of its own.

aiortc keeps on doing what it does well before that point (SRTP, RTX, the first NACK, bandwidth estimates, receiver
reports); its decoder never gets anything. A release of aiortc that looks different inside is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import aiortc
from aiortc import RTCRtpReceiver
from aiortc.codecs import CODECS as KNOWN
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtcpFeedback
from aiortc.rtp import RtcpSrPacket

from avlab.core.errors import MediaError

BUFFER = "_RTCRtpReceiver__jitter_buffer"
CODECS = "_RTCRtpReceiver__codecs"
METHODS = ("_handle_rtcp_packet", "_send_rtcp_pli", "_send_rtcp_nack")

OnPacket = Callable[[Any, Any], None]
OnReport = Callable[[int, int, int], None]


NACK = RTCRtcpFeedback(type="nack")


def negotiate_repair() -> None:
    """Let the descriptions of this process agree that lost Opus packets are sent again when asked for (``a=rtcp-fb:… nack``).

    aiortc's sender does so anyway, but its table of codecs, the only place to say it, has that for video alone. Idempotent.
    """
    for codec in KNOWN["audio"]:
        if codec.name == "opus" and NACK not in codec.rtcpFeedback:
            codec.rtcpFeedback.append(NACK)


def sends_again(codec: Any) -> bool:
    """Whether the sender has agreed to send again what is lost."""
    return NACK in codec.rtcpFeedback


class Tap:
    """Calls ``packet(packet, codec)`` for each RTP packet of a receiver, with ``packet._data`` its part of the frame, and
    ``report(ssrc, ntp, rtp)`` for each sender report, on the loop of the connection.

    Raises MediaError when aiortc has changed inside.
    """

    def __init__(self, receiver: RTCRtpReceiver, packet: OnPacket, report: OnReport) -> None:
        known = [hasattr(getattr(receiver, BUFFER, None), "add"), isinstance(getattr(receiver, CODECS, None), dict)]
        known += [callable(getattr(receiver, name, None)) for name in METHODS]
        if not all(known):
            raise MediaError(
                f"aiortc {aiortc.__version__} keeps incoming packets in another way than avlab knows: install aiortc 1.16"
            )
        self._receiver, self._packet, self._report = receiver, packet, report
        self._stock, self._codecs = getattr(receiver, BUFFER), getattr(receiver, CODECS)
        self._handle = receiver._handle_rtcp_packet
        setattr(receiver, BUFFER, self)
        receiver._handle_rtcp_packet = self._rtcp  # type: ignore[method-assign]

    def add(self, packet: Any) -> tuple[bool, None]:
        """What aiortc calls in the place of its jitter buffer: no picture is lost, no frame is whole."""
        self._packet(packet, self._codecs[packet.payload_type])
        return False, None

    async def _rtcp(self, packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            self._report(packet.ssrc, packet.sender_info.ntp_timestamp, packet.sender_info.rtp_timestamp)
        await self._handle(packet)

    async def ask_for_key(self, ssrc: int) -> None:
        """Picture loss indication (RFC 4585, 6.3.1)."""
        await self._receiver._send_rtcp_pli(ssrc)

    async def ask_again(self, ssrc: int, sequences: Sequence[int]) -> None:
        """Generic NACK (RFC 4585, 6.2.1)."""
        await self._receiver._send_rtcp_nack(ssrc, sorted(sequence & 0xFFFF for sequence in sequences))

    async def ended(self) -> None:
        """Wait until the sender said goodbye or the connection is closed."""
        try:
            while True:
                await self._receiver.track.recv()  # nothing comes but the end
        except MediaStreamError:
            return

    def remove(self) -> None:
        """Give the receiver back what it had. Idempotent."""
        setattr(self._receiver, BUFFER, self._stock)
        vars(self._receiver).pop("_handle_rtcp_packet", None)


def begins_key(codec: str, payload: bytes) -> bool:
    """Whether a picture that needs no other begins in this packet: VP8 by its frame header (RFC 7741, 4.3), H.264 by its
    sequence parameters (RFC 6184, 5). Malformed packets begin nothing."""
    if codec == "VP8":
        try:
            descriptor, data = VpxPayloadDescriptor.parse(payload)
        except ValueError:
            return False
        return bool(descriptor.partition_start and not descriptor.partition_id and data and not data[0] & 1)
    if codec == "H264" and payload:
        kind = payload[0] & 31
        return kind == 7 or (kind == 24 and 7 in _aggregated(payload))
    return False


def _aggregated(payload: bytes) -> list[int]:
    kinds, at = [], 1
    while at + 2 < len(payload):
        kinds.append(payload[at + 2] & 31)
        at += 2 + int.from_bytes(payload[at : at + 2], "big")
    return kinds
