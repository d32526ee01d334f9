"""Receivers that send no media learn the round trip: their reference times (RFC 3611, 4.4) are answered (4.5)."""

import asyncio
import random
import struct

import pytest

from avlab.media.rtc.round_trip import answer_round_trips

REPORT = bytes.fromhex("81c90007") + bytes(28)  # a receiver report, which stands first in what Chromium sends


def reference(ssrc: int, ntp: int, kind: int = 4) -> bytes:
    block = struct.pack(">BBHQ", kind, 0, 2, ntp)
    return struct.pack(">BBHI", 0x80, 207, (8 + len(block)) // 4 - 1, ssrc) + block


class Transport:
    """Notes what is handled and sent; handling takes a quarter of a second."""

    def __init__(self) -> None:
        self.handled: list[bytes] = []
        self.sent: list[bytes] = []
        self.now = 0

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self.handled.append(data)
        self.now += 250_000_000

    async def _send_rtp(self, data: bytes) -> None:
        self.sent.append(data)


def answers(*packets: bytes) -> list[bytes]:
    transport = Transport()
    answer_round_trips(transport, lambda: transport.now)
    for packet in packets:
        asyncio.run(transport._handle_rtcp_data(packet))
    assert transport.handled == list(packets)
    return transport.sent


def test_a_reference_time_is_answered_with_its_middle_bits_and_how_long_it_was_held() -> None:
    (sent,) = answers(REPORT + reference(0xABCDEF01, 0x1122334455667788))
    head, packet, length, _ = struct.unpack_from(">BBHI", sent)
    assert (head, packet, 4 * (length + 1)) == (0x80, 207, len(sent))
    assert struct.unpack_from(">BBH", sent, 8) == (5, 0, 3)
    assert struct.unpack_from(">III", sent, 12) == (0xABCDEF01, 0x33445566, 1 << 14)  # a quarter of 65536 per second


def test_several_receivers_are_answered_at_once_and_a_flood_is_not() -> None:
    (sent,) = answers(b"".join(reference(n, n << 16) for n in range(100)))
    assert len(sent) == 8 + 4 + 31 * 12


@pytest.mark.parametrize(
    "packet", [b"", REPORT, reference(1, 2, kind=7), reference(1, 2)[:-1], b"\x80\xcf\xff\xff" + bytes(8)]
)
def test_what_is_no_reference_time_is_not_answered(packet: bytes) -> None:
    assert answers(packet) == []


def test_noise_is_not_answered_wrongly() -> None:
    dice = random.Random(1)
    for _ in range(500):
        for sent in answers(dice.randbytes(1) + b"\xcf\0\x09" + dice.randbytes(36)):
            assert sent[1] == 207 and len(sent) % 4 == 0
