"""The lowest rung of a source in the browser: its coded pictures and sound as messages, on the way that packets take.

The browser numbers them and times them with its own clocks, as a sender of RTP does, so order, jitter, alignment and a change
to a connection and back are those of the lanes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from aiortc.rtcrtpparameters import RTCRtpCodecParameters as Codec

from avlab.media.rtc.lane import Lane
from avlab.media.rtc.receive import Receiver

LARGEST = 8 << 20
"""Bytes of one picture or block of sound."""
CODECS = {
    ("video", "h264"): Codec("video/H264", 90_000),
    ("video", "jpeg"): Codec("video/JPEG", 90_000),
    ("audio", "opus"): Codec("audio/opus", 48_000, 2),
    ("audio", "s16"): Codec("audio/S16", 48_000, 2),
}
_KINDS = {"picture": "video", "sound": "audio"}
_REPORT = 25  # pictures or blocks from one report of the page's clock to the next


class MessageInlet:
    """Feeds the tracks of a receiver with what one view sends, until a connection does. On the media loop only.

    ``answer`` carries to the view: ``ack``, for each message that has come, so that it sends no more than arrive, and ``key``
    when a picture is wanted that needs no other.
    """

    def __init__(self, receiver: Receiver, tracks: Sequence[str], answer: Callable[[dict[str, Any]], None]) -> None:
        self._receiver, self._tracks, self._answer = receiver, tracks, answer
        self._lanes: dict[str, Lane] = {}
        self._source = random.getrandbits(32)
        self.count = 0
        """How many have come."""

    @property
    def feeding(self) -> bool:
        """Whether messages feed any track still."""
        return any(lane.feeder is self for lane in self._lanes.values())

    def take(self, message: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        """A picture, or blocks of sound in a row; ``n`` is the number of the first. What is malformed is ignored."""
        kind = _KINDS[message["type"]]
        codec = CODECS.get((kind, str(message.get("form"))))
        number, at, page = message.get("n"), message.get("at"), message.get("page")
        if kind not in self._tracks or codec is None or not isinstance(number, int):
            return
        self._answer({"type": "ack", "track": kind, "n": number})
        times: list[Any] = at if isinstance(at, list) else [at]
        lane = self._lane(kind)
        if lane.feeder is not self or len(times) != len(buffers) or not all(map(_is_time, times)) or not _is_time(page):
            return
        self.count += 1
        ticks = [round(time * codec.clockRate / 1000) & 0xFFFFFFFF for time in times]
        for order, (timestamp, data) in enumerate(zip(ticks, buffers, strict=True)):
            if 0 < len(data) <= LARGEST:
                key = bool(message.get("key")) or codec.name == "JPEG"
                lane.take(self._source, (number + order) & 0xFFFF, timestamp, bytes(data), codec, key=kind == "video" and key)
        if number % _REPORT < len(times):
            lane.report(self._source, int((1 + page / 1000) * (1 << 32)), ticks[0])

    def _lane(self, kind: str) -> Lane:
        lane = self._lanes.get(kind)
        if lane is None:
            lane = self._lanes[kind] = self._receiver.lane(kind, kind)
            lane.feeder = self
        return lane

    async def ask_for_key(self, ssrc: int) -> None:
        """A picture could not be decoded, or is the first of its kind."""
        self._answer({"type": "key"})

    async def ask_again(self, ssrc: int, sequences: Sequence[int]) -> None:
        """Messages are not lost on the way."""


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value < 1e15
