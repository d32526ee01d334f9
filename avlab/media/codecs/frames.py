"""Codecs ``av.VideoFrame``, ``av.AudioFrame`` and ``av.Packet``: planes travel as they are, without encoding.

Not carried: side data (rotation, motion vectors), FFmpeg's metadata and ``opaque``, which PyAV cannot set.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np

from avlab.core.arriving import Arriving, whole
from avlab.core.codec import Codec, Registry
from avlab.core.errors import CodecError
from avlab.core.message import Buffer
from avlab.media.codecs.meta import integer, integers, pack, parse, parts, ratio, tick

MAX_SIDE = 32768
"""Largest width and height of a picture, in pixels."""
MAX_PACKET = 1 << 30
MAX_CHANNELS = 64
MAX_PLANAR = 8
"""AVFrame lists eight planes; PyAV reads past its list for more."""
_COLORS = ("colorspace", "color_range", "color_primaries", "color_trc")
_UNSPECIFIED = 2
_SETTABLE = frozenset(name for name in _COLORS if hasattr(av.VideoFrame, name))  # PyAV 16 lacks the last two


def register(registry: Registry) -> None:
    """Add the codecs of PyAV (entry point ``av`` of ``avlab.codecs``)."""
    registry.register(Codec("av.VideoFrame", (av.VideoFrame,), encode_video, decode_video, follows=True))
    registry.register(Codec("av.AudioFrame", (av.AudioFrame,), encode_audio, decode_audio))
    registry.register(Codec("av.Packet", (av.Packet,), encode_packet, decode_packet))


def encode_video(frame: Any) -> tuple[bytes, Sequence[Buffer]]:
    """Metadata and one buffer for each plane, rows from top to bottom without padding.

    Planes whose rows lie close together are views without a copy; others (cropped or padded) are copied row by row, so that
    nothing beside the picture travels. Raises CodecError for frames in a device's memory.
    """
    name, width, height = frame.format.name, frame.width, frame.height
    planes = _planes(name, width, height)
    if not planes:
        raise CodecError(f"a {name} frame of {width}x{height} cannot travel: reformat it to a software format first")
    fields = {
        "format": name,
        "size": [width, height],
        "pts": frame.pts,
        "dts": frame.dts,
        "base": parts(frame.time_base),
        "duration": frame.duration,
        "colors": [int(getattr(frame, name, _UNSPECIFIED)) for name in _COLORS],
        "picture": int(frame.pict_type),
        "key": bool(frame.key_frame),
    }
    return pack(fields), [_rows(plane, *size) for plane, size in zip(frame.planes, planes, strict=True)]


def decode_video(meta: bytes, buffers: Sequence[memoryview | Arriving]) -> Any:
    """A new frame. Raises CodecError when size, format and planes disagree; nothing is allocated before they agree."""
    fields = parse(meta)
    width, height = integers(fields["size"], 1, MAX_SIDE, "size")
    name = fields["format"]
    if not isinstance(name, str):
        raise CodecError("format is not text")
    planes = _planes(name, width, height)
    if not planes or [b.nbytes for b in buffers] != [line * rows for line, rows in planes]:
        raise CodecError(
            f"planes of {[b.nbytes for b in buffers]} bytes are not a {name[:40]} picture of {width}x{height}"
        )
    timing = tick(fields["pts"]), tick(fields["dts"]), ratio(fields["base"]), tick(fields["duration"])
    colors = integers(fields["colors"], 0, 511, "color")
    picture = integer(fields["picture"], 0, 7, "picture type")
    try:
        frame = av.VideoFrame(width, height, name)
    except (av.FFmpegError, MemoryError) as error:
        raise CodecError(f"no {name} picture of {width}x{height} can be made: {error}") from error
    for plane, (line, rows), source in zip(frame.planes, planes, buffers, strict=True):
        _fill(plane, line, rows, source)
    _set_timing(frame, *timing)
    for color, value in zip(_COLORS, colors, strict=True):
        if color in _SETTABLE:
            setattr(frame, color, value)
    frame.pict_type = picture
    if fields["key"] is True and not frame.key_frame:
        _set_key(frame)
    return frame


def encode_audio(frame: Any) -> tuple[bytes, Sequence[Buffer]]:
    """Metadata and one view for each plane, without the decoder's padding. Raises CodecError for more than 8 planes."""
    layout, kind, samples = frame.layout, frame.format, frame.samples
    planes, nbytes = _audio_planes(kind, layout, samples)
    fields = {
        "format": kind.name,
        "layout": layout.name,
        "samples": samples,
        "rate": frame.sample_rate,
        "pts": frame.pts,
        "dts": frame.dts,
        "base": parts(frame.time_base),
        "duration": frame.duration,
    }
    try:
        own = frame.planes[:planes] if samples else ()
    except ValueError as error:  # PyAV 19 and eight planes
        raise CodecError(f"PyAV {av.__version__} cannot read {kind.name} of {planes} channels: {error}") from error
    return pack(fields), [memoryview(plane)[:nbytes] for plane in own]


