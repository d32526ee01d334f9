"""Preview: the last node of a pipeline, seen and heard in the notebook."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from avlab.core.errors import ConfigError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.rtc.live import Live
from avlab.media.rtc.policy import servers

from .again import cells
from .hops import facts
from .process import ProcessRun
from .widget import LiveView

_FIRST = 0.5  # seconds that a display waits for the first picture, whose size its text names


class Preview(Node):
    """Shows pictures and sound of a pipeline live, as its last node; display it, or the running `Run`, in a cell.

    Takes frames, packets (H.264, Opus) and arrays that are pictures or sound; everything else (text, numbers, boxes, mappings)
    is drawn over or beside the picture. Where nobody looks it only counts: it neither waits nor keeps anything.

    ice_servers: STUN and TURN servers in the browser's notation, for both sides; none by default. sync: with ``low-latency``
    pictures wait for sound only while somebody hears it, ``lips`` always holds the earlier of the two back. bit_rate: of
    1280x720, bits per second. pace: hold items back to the pace of their times (files); None: while somebody looks. rate:
    sample rate of arrays of sound. record: path that the view's record button writes to (default: preview-1.mp4,
    preview-2.mp4 …). Raises ConfigError for values that are none of these.
    """

    produces: ClassVar[tuple[type, ...]] = ()

    ice_servers: Any = ()
    sync: str = "low-latency"
    bit_rate: int = 2_500_000
    pace: bool | None = None
    rate: int | None = None
    record: str = ""

    _live: Live | None = None
    _widget: LiveView | None = None
    _run: Any = None

    def _stream(self) -> Live:
        with _making:
            if self._live is None:
                self._check()
                self._live = Live(
                    self._deliver, ice_servers=self.ice_servers, sync=self.sync, bit_rate=self.bit_rate, pace=self.pace,
                    rate=self.rate, record=os.fspath(self.record), facts=self._facts, stop=self._stop,
                )  # fmt: skip
            return self._live

    def _check(self) -> None:
        for name, fits, what in (
            ("sync", self.sync in ("low-latency", "lips"), "'low-latency' or 'lips'"),
            ("bit_rate", _whole(self.bit_rate), "a whole number of bits per second, above 0"),
            ("pace", self.pace in (None, True, False), "True, False or None"),
            ("rate", self.rate is None or _whole(self.rate), "a whole number of samples per second, above 0, or None"),
            ("record", isinstance(self.record, str | os.PathLike), "the path of a file"),
        ):
            if not fits:
                raise ConfigError(f"{name} of Preview is {getattr(self, name)!r}: it is {what}")
        if not callable(self.ice_servers):
            servers(self.ice_servers)

    def open(self) -> None:
        """A run begins; views that are open go on with it. When the cell that has begun it is run again, the run is stopped."""
        self._stream().begin()
        cells.note(self._stop)

    def process(self, item: Item) -> None:
        """Show one item."""
        self._stream().put(item)

    def cancel(self) -> None:
        """Hold nothing back: the run is to end."""
        self._stream().cancel()

    def close(self) -> None:
        """The run has ended: views keep the last picture, a recording is finished."""
        live = self._stream()
        live.end()
        if self._widget is not None:
            self._widget.poster = _data_url(live.poster())

    def shut(self) -> None:
        """End all views and free the encoders; what comes later begins anew. Idempotent."""
        with _making:
            live, self._live = self._live, None
        if live is not None:
            live.close()

    def shows(self, run: Any) -> None:
        """Name the run whose tiers the views tell and that their stop button stops."""
        self._run = run

    @classmethod
    def in_process(cls, pipeline: Any, options: Mapping[str, Any]) -> ProcessRun:
        """Start a pipeline of registered nodes in a child process. Raises UnknownNode and ConfigError for what cannot be
        described there, PipelineError for what fails there."""
        cls(**options)._check()  # refuses unknown parameters too
        given = dict(options)
        if callable(given.get("ice_servers")):
            raise ConfigError(
                "a function given as ice_servers= cannot go into the media process: give a list, or name the servers in"
                " AVLAB_ICE_SERVERS, with AVLAB_TURN_SECRET for credentials that do not last"
            )
        if "record" in given:
            given["record"] = os.fspath(given["record"])
        return ProcessRun(pipeline.to_spec(), given)

    @classmethod
    def of(cls, run: Any, options: Mapping[str, Any]) -> Preview:
        """The preview of a run: the one that is among its nodes, or one that is shown what reaches its end."""
        preview = next((node for node in run.nodes if isinstance(node, cls)), None)
        if preview is None:
            preview = cls(**options)
            preview._stream().begin()
            cells.note(preview._stop, run.statistics().elapsed if run.running else 0.0)
            run.observe(preview.process)
            run.on_finished(preview.close)
        preview.shows(run)
        return preview

    def snapshot(self) -> Any:
        """The newest picture, an av.VideoFrame, or None before the first."""
        newest = self._stream().newest()
        return None if newest is None else newest.value

    def start_recording(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write what comes from now on into an mp4; returns its path. Raises ConfigError for what is no path."""
        if not isinstance(path, str | os.PathLike | None):
            raise ConfigError(f"start_recording({path!r}): give the path of a file, or nothing")
        return self._stream().record(None if path is None else os.fspath(path))

    def stop_recording(self) -> str | None:
        """Finish the file; its path, or None when nothing was recorded."""
        return self._stream().end_recording()

    def statistics(self) -> dict[str, Any]:
        """Counts, and under ``views`` what each open view has last told: path, fps, delay and its parts in milliseconds, skew."""
        return self._live.statistics() if self._live is not None else {}

    @property
    def widget(self) -> LiveView:
        """The widget, made when it is first asked for."""
        live = self._stream()
        with _making:
            if self._widget is None:
                self._widget = self._view()
        if live.ended:
            self._widget.poster = _data_url(live.poster())
        return self._widget

    def _view(self) -> LiveView:
        return LiveView(lambda message, _: self._stream().receive(message))

    def _deliver(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        if self._widget is not None:
            self._widget.deliver(message, buffers)

    def _facts(self) -> dict[str, Any]:
        return {} if self._run is None else facts(self._run)

    def _stop(self) -> None:
        if self._run is not None:
            self._run.stop()

    def __repr__(self) -> str:
        width, height = self._live.size if self._live is not None else (0, 0)
        return f"Preview({width}×{height})" if width else "Preview()"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        live = self._stream()
        live.displayed(_FIRST if self._run is not None and self._run.running else 0)
        data, metadata = _bundle(self.widget._repr_mimebundle_())
        picture = live.poster()
        if picture:
            data["image/jpeg"] = base64.b64encode(picture).decode()
        return {**data, "text/plain": repr(self)}, metadata


_making = threading.RLock()


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _bundle(made: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    data, metadata = made if isinstance(made, tuple) else (made or {}, {})
    return dict(data), dict(metadata)


def _data_url(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode() if picture else ""
