"""FileSink: writes pictures and sound into a media file."""

from __future__ import annotations

import errno
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from numbers import Rational
from typing import Any

import av

from avlab.core.errors import ConfigError, MediaError, TimingError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.location import location
from avlab.media.sinks.audio import AudioTrack
from avlab.media.sinks.formats import Settings, format_of
from avlab.media.sinks.values import as_frame
from avlab.media.sinks.video import VideoTrack

# While the tracks of the file are not all known, so much encoded media waits: packets, bytes, seconds.
_WAIT_PACKETS, _WAIT_BYTES, _WAIT_SECONDS = 2000, 64 << 20, 10
_MAX_TIMESCALE = 100_000_000
_MAX_INT, _MAX_PTS = (1 << 31) - 1, 1 << 62  # of FFmpeg's rationals; of its times, with room to add
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class FileSink(Node):
    """Writes any mix of tracks of av.VideoFrame, av.AudioFrame and arrays into one file; the extension names the format.

    Items of a track come in order of pts; tracks may be ahead of one another. pts and time bases are kept as exactly as the
    container keeps them (mp4 and mov: as they are; mkv, webm: milliseconds; wav, mp3: no times at all); where they begin
    below 0 all tracks move together. The file appears
    under its name when the stream has ended well (`flush`); until then, and after an error, there is no file.

    path: .mp4 .mov .mkv .ts (H.264, AAC), .webm (VP9, Opus), .wav .mp3 .flac .m4a .ogg .opus, .gif, one .png or .jpg.
    video_codec, audio_codec: names of FFmpeg's encoders in place of the defaults. crf: quality, lower is better.
    preset: speed of the encoder (x264: "veryfast"). video_bitrate, audio_bitrate: bits per second. pixel_format: of the
    encoded pictures (default: yuv420p, which every player shows; odd sizes are scaled to the next even one for H.264).
    fps: rate of pictures that carry no time. rate: sample rate of arrays of sound.

    Raises ConfigError for settings that do not fit together, TimingError for pts that do not increase, and MediaError,
    naming the path, when the file cannot be written (folder, permissions, disk full) or when nothing came.
    """

    path: str
    video_codec: str | None = None
    audio_codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    video_bitrate: int | None = None
    audio_bitrate: int | None = None
    pixel_format: str | None = None
    fps: Any = None
    rate: int | None = None

    _container: Any = None
    _partial: str = ""
    _target: str = ""

    def open(self) -> None:
        """Check the path and claim a partial file next to it."""
        path = location(self.path, "FileSink")
        self._settings = Settings(
            path, format_of(path), self.video_codec, self.audio_codec, self.crf, self.preset,
            self.video_bitrate, self.audio_bitrate, self.pixel_format, self._frame_rate(), self.rate,
        )  # fmt: skip
        self._tracks: dict[str, VideoTrack | AudioTrack] = {}
        self._waiting: list[Any] = []
        self._started = self._early = False
        self._target = os.path.realpath(path)  # a link stays, and what it leads to is written
        folder, name = os.path.split(self._target)
        stem, extension = os.path.splitext(name)
        if os.path.isdir(path):
            raise MediaError(f"cannot write {self.path!r}: it is a folder")
        try:
            partial = os.path.join(folder, f".{stem[:48]}.part-{secrets.token_hex(4)}{extension.lower()}")
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            self._partial = partial
        except OSError as error:
            raise self._unwritable(error) from error
        with self._writing():
            muxer, options = self._settings.format.muxer, dict(self._settings.format.options)
            self._container = av.open(self._partial, "w", format=muxer, container_options=options)

    def expects(self, tracks: Mapping[str, type] | Iterable[str]) -> None:
        """A hint before the first item: the names of the tracks that will come. Writing begins when all of them have."""
        self._expected = frozenset(tracks)

    _expected: frozenset[str] = frozenset()

    def process(self, item: Item) -> None:
        """Encode one item."""
        if self._container is None:
            self.open()
        frame = as_frame(item.value, self.rate)
        base = _base(item) if item.pts is not None else 1 / (self._settings.fps or Fraction(1000))
        with self._writing():
            track = self._tracks.get(item.track)
            if track is None:
                self._early = self._early or (item.pts or 0) < 0
                track = self._tracks[item.track] = self._track(item.track, frame, base)
            if isinstance(track, VideoTrack) != isinstance(frame, av.VideoFrame):
                raise MediaError(
                    f"track {item.track!r} of {self.path!r} carries both pictures and sound: name two tracks"
                )
            self._write(track.encode(frame, item.pts, base))

    def flush(self) -> None:
        """Finish the file and give it its name."""
        if self._container is None or not self._tracks:
            raise MediaError(f"nothing came to be written into {self.path!r}: the stream had no item")
        with self._writing():
            for track in self._tracks.values():
                self._write(track.flush())
            self._start()
            self._container.close()
            os.replace(self._partial, self._target)
            self._container = None

    def close(self) -> None:
        """Drop what is not finished."""
        container, self._container = self._container, None
        self._tracks, self._waiting = {}, []
        if container is not None:
            with suppress(av.FFmpegError, OSError):  # the file is thrown away: what it lacks does not matter
                container.close()
        if self._partial:
            with suppress(FileNotFoundError):
                os.unlink(self._partial)
            self._partial = ""

    def _track(self, name: str, frame: Any, base: Fraction) -> VideoTrack | AudioTrack:
        video = isinstance(frame, av.VideoFrame)
        form = self._settings.format
        if (form.video if video else form.audio) is None:
            kind, flag = ("pictures", "video") if video else ("sound", "audio")
            raise ConfigError(
                f"{self.path!r} cannot hold {kind}: leave track {name!r} out (FileSource(…, {flag}=False))"
            )
        if form.still and self._tracks:
            raise ConfigError(f"{self.path!r} holds one picture of one track; {name!r} is a second track")
        if self._started:
            raise MediaError(
                f"track {name!r} begins after the header of {self.path!r} was written: tell FileSink.expects() before the "
                "first item which tracks will come"
            )
        if video:
            return VideoTrack(self._container, name, self._settings, frame, base)
        return AudioTrack(self._container, name, self._settings, frame)

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if self._started:
                if self._settings.format.still:
                    raise MediaError(f"{self.path!r} holds one picture; more than one came: write a video or .gif")
                self._mux(packet)
                continue
            self._waiting.append(packet)
            if self._complete():
                self._start()

    def _complete(self) -> bool:
        """Whether the tracks are known: all that were announced are here, or enough has been waited for."""
        if self._settings.format.still or (self._expected and self._expected <= self._tracks.keys()):
            return True
        times = [p.dts * p.time_base for p in (self._waiting[0], self._waiting[-1]) if p.dts is not None]
        return (
            len(self._waiting) >= _WAIT_PACKETS
            or sum(p.size for p in self._waiting) >= _WAIT_BYTES
            or (len(times) == 2 and times[1] - times[0] >= _WAIT_SECONDS)
        )

    def _start(self) -> None:
        """Write the header and what has waited for it."""
        if not self._started:
            self._started = True
            waiting, self._waiting = self._waiting, []
            if "movflags" in self._container.container_options:
                self._container.container_options["movie_timescale"] = str(self._timescale())
                if self._early:  # else an mp4 hides what lies before 0; the other formats move it by themselves
                    self._container.container_options["avoid_negative_ts"] = "make_non_negative"
            self._container.start_encoding()
            for packet in waiting:
                self._mux(packet)

    def _mux(self, packet: Any) -> None:
        pts, base = packet.pts, packet.time_base
        try:
            self._container.mux_one(packet)
        except av.FFmpegError as error:
            if error.errno != errno.EINVAL:
                raise
            name = next(name for name, track in self._tracks.items() if track.stream.index == packet.stream_index)
            raise TimingError(
                f"{self.path!r} cannot hold pts {pts} ({float(pts * base):.4f} s) of track {name!r}: {error.strerror}; "
                "is it far from the one before it?"
            ) from error

    def _timescale(self) -> int:
        """Ticks per second that begin and length of every track fall on: an mp4 rounds them to its movie's ticks."""
        common = math.lcm(*(Fraction(track.stream.time_base).denominator for track in self._tracks.values()))
        return common if common <= _MAX_TIMESCALE else 90000

    def _frame_rate(self) -> Fraction | None:
        try:
            rate = None if self.fps is None else Fraction(self.fps).limit_denominator(1 << 20)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ConfigError(f"fps of FileSink is {self.fps!r}, not a number of pictures per second") from error
        if rate is not None and not 0 < rate <= 1000:
            raise ConfigError(f"fps of FileSink is {self.fps!r}: it must be above 0 and at most 1000")
        return rate

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of FFmpeg as ours."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> MediaError:
        number, text = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
        if number in _FULL:
            return MediaError(
                f"cannot write {self.path!r}: the disk is full or a quota is reached ({text}); nothing was kept"
            )
        return MediaError(f"cannot write {self.path!r}: {text}")


def _base(item: Item) -> Fraction:
    """The item's time base. Raises TimingError for a time that no file can hold."""
    base = item.time_base
    where = f"item {item.seq} of track {item.track!r}"
    if not isinstance(base, Rational) or not (0 < base.numerator <= _MAX_INT and base.denominator <= _MAX_INT):
        raise TimingError(f"{where} has time base {base!r}: it must be a fraction above 0 of 32-bit integers")
    if not isinstance(item.pts, int) or abs(item.pts) > _MAX_PTS:
        raise TimingError(f"{where} has pts {item.pts!r}: it must be an integer of at most 62 bits")
    return Fraction(base)
