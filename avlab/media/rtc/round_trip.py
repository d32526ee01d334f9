"""Round trips for who only receives: extended reports (RFC 3611), which aiortc does not know.

A browser that sends no media learns the round trip from nothing else. Chromium then takes it for 100 ms and waits as long before it
asks for a lost packet again, which is seen as a pause of the picture wherever the first request or its answer is lost too.
"""

from __future__ import annotations

import struct
from typing import Any

from aiortc.codecs import CODECS
from aiortc.rtcrtpparameters import RTCRtcpFeedback

from avlab.core.clock import Clock, monotonic

RRTR = RTCRtcpFeedback(type="rrtr")
"""How descriptions say that receivers send their time (not registered, but what libwebrtc reads)."""
_EXTENDED, _TIME, _ANSWER = (
    207,
    4,
    5,
)  # packet type XR; blocks: receiver reference time, and the delay since the last one
_HEAD, _BLOCK = struct.Struct(">BBHI"), struct.Struct(">BBH")
_MOST = 31  # answers to one packet


def negotiate_round_trips() -> None:
    """Let the descriptions of this process say that such reports are answered. Idempotent."""
    for codec in (*CODECS["audio"], *CODECS["video"]):
        if RRTR not in codec.rtcpFeedback:
            codec.rtcpFeedback.append(RRTR)


def answer_round_trips(transport: Any, clock: Clock = monotonic) -> None:
    """Answer the times that receivers send over an aiortc DTLS transport. Malformed reports are not answered."""
    handle = transport._handle_rtcp_data

    async def heard(data: bytes) -> None:
        came = clock()
        await handle(data)
        references = _references(data)
        if references:
            await transport._send_rtp(_answer(references, clock() - came))

    transport._handle_rtcp_data = heard


def _references(data: bytes) -> list[tuple[int, int]]:
    """(SSRC of the receiver, middle 32 bits of its NTP time) of each receiver reference time in a compound packet."""
    found = []
    while len(data) >= 4:
        kind, size = data[1], 4 * (int.from_bytes(data[2:4], "big") + 1)
        packet, data = data[:size], data[size:]
        if kind != _EXTENDED or len(packet) < size or size < _HEAD.size:
            continue
        ssrc, blocks = int.from_bytes(packet[4:8], "big"), packet[8:]
        while len(blocks) >= _BLOCK.size:
            form, _, length = _BLOCK.unpack_from(blocks)
            block, blocks = blocks[4 : 4 + 4 * length], blocks[4 + 4 * length :]
            if form == _TIME and len(block) == 8:
                found.append((ssrc, int.from_bytes(block[2:6], "big")))
    return found[:_MOST]


def _answer(references: list[tuple[int, int]], held: int) -> bytes:
    """The report that says how long each time was held, in nanoseconds; on the wire in 1/65536 s."""
    delay = min((held << 16) // 1_000_000_000, 0xFFFFFFFF)
    parts = b"".join(struct.pack(">III", ssrc, time, delay) for ssrc, time in references)
    block = _BLOCK.pack(_ANSWER, 0, len(parts) // 4) + parts
    return _HEAD.pack(0x80, _EXTENDED, (_HEAD.size + len(block)) // 4 - 1, references[0][0] ^ 1) + block
