"""Live: everything behind a live view on the side that has the media: hub, views, pace, results and recording."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import MediaError
from avlab.core.item import Item
from avlab.media.rtc.outgoing import Outgoing, carries
from avlab.media.rtc.turn import IceServers
from avlab.media.rtc.view import Views
from avlab.media.rtc.view_messages import Send
from avlab.media.rtc.view_record import Recorder, poster
from avlab.media.rtc.view_results import Results
from avlab.media.runtime import MediaRuntime
from avlab.media.sinks.values import as_frame

_SECOND = 1_000_000_000  # nanoseconds
_LEAD = 0.1  # seconds that items may be early before they wait for their time
_GRACE = 3.0  # seconds after the display in which the first view may come


class Live:
    """A live stream and its views. `put` takes items of a pipeline; `receive` and ``send`` are the way to the browsers.

    pace: hold early items back until their time has come, so that a file plays at its own speed; None: while a view is open,
    and for three seconds after `displayed` until the first one is. ended: called when a view asks to stop.
    """

    def __init__(
        self,
        send: Send,
        *,
        ice_servers: IceServers = (),
        sync: str = "low-latency",
        bit_rate: int = 2_500_000,
        pace: bool | None = None,
        rate: int | None = None,
        record: str = "",
        facts: Callable[[], dict[str, Any]] = dict,
        stop: Callable[[], None] = lambda: None,
        runtime: MediaRuntime | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self._send, self._stop, self._own_facts = send, stop, facts
        self._options: dict[str, Any] = {"ice_servers": ice_servers, "sync": sync, "runtime": runtime, "clock": clock}
        self._bit_rate, self._pace, self._rate, self._record, self._clock = bit_rate, pace, rate, record, clock
        self._hub = Outgoing(bit_rate=bit_rate, clock=clock)
        self._views: Views | None = None
        self._results = Results(send, self._hub.time_of)
        self._recorder: Recorder | None = None
        self._recording = threading.Lock()
        self._pacer = _Pacer(clock)
        self._shown_at: int | None = None
        self._first = threading.Event()
        self.ended = self._closed = False
        self.recorded: list[str] = []
        """Paths of finished recordings."""

    def begin(self) -> None:
        """A run begins."""
        self.ended = False
        self._pacer.reset()
        self._hub.restart()

    def put(self, item: Item) -> None:
        """One item: pictures and sound are shown, arrays of them too, everything else is a result that is drawn."""
        if isinstance(item.value, np.ndarray):
            try:
                frame = as_frame(item.value, self._rate)
            except MediaError:
                self._result(item)
                return
            item = Item(frame, item.pts, item.time_base, item.track, item.seq, item.stamps)
        if not carries(item.value):
            self._result(item)
            return
        if self._paces():
            self._pacer.wait(item)
        self._hub.put(item)
        self._first.set()
        recorder = self._recorder
        if recorder is not None:
            recorder.put(item)

    def _result(self, item: Item) -> None:
        views = self._views
        self._results.wanted = views is not None and views.open
        self._results.put(item)

    def _paces(self) -> bool:
        if self._pace is not None:
            return self._pace
        if self._hub.watched:
            return True
        shown = self._shown_at
        return shown is not None and self._views is None and self._clock() - shown < _GRACE * 1e9

    def displayed(self, wait: float = 0.0) -> None:
        """Somebody displays it now; wait so many seconds at most for the first picture or sound."""
        self._shown_at = self._clock()
        if wait:
            self._first.wait(wait)

    def receive(self, message: Mapping[str, Any]) -> None:
        """A message from a browser's side; any thread."""
        with self._recording:
            if self._closed:
                return
            if self._views is None:
                self._views = Views(self._hub, self._send, facts=self._facts, act=self._act, **self._options)
            views = self._views
        views.receive(message)

    def _act(self, kind: str, message: Mapping[str, Any]) -> None:
        if kind == "record" and message.get("on"):
            self.record(self._record or None)
            return
        work = self._stop if kind == "stop" else self.end_recording  # both wait: for the run, for the file
        threading.Thread(target=work, name=f"avlab:{kind}", daemon=True).start()

    def record(self, path: str | None = None) -> str:
        """Write what comes from now on into a file (default: ``preview-1.mp4`` and so on); returns its path."""
        with self._recording:
            if self._recorder is None or self._recorder.problem:
                self._recorder = Recorder(path)
            return self._recorder.path

    def end_recording(self) -> str | None:
        """Finish the file; its path, or None when nothing was recorded."""
        with self._recording:
            recorder, self._recorder = self._recorder, None
        if recorder is None:
            return None
        path = recorder.finish()
        if path:
            self.recorded.append(path)
        return path

    def _facts(self) -> dict[str, Any]:
        recorder = self._recorder
        problem = recorder.problem if recorder is not None else ""
        recording = {
            "recording": recorder.path if recorder is not None and not problem else "",
            "recorded": self.recorded[-1] if self.recorded else "",
            "unsaved": problem,
        }
        return {**recording, "results": self._results.count, "ended": self.ended, **self._own_facts()}

    @property
    def size(self) -> tuple[int, int]:
        """Of the newest picture; (0, 0) before the first."""
        return self._hub.size

    def poster(self) -> bytes:
        """The newest picture as a small JPEG, empty without one. Raises nothing."""
        return poster(self._hub.newest)

    def newest(self) -> Item | None:
        """The newest picture."""
        return self._hub.newest

    def statistics(self) -> dict[str, Any]:
        """Counts, and what the open views tell."""
        views = self._views
        return {**self._hub.statistics(), "views": views.reports() if views is not None else []}

    def cancel(self) -> None:
        """Hold nothing back any more: the run ends."""
        self._pacer.cancel()

    def end(self) -> None:
        """The run has ended: views keep the last picture; recording is finished."""
        self._pacer.cancel()
        self.ended = True
        self.end_recording()
        views = self._views
        if views is not None:
            views.announce()

    def close(self) -> None:
        """End views and encoders. Idempotent."""
        self.end()
        with self._recording:
            views, self._views, self._closed = self._views, None, True
        if views is not None:
            views.close()
        self._hub.close()


class _Pacer:
    """Lets items go at the pace of their times, measured from the earliest so far."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cancelled = threading.Event()
        self._origin: int | None = None

    def reset(self) -> None:
        self._cancelled.clear()
        self._origin = None

    def cancel(self) -> None:
        self._cancelled.set()

    def wait(self, item: Item) -> None:
        if item.pts is None:
            return
        time, now = item.pts * item.time_base.numerator * _SECOND // item.time_base.denominator, self._clock()
        early = float("inf") if self._origin is None else (time - (now - self._origin)) / _SECOND
        if not -_GRACE < early < 60:  # the first one, a jump, or after a stall: begin anew
            self._origin = now - time
            return
        if early > _LEAD:
            self._cancelled.wait(early - _LEAD)
