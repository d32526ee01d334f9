"""Camera, Microphone and Screen: sources that a person shares in the browser of the notebook."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from avlab.core.errors import ConfigError, MediaError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.rtc.policy import servers
from avlab.media.sources.instead import KINDS, Instead, node_of

if TYPE_CHECKING:
    from avlab.media.rtc.browser_source import BrowserSource

    from .camera_widget import CaptureView

KEPT = 50
"""Blocks of sound that wait where the pipeline is slower; of pictures, the newest one does."""


class BrowserNode(Node):
    """What the three sources have in common; put one first in a pipeline, or display it. Nothing is captured before a person
    has pressed Start, and the browser lets go of the device when the run ends.

    It is a live source: where the pipeline is slower, the newest picture is kept and the others are counted as dropped; 50
    blocks of sound (1 s) are kept. pts go on over reloads of the page and lost connections. The stream ends with the stop
    button, or when the view was taken off the page.

    fallback: what to use where no browser shows the source: another source, or the path of a media file. Where there is no
    notebook it is used at once, and waits for the pipeline; in a notebook without a browser it is used after ``timeout``
    seconds, at its own pace. patience: seconds that a browser which had the source may be gone. ice_servers: STUN and TURN
    servers in the browser's notation, none by default. sync: ``low-latency`` or ``lips``.

    Raises ConfigError (no notebook, or values that are none of these) or MediaError (no browser within ``timeout``) when there is no fallback, and MediaError
    when patience is at its end.
    """

    KIND: ClassVar[str] = ""

    _source: BrowserSource | None = None
    _widget: CaptureView | None = None
    _instead: Instead | None = None

    @property
    def produces(self) -> tuple[type, ...]:
        """Types of the values that will come."""
        return tuple(self.tracks().values())

    def tracks(self) -> dict[str, type]:
        """Name of each track and the type of its values."""
        return {track: KINDS[track] for track in self._ask()["tracks"]}

    @property
    def live(self) -> Any:
        """How many items of a track wait for a slow pipeline; where there is no notebook the fallback says it."""
        return {"audio": KEPT} if self._in_front else getattr(node_of(self._option("fallback")), "live", False)

    def _ask(self) -> dict[str, Any]:
        """What the browser is to capture. Raises ConfigError."""
        raise NotImplementedError

    def _checked(self) -> dict[str, Any]:
        name = type(self).__name__
        for option in ("timeout", "patience"):
            if not _seconds(value := self._option(option)):
                raise ConfigError(f"{option} of {name} is {value!r}: it is a number of seconds, above 0")
        device, given = getattr(self, "device", None), self._option("ice_servers")
        if not isinstance(device, str | None):
            raise ConfigError(f"device of {name} is {device!r}: it is a part of the device's name, or None")
        if not callable(given):
            servers(given)
        return self._ask()

    def _option(self, name: str) -> Any:
        return getattr(self, name)

    @property
    def _in_front(self) -> bool:
        return self._widget is not None or _in_notebook()

    def open(self) -> None:
        """Show the widget, unless a browser shows it already. Raises ConfigError where there is neither notebook nor fallback."""
        asked, fallback = self._checked(), self._option("fallback")
        self._instead = None if fallback is None else Instead(fallback, asked["tracks"], pace=self._in_front)
        if self._in_front:
            source = self._media()
            source.begin(asked)
            if not source.attached and _in_notebook():
                from IPython.display import display

                display(self)
        elif fallback is None:
            raise ConfigError(
                f"{type(self).__name__} needs a notebook in a browser, and this is none (nor is a media process): run it in"
                " JupyterLab, or name another source with fallback= (a source, or the path of a media file)"
            )

    def items(self) -> Iterator[Item]:
        """The items as they come."""
        source, instead, timeout = self._source, self._instead, self._option("timeout")
        if source is None or not source.wanted or not source.wait(timeout):
            if instead is not None:
                yield from instead.items()
            elif source is not None and source.wanted:
                raise MediaError(
                    f"no browser shows this {type(self).__name__} within {timeout:g} s: open the notebook in a browser and let the"
                    " cell end (pipeline.start(), not run()), or name another source with fallback="
                )
            return
        yield from source.items()

    def cancel(self) -> None:
        """End soon."""
        for each in (self._instead, self._source):
            if each is not None:
                each.cancel()

    def close(self) -> None:
        """The run has ended: the browser lets go of the device."""
        source = self._source
        if source is not None:
            source.end()
            if not source.seen:
                self._dismiss()

    def statistics(self) -> dict[str, Any]:
        """State, size, pictures per second, counts by track, drops, reconnects and the receiver's own figures."""
        return self._source.statistics() if self._source is not None else {}

    @property
    def widget(self) -> CaptureView:
        """The widget, made when it is first asked for."""
        with _making:
            if self._widget is None:
                from .camera_widget import CaptureView

                self._widget = CaptureView(self._media().receive)
            return self._widget

    def _media(self) -> BrowserSource:
        with _making:
            if self._source is None:
                from avlab.media.rtc.browser_source import BrowserSource

                options = {
                    name: self._option(name) for name in ("ice_servers", "patience", "sync") if hasattr(self, name)
                }
                self._source = BrowserSource(self._deliver, self._checked(), left=self._dismiss, **options)
            return self._source

    def _deliver(self, message: dict[str, Any]) -> None:
        widget = self._widget
        if widget is not None:
            widget.deliver(message, [])

    def _dismiss(self) -> None:
        """Nobody shows the widget any more: let it go; the next display makes another one."""
        with _making:
            widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    def __repr__(self) -> str:
        try:
            asked = self._ask()
        except ConfigError as error:  # a node with a wrong parameter can still be looked at
            return f"{type(self).__name__}({error})"
        facts = [f"{asked['size'][0]}×{asked['size'][1]}"] if asked["size"] else []
        facts += [f"{asked['rate']:g} fps"] if asked["rate"] else []
        facts += ["sound"] if asked["tracks"] == ["video", "audio"] else []
        return f"{type(self).__name__}({', '.join(facts)})"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        made = self.widget._repr_mimebundle_()
        data, metadata = made if isinstance(made, tuple) else (made or {}, {})
        return {**data, "text/plain": repr(self)}, metadata


