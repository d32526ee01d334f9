"""A table below a cell that is drawn again while there is something to see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from IPython import get_ipython
from IPython.display import DisplayHandle

from .reports import Table

SECONDS = 1.0
"""Between two drawings."""


class LiveTable:
    """Shown by IPython as ``first``, then drawn again from a thread as long as ``going_on``; the last drawing stays.

    Outside of a notebook, where nothing can be drawn again, it is shown once. ``close`` ends the drawing.
    """

    def __init__(self, first: Table, draw: Callable[[], Table], going_on: Callable[[], object]) -> None:
        self._shown, self._draw, self._going_on = first, draw, going_on
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return repr(self._shown)

    def _ipython_display_(self) -> None:
        handle = DisplayHandle()
        handle.display(_data(self._shown), raw=True)
        if self._going_on() and hasattr(get_ipython(), "kernel") and self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(handle,), name="avlab-status", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Draw no more. Idempotent."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, handle: DisplayHandle) -> None:
        last = False
        while not last:
            last = self._closed.is_set() or not self._going_on()
            drawn = self._draw()
            if repr(drawn) != repr(self._shown):
                self._shown = drawn
                handle.update(_data(drawn), raw=True)
            self._closed.wait(SECONDS)


def _data(table: Table) -> dict[str, Any]:
    return {"text/plain": repr(table), "text/html": table._repr_html_()}
