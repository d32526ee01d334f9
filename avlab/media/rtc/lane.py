"""Lane: one remote track on its way from packets to items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Any, Protocol

from avlab.core.clock import Clock
from avlab.core.item import Item, Stamp
from avlab.media.rtc.decoding import Decoding, duration
from avlab.media.rtc.jitter import AudioBuffer, Counts, Encoded, Packet
from avlab.media.rtc.pictures import VideoBuffer
from avlab.media.rtc.repair import Repairs
from avlab.media.rtc.tap import begins_key, sends_again
from avlab.media.rtc.timeline import Origin, Timeline


@dataclass(frozen=True, slots=True)
class TrackStatistics:
    """A track since its beginning; times in seconds. ``counts`` as in `Counts`, ``delay`` what the jitter buffer adds,
    ``lateness`` from an item's time to its delivery, ``drift`` in parts per million (positive: the sender's clock is fast),
    ``silent`` since the last packet, ``errors`` frames that did not decode, ``overrun`` frames that decoding had no time for."""

    counts: Counts
    jitter: float
    delay: float
    lateness: float | None
    drift: float | None
    silent: float | None
    errors: int
    overrun: int


class Feeder(Protocol):
    """What brings packets to a lane: a `Tap` of a connection, or messages. It takes the lane's requests to the sender."""

    async def ask_for_key(self, ssrc: int) -> None: ...
    async def ask_again(self, ssrc: int, sequences: Sequence[int]) -> None: ...


class Lane:
    """One remote track: timeline, jitter buffer and decoder, kept over reconnects; one `Feeder` at a time brings its packets.

    ``deliver(item)`` is called on the decoder's thread; on the loop ``reported()`` when the sender's clock is known better, and
    ``pace()`` before frames are handed out.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        origin: Origin,
        clock: Clock,
        deliver: Callable[[Item], None],
        reported: Callable[[], None],
        pace: Callable[[], None],
    ) -> None:
        self.name, self.kind = name, kind
        self.timeline: Timeline | None = None
        self.buffer: AudioBuffer | VideoBuffer | None = None
        self.feeder: Feeder | None = None
        self._origin, self._clock, self._deliver = origin, clock, deliver
        self._reported, self._pace = reported, pace
        self._decoding: Decoding | None = None
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ssrc, self._number, self._overrun = 0, 0, 0
        self._ending = False
        self._arrived: float | None = None
        self._lateness: deque[float] = deque(maxlen=32)

    def now(self) -> float:
        """Seconds since the origin."""
        return self._clock() / 1e9 - (self._origin.arrival or 0.0)

    def packet(self, packet: Any, codec: Any) -> None:
        """An RTP packet from the tap of a connection."""
        key = self.kind == "video" and begins_key(codec.name, packet.payload)
        place = packet.ssrc, packet.sequence_number, packet.timestamp
        self.take(*place, packet._data, codec, marker=bool(packet.marker), key=key)

    def take(
        self, ssrc: int, sequence: int, timestamp: int, data: bytes, codec: Any, *, marker: bool = True, key: bool = False
    ) -> None:
        """A packet: of a picture, whose last one has the ``marker``, or of sound. ``codec`` says what is in it, as aiortc does."""
        arrival = self._clock() / 1e9
        if self.timeline is None:
            self._begin(codec.clockRate)
        assert self.timeline is not None and self.buffer is not None
        if codec.clockRate != self.timeline.rate:
            return
        place = self.timeline.place(ssrc, sequence, timestamp, arrival)
        if place is None:
            return
        self._ssrc, self._arrived = ssrc, arrival
        if isinstance(self.buffer, AudioBuffer) and sends_again(codec) != (self.buffer.repairs is not None):
            self.buffer.repairs = Repairs() if sends_again(codec) else None
        try:
            length = duration(codec, data) if self.kind == "audio" else 0
        except ValueError:
            return
        since = arrival - (self._origin.arrival or 0.0)
        self.buffer.add(Packet(*place, data, since, length, marker, key, codec))
        self._woken.set()

    def report(self, ssrc: int, ntp: int, timestamp: int) -> None:
        """A sender report: NTP and RTP time of one moment."""
        if self.timeline is not None:
            self.timeline.report(ssrc, ntp, timestamp)
            self._reported()

    def _begin(self, rate: int) -> None:
        self.timeline = Timeline(rate, self._origin)
        self.buffer = AudioBuffer(rate) if self.kind == "audio" else VideoBuffer(rate)
        self._decoding = Decoding(self.name, rate, self._decoded, self._failed)

    async def run(self) -> None:
        """Hand frames to the decoder, each at its time, and ask the sender for what is missing; until `end`, or cancelled."""
        while True:
            self._woken.clear()
            wait = await self._step()
            if self._ending and not (self.buffer is not None and self.buffer.waiting):
                break
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                continue
        if self._decoding is not None:
            await asyncio.to_thread(self._decoding.finish)

    def end(self) -> None:
        """No more comes: `run` ends when all that is there has been handed out, each frame at its time, and decoded."""
        self._ending = True
        if isinstance(self.buffer, AudioBuffer):
            self.buffer.ended = True
        self._woken.set()

    async def _step(self) -> float | None:
        """Do what is due; seconds until the next time, or None until a packet comes."""
        if self.buffer is None or self._decoding is None:
            return None
        self._pace()
        now = self.now()
        for encoded in self.buffer.pop(now):
            if not self._decoding.put(encoded):
                self._overrun += 1
                self._lose()
        key, missing = isinstance(self.buffer, VideoBuffer) and self.buffer.wants_key(now), self.buffer.missing(now)
        if self.feeder is not None and key:
            await self.feeder.ask_for_key(self._ssrc)
        if self.feeder is not None and missing:
            await self.feeder.ask_again(self._ssrc, missing)
        due = self.buffer.due()
        return None if due is None else max(0.0, due - self.now())

    def _lose(self) -> None:
        if isinstance(self.buffer, VideoBuffer):
            self.buffer.lose()
        self._woken.set()

    def _failed(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._lose)
        except RuntimeError:  # the loop has ended, and this track with it
            return

    def _decoded(self, frame: Any, encoded: Encoded) -> None:
        assert self.timeline is not None
        base = Fraction(1, self.timeline.rate)
        self._lateness.append(self.now() - encoded.ticks / self.timeline.rate)
        stamp = Stamp("arrival", round((encoded.arrival + (self._origin.arrival or 0.0)) * 1e9))
        self._deliver(Item(frame, encoded.ticks, base, self.name, self._number, (stamp,)))
        self._number += 1

    def move(self, seconds: float) -> None:
        """The timeline was moved later by so much."""
        assert self.buffer is not None
        self.buffer.delay.move(seconds)

    @property
    def lateness(self) -> float | None:
        """Seconds from an item's time to its delivery, the median of the newest."""
        return median(list(self._lateness)) if self._lateness else None

    def statistics(self) -> TrackStatistics:
        """Figures of this track; may be called from any thread."""
        buffer, timeline, decoding = self.buffer, self.timeline, self._decoding
        silent = None if self._arrived is None else self._clock() / 1e9 - self._arrived
        if buffer is None or timeline is None or decoding is None:
            return TrackStatistics(Counts(), 0.0, 0.0, None, None, silent, 0, 0)
        return TrackStatistics(
            buffer.counts,
            buffer.delay.jitter,
            buffer.delay.added,
            self.lateness,
            timeline.drift.ppm,
            silent,
            decoding.errors,
            self._overrun,
        )

    def close(self) -> None:
        """End the decoder's thread. Idempotent."""
        self.feeder = None
        if self._decoding is not None:
            self._decoding.close()
