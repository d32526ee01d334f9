"""FileSource: pictures and sound of a media file."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any

import av

from avlab.core.errors import MediaError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.sources.container import Facts, chosen, expected_end, facts, open_input
from avlab.media.sources.upright import Upright
from avlab.media.stamp import continued

# A file that lacks more than this at its end, in seconds, was cut off.
_MISSING = Fraction(1, 2)
# Sound that begins up to so much before the end of the frame before it, in seconds, was given its time a little too early.
# Times of Vorbis err to both sides, for FFmpeg's reader is wrong where the size of blocks changes.
_JITTER = Fraction(1, 20)
_MISTIMED = "vorbis"


class FileSource(Node):
    """Reads a media file: items of av.VideoFrame and av.AudioFrame in the order in which they are decoded.

    Tracks are named ``video``, ``audio``, then ``video1``, ``audio1`` …; pts and time base are those of the file, but sound
    that would overlap by less than 50 ms goes on where the frame before ended. Pictures are turned and mirrored as the file's
    display matrix asks, and have square pixels (720x576 marked 16:9 comes as 1024x576). Subtitles, data and cover pictures
    are left out.

    path: a local file. video, audio: whether to take tracks of the kind, as far as the file has them. loop: begin again at
    the end, for ever, with pts that go on. tolerant: skip what cannot be decoded and keep pictures with errors.

    Raises MediaError for a missing or unreadable file, one without any track of the wanted kinds, and, after every good
    item before it, for the place where a file is broken or cut off.
    """

    path: str
    video: bool = True
    audio: bool = True
    loop: bool = False
    tolerant: bool = False

    def tracks(self) -> dict[str, type]:
        """Name of each track that will come and the type of its values. Raises MediaError as opening does."""
        return {name: track.type for name, track in self._facts().tracks.items() if self._wanted(name)}

    @property
    def produces(self) -> tuple[type, ...]:
        """Types of the values that will come; probes the file."""
        return tuple(dict.fromkeys(self.tracks().values()))

    @property
    def duration(self) -> float | None:
        """Seconds of one pass as far as the file says so."""
        length = self._facts().duration
        return None if length is None else float(length)

    def total(self) -> int | None:
        """About how many items will come, or None when the file does not say or the source loops."""
        counts = [track.frames for name, track in self._facts().tracks.items() if self._wanted(name)]
        return None if self.loop or not all(counts) else sum(counts)

    def items(self) -> Iterator[Item]:
        """The items; the file is open while the iterator lives."""
        offset = Fraction(0)
        numbers: dict[str, int] = {}
        while True:
            begin: dict[str, Fraction] = {}
            end = offset
            with closing(self._pass(offset, numbers)) as items:
                for item, until in items:
                    end = max(end, until)
                    if item.track not in begin and item.pts is not None:
                        begin[item.track] = item.pts * item.time_base
                    yield item
            if not self.loop:
                return
            if end == offset:
                raise MediaError(f"{self.path!r} holds nothing that could be looped")
            offset += end - min(begin.values())

    def _facts(self) -> Facts:
        return facts(self.path)

    def _wanted(self, name: str) -> bool:
        return self.video if name.startswith("video") else self.audio

    def _pass(self, offset: Fraction, numbers: dict[str, int]) -> Generator[tuple[Item, Fraction], None, None]:
        """One pass over the file: items moved by ``offset`` seconds, each with the time at which it ends."""
        with open_input(self.path) as container:
            streams = {
                s.index: _Track(name, s) for name, s in chosen(container, self.path, self.video, self.audio).items()
            }
            for track, frame in self._frames(container, streams):
                base = _fraction(frame.time_base or track.stream.time_base)
                if frame.pts is None:  # bare H.264 and the like: one after the other at the stream's rate
                    frame.pts = round(max(track.end, offset) / base)
                elif offset:
                    frame.pts += round(offset / base)
                number = numbers.get(track.name, 0)
                numbers[track.name] = number + 1
                item = Item(frame, frame.pts, base, track.name, number)
                track.end = max(track.end, frame.pts * base + _length(frame, track.stream, base))
                yield item, track.end
            for track in () if self.tolerant else streams.values():
                expected = expected_end(track.stream)
                if expected is not None and expected - (track.end - offset) > _MISSING:
                    raise self._broken(track, f"cut off: {float(expected):.2f} s were announced")

    def _frames(self, container: Any, tracks: dict[int, _Track]) -> Iterator[tuple[_Track, Any]]:
        for packet in self._packets(container, tracks):
            track = tracks[packet.stream.index]
            if not packet.size and packet.dts is not None:  # Theora's "as before"; the last packets have no time
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if self.tolerant:
                    continue
                yield from self._rest(tracks)
                raise self._broken(track, f"{error.strerror}") from error
            damaged = not self.tolerant and (packet.is_corrupt or any(frame.is_corrupt for frame in frames))
            for frame in frames:
                if not frame.is_corrupt or self.tolerant:
                    yield from track.shown(frame)
            if damaged:
                yield from self._rest(tracks)
                raise self._broken(track, "damaged or cut off")

    def _packets(self, container: Any, tracks: dict[int, _Track]) -> Iterator[Any]:
        packets = container.demux([track.stream for track in tracks.values()])
        while True:
            try:
                yield next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                furthest = max(tracks.values(), key=lambda track: track.end)
                raise self._broken(furthest, str(error.strerror)) from error

    def _rest(self, tracks: dict[int, _Track]) -> Iterator[tuple[_Track, Any]]:
        """Good frames that the decoders still hold when a file breaks."""
        for track in tracks.values():
            try:
                frames = track.stream.codec_context.decode(None)
            except (
                av.FFmpegError
            ):  # the decoder that met the damage may refuse to go on: the cause is raised by our caller
                continue
            for frame in frames:
                if not frame.is_corrupt:
                    yield from track.shown(frame)

    def _broken(self, track: _Track, reason: str) -> MediaError:
        return MediaError(
            f"{self.path!r} is broken after {float(track.end):.2f} s of track {track.name!r}: {reason} "
            "(FileSource(…, tolerant=True) reads on)"
        )


class _Track:
    """A stream while it is read."""

    def __init__(self, name: str, stream: Any) -> None:
        self.name, self.stream, self.end = name, stream, Fraction(0)
        self._upright = Upright(stream)
        self._sound_end: Fraction | None = None

    def shown(self, frame: Any) -> Iterator[tuple[_Track, Any]]:
        """The frame as it is meant to be seen or heard."""
        if isinstance(frame, av.AudioFrame):
            self._settle(frame)
            yield self, frame
            return
        for upright in self._upright(frame):
            yield self, upright

    def _settle(self, frame: Any) -> None:
        """Let the sound go on where the frame before ended if its time says nearly that."""
        if frame.pts is None or not frame.sample_rate:
            return
        base = _fraction(frame.time_base or self.stream.time_base)
        late = _JITTER if self.stream.codec_context.name == _MISTIMED else Fraction(0)
        begin = continued(frame.pts * base, self._sound_end, base, frame.sample_rate, _JITTER, late)
        if abs(frame.pts * base - begin) > base:
            frame.pts = round(begin / base)
        self._sound_end = begin + _length(frame, self.stream, base)


def _length(frame: Any, stream: Any, base: Fraction) -> Fraction:
    """How long a frame lasts, in seconds."""
    if isinstance(frame, av.AudioFrame):
        return Fraction(frame.samples, frame.sample_rate or 1)
    if frame.duration:
        return Fraction(frame.duration) * base
    return 1 / _fraction(stream.average_rate) if stream.average_rate else Fraction(0)


def _fraction(ratio: Any) -> Fraction:
    return Fraction(ratio.numerator, ratio.denominator)
