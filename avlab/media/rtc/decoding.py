"""A track's decoder: on a thread of its own, between two bounded channels, so that no event loop ever waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame

from avlab.core.channel import ChannelClosed, Sender, open_channel
from avlab.core.channel import Receiver as Inlet
from avlab.media.rtc.concealment import Repetition, opus_duration, opus_frame, opus_lost
from avlab.media.rtc.jitter import Encoded
from avlab.media.rtc.plain import PLAIN, samples

WAITING = 64
"""Encoded frames that wait for the decoder at most."""

MOST_PIXELS = 1 << 25
"""Of a picture, as large as 8K: what says that it is larger shall not take all memory of this process."""

Deliver = Callable[[Any, Encoded], None]


class Decoding:
    """Decodes what `put` takes and calls ``deliver(frame, encoded)`` for each frame, on its thread.

    ``failed()`` is called, there as well, when a frame cannot be decoded. Frames carry pts and time base of the track.
    """

    def __init__(self, name: str, rate: int, deliver: Deliver, failed: Callable[[], None]) -> None:
        self._base = Fraction(1, rate)
        self._deliver, self._failed = deliver, failed
        self._decoder: Any = None
        self._codec = ""
        self._last = b""
        self._repetition: Repetition | None = None
        self.errors = 0
        channel: tuple[Sender[Encoded], Inlet[Encoded]] = open_channel(WAITING)
        self._jobs, self._taken = channel
        self._thread = threading.Thread(target=self._run, name=f"avlab:decode {name}", daemon=True)
        self._thread.start()

    def put(self, encoded: Encoded) -> bool:
        """Decode a frame later; False, at once, when too many wait. One thread alone may call this."""
        if self._jobs.statistics().waiting >= WAITING:
            return False
        self._jobs.send(encoded)
        return True

    def finish(self) -> None:
        """Decode what waits, then end the thread; blocks until it has."""
        self._jobs.close()
        self._thread.join(2.0)

    def close(self) -> None:
        """Drop what waits and end the thread, after the frame that it works on. Idempotent."""
        self._taken.close()
        self._jobs.close()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            for encoded in self._taken:
                try:
                    for frame in self._frames(encoded):
                        frame.pts, frame.time_base = encoded.ticks, self._base
                        self._deliver(frame, encoded)
                except (av.FFmpegError, ValueError):
                    self.errors += 1
                    self._failed()
        except ChannelClosed:  # nobody takes the frames any more
            return

    def _frames(self, encoded: Encoded) -> Iterator[Any]:
        if encoded.data is None:
            yield from self._concealed(encoded)
            return
        if encoded.codec.name != self._codec:
            make = PLAIN.get(encoded.codec.name, get_decoder)
            self._decoder, self._codec, self._repetition = make(encoded.codec), encoded.codec.name, None
            if isinstance(context := getattr(self._decoder, "codec", None), av.VideoCodecContext):
                context.options = {"max_pixels": str(MOST_PIXELS)}
        self._last = encoded.data or self._last
        for frame in self._decoder.decode(JitterFrame(encoded.data, encoded.ticks)):
            yield self._heard(frame) if isinstance(frame, av.AudioFrame) and self._codec != "opus" else frame

    def _concealed(self, encoded: Encoded) -> Iterator[Any]:
        if self._codec == "opus":
            packet = opus_lost(self._last)
            parts = []
            for _ in range(max(1, encoded.duration // opus_frame(packet))):
                parts += self._decoder.decode(JitterFrame(packet, encoded.ticks))
            yield parts[0] if len(parts) == 1 else _joined(parts)
        elif self._repetition is not None:
            samples = round(encoded.duration * self._base * self._rate)
            yield _frame(self._repetition.lost(samples), self._layout, self._rate)

    def _heard(self, frame: Any) -> Any:
        self._rate, self._layout = frame.sample_rate, frame.layout.name
        if self._repetition is None:
            self._repetition = Repetition(self._rate)
        block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
        return _frame(self._repetition.heard(block), self._layout, self._rate)


def duration(codec: Any, payload: bytes) -> int:
    """Ticks of sound in a packet. Raises ValueError for one that holds none: waiting for what follows it would never end."""
    if codec.name == "opus":
        return opus_duration(payload)
    if codec.name in PLAIN:
        return samples(codec, payload)
    if not payload:
        raise ValueError("a packet without sound")
    return len(payload)  # G.711 and G.722: one byte for each tick of their 8 kHz RTP clock (RFC 3551, 4.5)


def _joined(frames: list[Any]) -> Any:
    return _frame(
        np.concatenate([f.to_ndarray().reshape(-1, f.layout.nb_channels) for f in frames]),
        frames[0].layout.name,
        frames[0].sample_rate,
    )


def _frame(block: Any, layout: str, rate: int) -> Any:
    frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate = rate
    return frame