class Camera(BrowserNode):
    """The camera of whoever looks at the notebook: items of av.VideoFrame on track ``video``, with ``audio`` also av.AudioFrame.

    size, rate: what the camera is asked for, pixels and pictures per second; what it can do may differ, and may change while it
    runs, as the pixel format may. audio: the microphone too. device: part of the device's name; the menu offers all of them.
    voice: let the browser cancel echo and noise and level the sound, as for a call. Everything else: `BrowserNode`.
    """

    KIND = "camera"

    size: tuple[int, int] = (1280, 720)
    rate: float = 30
    audio: bool = False
    device: str | None = None
    fallback: Any = None
    timeout: float = 15.0
    patience: float = 60.0
    ice_servers: Any = ()
    sync: str = "low-latency"
    voice: bool = True

    def _ask(self) -> dict[str, Any]:
        return _asked(self, self.audio, _size(self), device=self.device, voice=self.voice)


class Screen(BrowserNode):
    """A screen, window or tab that somebody shares: items of av.VideoFrame, with ``audio`` also av.AudioFrame where the browser
    offers its sound.

    size: the largest size, or None for the screen's own. rate: pictures per second at most; fewer come while nothing moves. After
    a reload of the page the browser wants it to be started again. Everything else: `BrowserNode`.
    """

    KIND = "screen"

    size: tuple[int, int] | None = None
    rate: float = 30
    audio: bool = False
    fallback: Any = None
    timeout: float = 15.0
    patience: float = 60.0
    ice_servers: Any = ()
    sync: str = "low-latency"

    def _ask(self) -> dict[str, Any]:
        return _asked(self, self.audio, None if self.size is None else _size(self), voice=False)


class Microphone(BrowserNode):
    """The microphone of whoever looks at the notebook: items of av.AudioFrame (s16, mostly 20 ms) on track ``audio``.

    rate: samples per second. layout: ``stereo`` or ``mono`` (16000 and mono suit speech recognition). voice: let the browser
    cancel echo and noise and level the sound, as for a call. device: part of the device's name. Everything else: `BrowserNode`.
    """

    KIND = "microphone"

    rate: int = 48000
    layout: str = "stereo"
    voice: bool = True
    device: str | None = None
    fallback: Any = None
    timeout: float = 15.0
    patience: float = 60.0
    ice_servers: Any = ()

    def _ask(self) -> dict[str, Any]:
        if not isinstance(self.rate, int) or not 8000 <= self.rate <= 192_000:
            raise ConfigError(
                f"rate of Microphone is {self.rate!r}: it is a number of samples per second, 8000 to 192000"
            )
        if self.layout not in ("mono", "stereo"):
            raise ConfigError(f"layout of Microphone is {self.layout!r}: it is 'mono' or 'stereo'")
        form = {"sample_rates": self.rate, "channel_layouts": self.layout, "sample_fmts": "s16"}
        asked = {"tracks": ["audio"], "size": None, "rate": None, "device": self.device, "voice": self.voice}
        return {"kind": self.KIND, **asked, "form": None if (self.rate, self.layout) == (48000, "stereo") else form}


_making = threading.RLock()


def _seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _asked(node: Any, audio: bool, size: Any, *, device: str | None = None, voice: bool) -> dict[str, Any]:
    if not _seconds(node.rate) or not node.rate <= 240:
        name = type(node).__name__
        raise ConfigError(
            f"rate of {name} is {node.rate!r}: it is a number of pictures per second, above 0 and at most 240"
        )
    tracks = ["video", "audio"] if audio else ["video"]
    return {"kind": node.KIND, "tracks": tracks, "size": size, "rate": node.rate, "device": device, "voice": voice}


def _size(node: Any) -> tuple[int, int]:
    name = type(node).__name__
    try:
        width, height = (int(value) for value in node.size)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"size of {name} is {node.size!r}, not (width, height)") from error
    if not (16 <= width <= 7680 and 16 <= height <= 7680):
        raise ConfigError(f"size of {name} is {width}x{height}: both must be between 16 and 7680")
    return width, height


def _in_notebook() -> bool:
    """Whether this is the kernel of a Jupyter or marimo notebook."""
    jupyter, marimo = sys.modules.get("IPython"), sys.modules.get("marimo")
    shell = jupyter.get_ipython() if jupyter is not None else None
    return getattr(shell, "kernel", None) is not None or (marimo is not None and marimo.running_in_notebook())
