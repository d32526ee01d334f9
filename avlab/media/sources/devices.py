"""What a capture device is called, which of FFmpeg's inputs reads it, and what to do when that fails."""

from __future__ import annotations

import os
from dataclasses import dataclass
from glob import glob
from typing import Any

import av
from av.format import ContainerFormat

from avlab.core.errors import ConfigError, MediaError
from avlab.core.scrub import address

NETWORK = ("rtsp", "rtsps", "rtmp", "srt", "udp", "http", "https")
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtp,rtcp,udp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "https": "https,http,tls,tcp",
    "http": "http,tcp",
}
_INPUTS = {"v4l2": "video", "alsa": "audio", "pulse": "audio", "x11grab": "video", "kmsgrab": "video"}
_INSTEAD = {"pulse": "alsa:default, which PulseAudio and PipeWire serve (Debian: libasound2-plugins, pipewire-alsa)", "kmsgrab": "screen (X11)"}
# The ALSA library in PyAV's wheels looks for these where it was built: in a folder of /tmp, which anybody may make.
_ALSA = {
    "ALSA_CONFIG_DIR": ("/usr/share/alsa", "/usr/local/share/alsa"),
    "ALSA_PLUGIN_DIR": ("/usr/lib/*/alsa-lib", "/usr/lib64/alsa-lib", "/usr/lib/alsa-lib"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """One input: ``format`` is FFmpeg's name of it (None: found out), ``location`` what FFmpeg opens, ``kinds`` what it gives;
    ``shown`` is its name without a password; ``ends``: reading may end by itself (a file)."""

    format: str | None
    location: str
    kinds: tuple[str, ...]
    shown: str
    options: dict[str, str]
    ends: bool = False


def device(name: str | os.PathLike[str]) -> Device:
    """The device of a name: a URL, ``/dev/video0``, ``v4l2:…``, ``alsa:…``, ``pulse:…``, ``screen``, ``x11grab:…``,
    ``kmsgrab:…``, or the path of a file. Raises ConfigError for anything else."""
    name = os.fspath(name) if isinstance(name, str | os.PathLike) else f"{type(name).__name__} {name!r}"
    scheme, _, rest = name.partition(":")
    if scheme in NETWORK and rest.startswith("//"):
        shown = address(name)
        options = {"protocol_whitelist": _PROTOCOLS.get(scheme, scheme), "fflags": "nobuffer"}
        if scheme.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        return Device(None, name, ("video", "audio"), shown, options)
    if name.startswith("/dev/video"):
        scheme, rest = "v4l2", name
    if name == "screen" or scheme == "screen":
        scheme, rest = "x11grab", rest or os.environ.get("DISPLAY", "")
    if scheme in _INPUTS:
        location = rest or {"v4l2": "/dev/video0", "kmsgrab": "-"}.get(scheme, "default")
        return Device(scheme, location, (_INPUTS[scheme],), name, {})
    path = name.removeprefix("file:")
    if os.path.isfile(path):
        return Device(None, path, ("video", "audio"), name, {"protocol_whitelist": "file"}, ends=True)
    raise ConfigError(
        f"{name!r} is no capture device: write a URL ({', '.join(NETWORK[:3])} …), /dev/video0, alsa:default, screen, "
        "or the path of a file that exists"
    )


def open_device(found: Device, options: dict[str, str], opening: float, silence: float) -> Any:
    """The opened container; it raises when nothing comes for ``silence`` seconds. Raises MediaError with the remedy."""
    if found.format is not None:
        _check(found)
    try:
        return av.open(
            found.location,
            format=found.format,
            options={**found.options, **options},
            timeout=(opening, silence),
        )
    except (av.FFmpegError, OSError) as error:
        # Not from it: FFmpeg's error has the URL in its text, with the password.
        raise MediaError(f"{found.shown!r} cannot be opened: {_reason(error)}; {_remedy(found, error)}") from None


def _check(found: Device) -> None:
    assert found.format is not None
    try:
        ContainerFormat(found.format, "r")
    except ValueError:
        instead = _INSTEAD.get(found.format)
        hint = f"use {instead}" if instead else "use a build of PyAV for this system"
        raise MediaError(
            f"{found.shown!r}: the FFmpeg in PyAV {av.__version__} has no {found.format}; {hint}"
        ) from None
    if found.format == "alsa":
        _find_alsa()
    if found.format == "x11grab" and found.location in ("", "default"):
        raise MediaError(f"{found.shown!r}: there is no X display here; set DISPLAY, or name it: x11grab::0.0")


def _find_alsa() -> None:
    """Name the system's configuration and plugins in the environment, where nobody has named others."""
    for name, places in _ALSA.items():
        there = [folder for place in places for folder in sorted(glob(place))]
        os.environ.setdefault(name, there[0] if there else places[-1])


def _reason(error: BaseException) -> str:
    if isinstance(error, av.error.ExitError):
        return "nothing came in time"
    return str(getattr(error, "strerror", None) or error)


def _remedy(found: Device, error: BaseException) -> str:
    denied = isinstance(error, PermissionError)
    if found.format == "v4l2":
        there = ", ".join(sorted(glob("/dev/video*"))) or "none"
        return "add yourself to the group video" if denied else f"cameras here: {there}; is another program using it?"
    if found.format == "alsa" and not os.path.isdir(os.environ["ALSA_CONFIG_DIR"]):
        return "install ALSA's configuration (Debian: libasound2-data)"
    if found.format in ("alsa", "pulse"):
        return (
            "add yourself to the group audio" if denied else "list the inputs with `arecord -L` and name one, alsa:NAME"
        )
    if found.format == "x11grab":
        return "allow it with `xhost +local:`, and check that the session is X11, not Wayland"
    if found.format == "kmsgrab":
        return "it needs /dev/dri and CAP_SYS_ADMIN: use screen (X11) instead"
    if denied or isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return "put user and password into the URL, rtsp://user:password@host/…"
    if found.ends:
        return "is it a media file?"
    return "check address, port and path, and that this machine may reach it"
