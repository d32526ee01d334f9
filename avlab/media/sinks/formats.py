"""What FileSink writes for each extension, and how encoders are chosen and set."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from avlab.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Format:
    """Encoders by default (None: the format cannot hold the kind), muxer and its options; ``still``: one picture."""

    video: str | None
    audio: str | None
    muxer: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    still: bool = False


_FAST_START = (("movflags", "+faststart"),)
_ONE_PICTURE = (("update", "1"),)

FORMATS = {
    "mp4": Format("libx264", "aac", options=_FAST_START),
    "m4v": Format("libx264", "aac", "mp4", _FAST_START),
    "mov": Format("libx264", "aac", options=_FAST_START),
    "mkv": Format("libx264", "aac"),
    "ts": Format("libx264", "aac"),
    "webm": Format("libvpx-vp9", "libopus"),
    "gif": Format("gif", None),
    "png": Format("png", None, "image2", _ONE_PICTURE, still=True),
    "jpg": Format("mjpeg", None, "image2", _ONE_PICTURE, still=True),
    "jpeg": Format("mjpeg", None, "image2", _ONE_PICTURE, still=True),
    "wav": Format(None, "pcm_s16le"),
    "mp3": Format(None, "libmp3lame"),
    "flac": Format(None, "flac"),
    "m4a": Format(None, "aac", "mp4", _FAST_START),
    "ogg": Format(None, "libopus"),
    "opus": Format(None, "libopus"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What FileSink's parameters say about encoding; see there."""

    path: str
    format: Format
    video_codec: str | None = None
    audio_codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    video_bitrate: int | None = None
    audio_bitrate: int | None = None
    pixel_format: str | None = None
    fps: Fraction | None = None
    rate: int | None = None


def format_of(path: str) -> Format:
    """The format that a path's extension asks for. Raises ConfigError listing those known."""
    extension = os.path.splitext(path)[1].lstrip(".").lower()
    found = FORMATS.get(extension)
    if found is None:
        raise ConfigError(f"FileSink cannot tell the format of {path!r}: end it in one of .{', .'.join(FORMATS)}")
    return found


def encoder(name: str, kind: str) -> Any:
    """The av.Codec of an encoder or codec name. Raises ConfigError with close matches when there is none of the kind."""
    try:
        codec = av.Codec(name, "w")
    except ValueError:  # UnknownCodecError
        close = difflib.get_close_matches(name, av.codecs_available, 3, 0.5)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise ConfigError(f"no encoder is named {name!r} in FFmpeg {av.ffmpeg_version_info}{hint}") from None
    if codec.type != kind:
        raise ConfigError(f"{name!r} encodes {codec.type}, it was given for {kind}")
    return codec


def video_options(name: str, settings: Settings) -> dict[str, str]:
    """Options of a video encoder: constant quality unless a bitrate is asked for, faster than the encoders' defaults."""
    options: dict[str, str] = {}
    if name in ("libx264", "libx265"):
        options["preset"] = settings.preset or "veryfast"
    elif name in ("libvpx", "libvpx-vp9"):
        options.update({"deadline": "realtime", "cpu-used": settings.preset or "7", "row-mt": "1"})
    elif settings.preset is not None:
        options["preset"] = settings.preset
    quality = settings.crf
    if quality is None and settings.video_bitrate is None:
        quality = {"libx264": 21, "libx265": 25, "libvpx-vp9": 32, "libvpx": 10}.get(name)
    if quality is not None:
        options["crf"] = str(quality)
    return options


def pixel_format(codec: Any, source: str, settings: Settings) -> str:
    """The pixel format to encode: what was asked for, 8-bit 4:2:0 for codecs of players, else the one closest to the source.

    Raises ConfigError for one that the encoder does not take.
    """
    names: list[str] = [f.name for f in codec.video_formats or ()]
    if settings.pixel_format is not None:
        if names and settings.pixel_format not in names:
            raise ConfigError(
                f"{codec.name} does not take pixel format {settings.pixel_format!r}; it takes {', '.join(names)}"
            )
        return settings.pixel_format
    usual = "yuvj420p" if codec.name == "mjpeg" else "yuv420p"
    if usual in names and codec.name != "ffv1":
        return usual
    if not names or source in names:
        return source
    best, _ = av.codec.find_best_pix_fmt_of_list(names, source, has_alpha=True)
    return str(best.name if hasattr(best, "name") else best)


def sample_format(codec: Any, source: str) -> str:
    """The sample format to encode: the source's own, its planar or packed twin, or the nearest that loses nothing."""
    names: list[str] = [f.name for f in codec.audio_formats or ()]
    if not names or source in names:
        return source
    twin = next((n for n in names if n.rstrip("p") == source.rstrip("p")), None)
    if twin is not None:
        return twin
    wanted = av.AudioFormat(source).bytes
    widths = sorted(names, key=lambda n: av.AudioFormat(n).bytes)
    return next((n for n in widths if av.AudioFormat(n).bytes >= wanted), widths[-1])


def sample_rate(codec: Any, source: int) -> int:
    """The sample rate to encode: the source's own, or the lowest above it that the encoder takes."""
    rates: list[int] = sorted(codec.audio_rates or (source,))
    return next((rate for rate in rates if rate >= source), rates[-1])
