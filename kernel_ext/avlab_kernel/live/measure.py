"""measure_glass_to_glass: numbered pictures and beeps through a live view, read back in the browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal, overload

import traitlets
from IPython import get_ipython
from IPython.display import display

from avlab.core.clock import monotonic
from avlab.core.errors import ConfigError, MediaError, TimedOut
from avlab.core.item import Item
from avlab.core.latch import Latch
from avlab.core.node import Node
from avlab.media.sources.test import RATE, TestSource

from .glass import GlassToGlass, Painted, reckon
from .preview import Preview
from .widget import VIEW, LiveView, module

_OVERHEAD = 30.0  # seconds that finding a path and comparing clocks may take besides the measurement
_LONGEST = 600.0  # seconds
_TWO_CELLS = (
    "`m = avlab.measure_glass_to_glass(wait=False)` and `m` in one cell, `m.result()` in the next when the view says that it "
    "has measured"
)


@overload
def measure_glass_to_glass(
    seconds: float = ..., size: tuple[int, int] = ..., rate: Any = ..., *, wait: Literal[True] = ..., **options: Any
) -> GlassToGlass: ...


@overload
def measure_glass_to_glass(
    seconds: float = ..., size: tuple[int, int] = ..., rate: Any = ..., *, wait: Literal[False], **options: Any
) -> Measurement: ...


def measure_glass_to_glass(
    seconds: float = 5,
    size: tuple[int, int] = (1280, 720),
    rate: Any = 30,
    *,
    wait: bool = True,
    path: str = "",
    timeout: float = 15,
    **options: Any,
) -> GlassToGlass | Measurement:
    """Show TestSource in a live view for some seconds and read pictures and beeps back from what the browser presents.

    size, rate: of the pictures. path: ``messages`` to measure that one; by default the best there is. timeout: seconds in
    which a browser must show the view. options: of `Preview`. With ``wait=False`` it returns a `Measurement`, which is
    displayed in one cell and asked for its ``result()`` in a later one: kernels without subshells (ipykernel 6) need that,
    for they hear a browser only between cells. The sound is measured before the volume: nothing needs to be heard.

    Raises ConfigError for options that cannot be and for kernels without subshells, TimedOut when no browser shows the view,
    MediaError when it reads nothing, and what the source raises.
    """
    if wait and not _hears_while_waiting():
        raise ConfigError(f"this kernel hears the browser only between cells: {_TWO_CELLS} (or use ipykernel 7)")
    measurement = Measurement(seconds, size, rate, path=path, timeout=timeout, **options)
    if not wait:
        return measurement
    display(measurement)
    return measurement.result()


class Measurement:
    """A measurement under way, from `measure_glass_to_glass(wait=False)`: display it, and later ask for its `result`."""

    def __init__(
        self, seconds: float, size: tuple[int, int], rate: Any, *, path: str = "", timeout: float = 15, **options: Any
    ) -> None:
        if not isinstance(seconds, int | float) or not 0.5 <= seconds <= _LONGEST:
            raise ConfigError(f"a measurement takes 0.5 to {_LONGEST:.0f} seconds, not {seconds!r}")
        if path not in ("", "messages"):
            raise ConfigError(f"path is {path!r}: it is 'messages', or empty for the best there is")
        Preview(**options)._check()
        self._seconds, self._timeout, self._rate = seconds, timeout, rate
        self._lock = threading.Lock()
        self._shown, self._done = Latch(), Latch()
        self._report: dict[str, Any] = {}
        self._result: GlassToGlass | None = None
        self._ledger = _Ledger()
        self._preview = _Measured(**options)
        self._preview._plan = {"seconds": seconds, "path": path}
        self._preview._heard = self._heard
        source = TestSource(size=size, rate=rate, realtime=True)
        self._run = (source >> self._ledger >> self._preview).start()
        self._preview.shows(self._run)
        self._run.on_finished(self._over)

    def _over(self) -> None:
        """Nothing more can be heard: the run was stopped, or has failed."""
        self._shown.set()
        self._done.set()

    def _heard(self, message: Mapping[str, Any]) -> bool:
        """A message from a browser; whether it is for the view."""
        at = monotonic() / 1e6
        if self._done.is_set():
            return False
        self._shown.set()
        if message.get("type") != "probe":
            return True
        if message.get("step") == "clock":
            self._preview.tell({"type": "clock", "view": message.get("view"), "at": at})
        elif message.get("step") in ("done", "failed"):
            self._report = dict(message)
            self._done.set()
            threading.Thread(target=self._end, name="avlab:measured", daemon=True).start()
        return False

    def _end(self) -> None:
        with self._lock:
            try:
                self._run.cancel()  # raises what the run has failed with
            finally:
                self._preview.shut()

    @property
    def running(self) -> bool:
        """Whether it is still under way."""
        return not self._done.is_set()

    def result(self) -> GlassToGlass:
        """The figures, once they are there. Raises TimedOut when no browser shows the view or does not report, or when this
        kernel cannot hear it meanwhile; MediaError when it reads nothing back."""
        if self._result is None:
            self._wait()
            self._end()
            if not self._report:
                raise MediaError("this measurement was ended before it had a result: begin another")
            if self._report.get("step") == "failed":
                raise MediaError(
                    f"the browser could not measure ({self._report.get('reason')}): try Chromium or Firefox"
                )
            self._result = reckon(self._ledger.painted(Fraction(self._rate)), self._report, self._seconds)
        return self._result

    def _wait(self) -> None:
        if not self._done.is_set() and not _hears_while_waiting():
            raise TimedOut(
                "it is not measured yet, and this kernel hears the browser only between cells: wait until the view says "
                "that it has measured, then run this cell again"
            )
        try:
            if not self._shown.wait(self._timeout):
                raise TimedOut(
                    f"no browser has shown the view within {self._timeout:g} s: run it in a notebook that is open in "
                    f"JupyterLab 4.4, Notebook 7.4 or newer; elsewhere in two cells, {_TWO_CELLS}"
                )
            if not self._done.wait(self._seconds + _OVERHEAD):
                raise TimedOut(
                    f"the browser has shown the view but reported nothing for {self._seconds + _OVERHEAD:g} s: keep the view "
                    "in sight and its page in front while it measures"
                )
        except BaseException:
            self._done.set()
            self._end()
            raise

    def close(self) -> None:
        """End it without a result. Idempotent."""
        self._done.set()
        self._end()

    def __repr__(self) -> str:
        return f"Measurement({self._seconds:g} s)"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        data, metadata = self._preview._repr_mimebundle_()
        return {**data, "text/plain": repr(self)}, metadata


class MeasuredView(LiveView):
    """A live view that reads back what it shows. ``plan``: seconds and path."""

    _esm = module("probe.js", *VIEW)
    plan = traitlets.Dict().tag(sync=True)


class _Measured(Preview):
    """The preview whose view measures."""

    _plan: Any = None
    _heard: Callable[[Mapping[str, Any]], bool] = staticmethod(lambda message: True)

    def tell(self, message: dict[str, Any]) -> None:
        self._deliver(message, [])

    def _view(self) -> LiveView:
        view = MeasuredView(lambda message, _: self._stream().receive(message) if self._heard(message) else None)
        view.plan = self._plan
        return view


class _Ledger(Node):
    """Notes when the source had made each numbered picture and the beginning of each beep."""

    def open(self) -> None:
        self._pictures: dict[int, float] = {}
        self._beeps: dict[int, float] = {}

    def process(self, item: Item) -> Iterator[Item]:
        if item.track == "video":
            self._pictures[int(item.pts or 0)] = item.stamps[0].ns / 1e6
        elif item.pts is not None and item.pts % RATE == 0:
            self._beeps[item.pts // RATE] = item.stamps[0].ns / 1e6
        yield item

    def painted(self, rate: Fraction) -> Painted:
        return Painted(float(rate), dict(self._pictures), dict(self._beeps))


def _hears_while_waiting() -> bool:
    """Whether this process's kernel takes messages while a cell runs. Raises ConfigError outside of a notebook."""
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        raise ConfigError("measuring needs a browser that shows a notebook: run it in a cell of JupyterLab or Notebook")
    return bool(getattr(kernel, "_supports_kernel_subshells", False))
