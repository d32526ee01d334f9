"""Opening media files for reading, and what they say about themselves."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av

from avlab.core.errors import MediaError
from avlab.media.location import location

# Tags that are not UTF-8 are no reason to refuse a file; PyAV 19 sees to it by itself.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d{1,9})?)")


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """A stream of a file: the type of its values and how many frames the file announces (0: it does not say)."""

    type: type
    frames: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file holds; ``duration`` in seconds."""

    tracks: dict[str, TrackFacts]
    duration: Fraction | None


def open_input(path: str) -> Any:
    """The opened container. Raises MediaError naming the path: missing, a folder, unreadable, or no media file."""
    found = os.path.abspath(location(path, "FileSource"))
    if not os.path.exists(found):
        raise MediaError(f"no file {path!r}: looked for {found!r}")
    if not os.path.isfile(found):
        raise MediaError(f"{path!r} is not a file but {'a folder' if os.path.isdir(found) else 'something else'}")
    try:
        # A local file must not make FFmpeg open network addresses (playlists can).
        return av.open(found, options={"protocol_whitelist": "file"}, **_LENIENT)
    except av.FFmpegError as error:
        if isinstance(error, PermissionError):
            raise MediaError(f"{path!r} may not be read: check its permissions") from error
        reason = "it is empty" if not os.path.getsize(found) else error.strerror
        raise MediaError(f"{path!r} is not a media file that FFmpeg can read: {reason}") from error


def facts(path: str) -> Facts:
    """What the file holds now. Raises MediaError as `open_input` does."""
    found = os.path.abspath(location(path, "FileSource"))
    try:
        status = os.stat(found)
    except OSError:
        open_input(path).close()
        raise
    return _facts(found, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _facts(path: str, _modified: int, _size: int) -> Facts:
    with open_input(path) as container:
        tracks = {name: TrackFacts(_type(s), s.frames or 0) for name, s in _named(container).items()}
        length = container.duration
    return Facts(tracks, Fraction(length, av.time_base) if length else None)


def chosen(container: Any, path: str, video: bool, audio: bool) -> dict[str, Any]:
    """Streams by track name, ready to be decoded. Raises MediaError when none is of a wanted kind, saying what is there."""
    named = _named(container)
    wanted = {name: s for name, s in named.items() if (video and s.type == "video") or (audio and s.type == "audio")}
    if not wanted:
        kinds = " or ".join(kind for kind, take in (("video", video), ("audio", audio)) if take)
        kinds = kinds or "track that is left with video=False and audio=False"
        raise MediaError(f"{path!r} has no {kinds}; it holds {', '.join(named) or 'no pictures and no sound'}")
    for name, stream in wanted.items():
        if stream.codec_context is None:
            raise MediaError(f"track {name!r} of {path!r} is in a format that this FFmpeg cannot decode")
        stream.thread_type = "AUTO" if stream.type == "video" else "NONE"  # FLAC's threads lose errors at the end
    return wanted


def expected_end(stream: Any) -> Fraction | None:
    """Seconds at which a stream of Matroska or FLAC says that it ends: their readers stop at damage without an error."""
    if stream.container.format.name == "flac" and stream.duration:
        return Fraction(stream.duration * stream.time_base)
    match = _TAG.fullmatch(stream.metadata.get("DURATION", ""))
    if match is None or "matroska" not in stream.container.format.name:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def _named(container: Any) -> dict[str, Any]:
    """Streams of pictures and sound by track name: video, audio, video1, audio1 …"""
    named: dict[str, Any] = {}
    for kind in ("video", "audio"):
        streams = [s for s in getattr(container.streams, kind) if not _is_cover(s)]
        named.update({kind + (str(i) if i else ""): s for i, s in enumerate(streams)})
    return named


def _is_cover(stream: Any) -> bool:
    return av.stream.Disposition.attached_pic in stream.disposition


def _type(stream: Any) -> type:
    kind: type = av.VideoFrame if stream.type == "video" else av.AudioFrame
    return kind