def decode_audio(meta: bytes, buffers: Sequence[memoryview]) -> Any:
    """A new frame. Raises CodecError when format, layout, samples and planes disagree."""
    fields = parse(meta)
    if not isinstance(fields["format"], str) or not isinstance(fields["layout"], str):
        raise CodecError("format or layout is not text")
    kind, layout = av.AudioFormat(fields["format"]), av.AudioLayout(fields["layout"])
    samples = integer(fields["samples"], 0, 1 << 28, "samples")
    planes, nbytes = _audio_planes(kind, layout, samples)
    if [b.nbytes for b in buffers] != [nbytes] * (planes if samples else 0):
        raise CodecError(f"the planes are not {samples} samples of {kind.name} {layout.name}")
    timing = tick(fields["pts"]), tick(fields["dts"]), ratio(fields["base"]), tick(fields["duration"])
    rate = integer(fields["rate"], 0, 1 << 24, "rate")
    frame = av.AudioFrame(kind.name, layout.name, samples, 1)
    for plane, source in zip(frame.planes, buffers, strict=False):
        plane.update(_contiguous(source))
    frame.sample_rate = rate
    _set_timing(frame, *timing)
    return frame


def encode_packet(packet: Any) -> tuple[bytes, Sequence[Buffer]]:
    """Metadata and the packet's bytes (a view)."""
    fields = {
        "pts": packet.pts,
        "dts": packet.dts,
        "duration": packet.duration,
        "base": parts(packet.time_base),
        "key": packet.is_keyframe,
    }
    return pack(fields), [memoryview(packet) if packet.size else b""]


def decode_packet(meta: bytes, buffers: Sequence[memoryview]) -> Any:
    """A new packet of its own memory, padded as decoders want it."""
    fields = parse(meta)
    pts, dts, base = tick(fields["pts"]), tick(fields["dts"], "dts"), ratio(fields["base"])
    duration = tick(fields["duration"], "duration")
    (source,) = buffers
    if source.nbytes > MAX_PACKET:
        raise CodecError(f"a packet of {source.nbytes} bytes; the limit is {MAX_PACKET}")
    packet = av.Packet(source.nbytes)
    if source.nbytes:
        packet.update(_contiguous(source))
    packet.pts, packet.dts, packet.duration = pts, dts, duration
    if base is not None:
        packet.time_base = base
    packet.is_keyframe = fields["key"] is True
    return packet


def _set_timing(frame: Any, pts: int | None, dts: int | None, base: Any, duration: int | None) -> None:
    frame.pts, frame.dts, frame.duration = pts, dts, duration or 0
    if base is not None:
        frame.time_base = base


def _set_key(frame: Any) -> None:
    try:
        frame.key_frame = True
    except AttributeError:  # read-only in some releases of PyAV: a hint, nothing that a picture needs
        return


@lru_cache(maxsize=256)
def _planes(name: str, width: int, height: int) -> tuple[tuple[int, int], ...]:
    """Bytes per row and rows of each plane; empty for formats that live in a device's memory and for empty pictures."""
    components = av.VideoFormat(name, width, height).components
    if not components or not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        return ()
    sizes = []
    for index, step in enumerate(_steps(name)):
        own = [c for c in components if c.plane == index]
        sizes.append((math.ceil(step * min(c.width for c in own)), own[0].height))
    return (*sizes, (1024, 1)) if name == "pal8" else tuple(sizes)


@lru_cache(maxsize=512)
def _steps(name: str) -> tuple[Fraction, ...]:
    """Bytes of each plane for one of its cells (the widest component's pixel), measured on a row without padding."""
    sample = av.VideoFrame(1024, 16, name)
    cells = [[c.width for c in sample.format.components if c.plane == i] for i in range(len(sample.planes))]
    return tuple(Fraction(p.line_size, min(own)) for p, own in zip(sample.planes, cells, strict=True) if own)


def _rows(plane: Any, line: int, rows: int) -> memoryview:
    """The first ``line`` bytes of each row of a plane, from top to bottom."""
    stride = plane.line_size
    if stride == line or rows == 1:
        return memoryview(plane)[:line] if rows == 1 else memoryview(plane)
    size = abs(stride) * rows
    if stride < 0:  # stored bottom up (vflip): buffer_ptr is the top row, the memory begins at the last one
        memory = (ctypes.c_ubyte * size).from_address(plane.buffer_ptr + (rows - 1) * stride)
        picture = np.frombuffer(memory, np.uint8).reshape(rows, -stride)[::-1]
    else:
        picture = np.frombuffer(plane, np.uint8).reshape(rows, stride)
    return memoryview(np.ascontiguousarray(picture[:, :line]).reshape(-1))


def _fill(plane: Any, line: int, rows: int, source: memoryview | Arriving) -> None:
    """Copy rows of ``line`` bytes into a plane of a fresh frame, whose own rows may be padded."""
    if plane.buffer_size == source.nbytes:
        if isinstance(source, Arriving):
            source.copy_to(memoryview(plane).cast("B"))
        else:
            plane.update(_contiguous(source))
    else:
        target = np.frombuffer(plane, np.uint8).reshape(rows, plane.line_size)
        target[:, :line] = np.frombuffer(_contiguous(whole(source)), np.uint8).reshape(rows, line)


def _audio_planes(kind: Any, layout: Any, samples: int) -> tuple[int, int]:
    """Number of planes and bytes in each."""
    channels = layout.nb_channels
    if not 1 <= channels <= (MAX_PLANAR if kind.is_planar else MAX_CHANNELS):
        raise CodecError(
            f"{channels} channels of {kind.name} cannot travel: convert to a packed format or fewer channels"
        )
    if kind.is_planar:
        return channels, samples * kind.bytes
    return 1, samples * kind.bytes * channels


def _contiguous(source: memoryview) -> memoryview:
    if not source.c_contiguous:
        raise CodecError("a buffer is not contiguous")
    return source
