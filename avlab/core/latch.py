"""Latch: an event that an interrupt cannot break."""

from __future__ import annotations

import threading
import time

NAP = 0.2
"""Seconds after which a wait looks up. A signal that comes just before a thread falls asleep wakes nobody, and Python runs its
handler only when the main thread is awake: without naps an interrupt could be lost until something else happens."""


class Latch:
    """Set once, waited for by any number of threads.

    threading.Event holds a lock of its own while a wait begins and ends: a KeyboardInterrupt at the wrong instruction leaves
    it locked, and the thread that sets the event then hangs for ever. This one is a single lock that `set` opens and that
    every waiter passes on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._set = False

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def set(self) -> None:
        """Let all waiters go, now and later; never blocks. Idempotent."""
        self._set = True
        self._open()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False when ``timeout`` seconds were too short."""
        end = None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
        while not self._set:
            left = NAP if end is None else min((end - time.monotonic_ns()) / 1e9, NAP)
            if left < 0:
                break
            try:
                self._lock.acquire(timeout=left)
            finally:
                if self._set:
                    self._open()
        return self._set

    def _open(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # open already
            return
