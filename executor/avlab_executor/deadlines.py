"""Wall-time limits of one session, counted from outside of the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable

from avlab.core.clock import Clock
from avlab.remote.limits import Limits


class Deadlines:
    """item_timeout: the time that the host has waited for the oldest input under way. session_timeout: since the start.

    Only waiting counts for an item, so a consumer that pauses costs the worker nothing. ``on_session_end`` is called from a
    timer thread when the session's time is over, since nobody may be waiting then.
    """

    def __init__(self, limits: Limits, clock: Clock, on_session_end: Callable[[str], None] | None = None) -> None:
        self._item, self._session = limits.item_timeout, limits.session_timeout
        self.set = self._item is not None or self._session is not None
        self._clock, self._began = clock, clock()
        self._sent = self._finished = 0  # each is written by one thread
        self._waited = 0
        self._timer: threading.Timer | None = None
        if self._session is not None and on_session_end is not None:
            self._timer = threading.Timer(self._session, on_session_end, (self._session_text(),))
            self._timer.daemon = True
            self._timer.start()

    @property
    def counting(self) -> bool:
        """Whether time that the host waits now counts for an item."""
        return self._item is not None and self._sent > self._finished

    def sent(self) -> bool:
        """An input was handed over. Whether waiting counts from now on, which one who waits already has to be told."""
        self._sent += 1
        return self._item is not None and self._sent == self._finished + 1

    def finished(self) -> None:
        """The oldest input has its last output: the next one's time begins."""
        self._finished += 1
        self._waited = 0

    def waited(self, ns: int) -> None:
        """The host has waited this long for the worker, and it counted all the time."""
        self._waited += ns

    def left(self) -> float | None:
        """Seconds until the nearest deadline, or None."""
        candidates = []
        if self._item is not None and self.counting:
            candidates.append(self._item - self._waited / 1e9)
        if self._session is not None:
            candidates.append(self._session - (self._clock() - self._began) / 1e9)
        return min(candidates, default=None)

    def over(self) -> str | None:
        """What deadline has passed, in words, or None."""
        if self._item is not None and self.counting and self._waited / 1e9 >= self._item:
            return f"an item took longer than its limit of {self._item:g} s"
        if self._session is not None and (self._clock() - self._began) / 1e9 >= self._session:
            return self._session_text()
        return None

    def _session_text(self) -> str:
        return f"the session took longer than its limit of {self._session:g} s"

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
