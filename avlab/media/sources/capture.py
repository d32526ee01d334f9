"""CaptureSource: cameras, microphones, screens and network streams, live."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from typing import Any, ClassVar

import av

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError, MediaError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.sources.devices import Device, device, open_device

SOONEST, LATEST = 0.2, 5.0
"""Seconds before the first and, doubling, between the later attempts to reopen."""
OPENING = 10.0
"""Seconds that opening may take."""


class CaptureSource(Node):
    """Reads a device or stream as it happens: items of av.VideoFrame (track ``video``) and av.AudioFrame (``audio``).

    device: ``rtsp://…`` (also rtsps, rtmp, srt, udp, http, https), ``/dev/video0`` or ``v4l2:…``, ``alsa:default``,
    ``pulse:…``, ``screen`` (X11) or ``x11grab::0.0``, ``kmsgrab:``; or the path of a file, which is read at its own pace.
    video, audio: whether to take tracks of the kind. size, rate: what a camera or screen is asked for, pixels and pictures
    per second. options: further options of FFmpeg's input. silence: seconds without anything after which the stream counts
    as broken. patience: seconds for which a broken stream is reopened, again and again, before the source gives up; 0: never.

    It is a live source: where the pipeline is slower, the newest picture is kept. pts begin at 0 and go on over
    interruptions, which are as long in them as they were. Frames that do not decode are left out (``damaged``);
    ``reconnects`` counts interruptions. Raises ConfigError for a name that is none, MediaError naming device and remedy when
    it cannot be opened at first, or when patience is at its end.
    """

    device: str | os.PathLike[str]
    video: bool = True
    audio: bool = True
    size: tuple[int, int] | None = None
    rate: float | None = None
    options: Mapping[str, str] | None = None
    silence: float = 2.0
    patience: float = 30.0

    live: ClassVar[Mapping[str, int]] = {"audio": 50}

    _clock: Clock = staticmethod(monotonic)
    _stopped = threading.Event()
    damaged = 0
    reconnects = 0

    @property
    def produces(self) -> tuple[type, ...]:
        """Types of the values that may come."""
        return tuple(self.tracks().values())

    def tracks(self) -> dict[str, type]:
        """Name of each track that may come and the type of its values; asks no device."""
        types = {"video": av.VideoFrame, "audio": av.AudioFrame}
        kinds = [kind for kind in device(self.device).kinds if getattr(self, kind)]
        if not kinds:
            raise ConfigError(f"CaptureSource({self.device!r}) takes neither video nor audio of that device")
        return {kind: types[kind] for kind in kinds}

    def open(self) -> None:
        """Begin anew. Raises ConfigError."""
        self.tracks()
        for name, least in (("silence", 0.001), ("patience", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ConfigError(f"{name} of CaptureSource is {value!r}: it is a number of seconds")
        self._stopped = threading.Event()
        self.damaged = self.reconnects = 0

    def cancel(self) -> None:
        """End soon: at once while waiting to reopen, else with the next frame or silence."""
        self._stopped.set()

    close = cancel

    def items(self) -> Iterator[Item]:
        """The items as they come, until the source is stopped; a file ends by itself."""
        found, line = device(self.device), _Line(self._clock)
        since, wait, opened = self._clock(), SOONEST, False
        while not self._stopped.is_set():
            try:
                with closing(open_device(found, self._asked(found), OPENING, self.silence)) as container:
                    opened = True
                    line.begin()
                    for item in self._read(container, line, found):
                        since, wait = self._clock(), SOONEST
                        yield item
                        if self._stopped.is_set():
                            return
                reason = MediaError(f"{found.shown!r} has ended")
            except MediaError as error:
                reason = error
            if found.ends and opened and str(reason).endswith("has ended"):
                return
            left = self.patience - (self._clock() - since) / 1e9
            if not opened or left <= 0:
                if opened:
                    reason.add_note(
                        f"it was reopened for {self.patience:g} s: CaptureSource(…, patience=…) waits longer"
                    )
                raise reason
            self.reconnects += 1
            self._stopped.wait(min(wait, left))
            wait = min(2 * wait, LATEST)

    def _asked(self, found: Device) -> dict[str, str]:
        asked = {}
        if found.format in ("v4l2", "x11grab", "kmsgrab"):
            if self.size is not None:
                asked["video_size"] = f"{self.size[0]}x{self.size[1]}"
            if self.rate is not None:
                asked["framerate"] = str(self.rate)
        return asked | {str(name): str(value) for name, value in (self.options or {}).items()}

    def _read(self, container: Any, line: _Line, found: Device) -> Iterator[Item]:
        streams = [
            next(iter(getattr(container.streams, kind)), None) for kind in ("video", "audio") if getattr(self, kind)
        ]
        wanted = [stream for stream in streams if stream is not None and stream.codec_context is not None]
        if not wanted:
            raise MediaError(f"{found.shown!r} gives nothing that is wanted: it has no pictures or sound of that kind")
        packets = container.demux(wanted)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                reason = "nothing came" if isinstance(error, av.error.ExitError) else error.strerror
                raise MediaError(f"{found.shown!r} broke off: {reason}") from None
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                item = line.item(frame, packet.stream.type)
                if item is None:
                    continue
                if found.ends and self._stopped.wait(max(0.0, line.ahead(item))):
                    return
                yield item


class _Line:
    """One line of time over all openings: each begins at the moment at which it gives its first frame."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started: int | None = None
        self._bases: dict[str, Fraction] = {}
        self._last: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """The device was opened."""
        self._shift: Fraction | None = None

    def item(self, frame: Any, track: str) -> Item | None:
        """The frame as an item, later than the one before it on its track; None for one from before the first frame of all."""
        now = self._now()
        base = (
            Fraction(frame.time_base.numerator, frame.time_base.denominator) if frame.time_base else Fraction(1, 90000)
        )
        time = now
        if frame.pts is not None:
            if self._shift is None:
                self._shift = now - frame.pts * base
            time = frame.pts * base + self._shift
            if time < 0:
                return None
        unit = self._bases.setdefault(track, base)
        pts = max(round(time / unit), self._last.get(track, -1) + 1)
        number = self._numbers.get(track, 0)
        self._last[track], self._numbers[track] = pts, number + 1
        frame.pts, frame.time_base = pts, unit
        return Item(frame, pts, unit, track, number)

    def ahead(self, item: Item) -> float:
        """Seconds until the item's time has come."""
        return float((item.pts or 0) * item.time_base - self._now())

    def _now(self) -> Fraction:
        now = self._clock()
        if self._started is None:
            self._started = now
        return Fraction(now - self._started, 1_000_000_000)
