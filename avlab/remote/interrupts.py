"""When Ctrl-C may come: while a thread waits, never between a message's arrival and its place.

Python raises KeyboardInterrupt after any instruction. One that came between the system call that sent half a second's work and
the line that notes it would cost the whole session. So a session's operations run `shielded`: the signal is remembered, and
raised where they wait (`exposed`) or at their end.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own functions convert to enums, which costs ten times the call
import signal
import threading
from types import TracebackType

NOTICE = 0.5
"""Seconds after which a wait begins anew: a signal that came in the instant before it would else go unnoticed."""
_MAIN = threading.main_thread().ident


class _State:
    depth = 0
    exposed = False
    pending = False


def _remember(*_: object) -> None:
    if _State.exposed:
        _State.exposed = False
        raise KeyboardInterrupt
    _State.pending = True


def _raise_pending() -> None:
    if _State.pending:
        _State.pending = False
        raise KeyboardInterrupt


class _Shielded:
    def __enter__(self) -> None:
        if threading.get_ident() != _MAIN:
            return
        if _State.depth == 0:
            if _signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                return  # somebody else's business
            _signal.signal(signal.SIGINT, _remember)
        _State.depth += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if threading.get_ident() != _MAIN or _State.depth == 0:
            return
        _State.depth -= 1
        if _State.depth == 0:
            _signal.signal(signal.SIGINT, signal.default_int_handler)
            _raise_pending()


class _Exposed:
    def __enter__(self) -> None:
        if _State.depth and threading.get_ident() == _MAIN:
            _State.exposed = True
            if _State.pending:
                _State.exposed = False
                _raise_pending()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if _State.exposed and threading.get_ident() == _MAIN:
            _State.exposed = False


shielded, exposed = _Shielded(), _Exposed()
"""Context managers: an interrupt waits, or may come. Both do nothing in other threads than the main one."""


class Lock:
    """A lock for which a shielded thread can be interrupted while it waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float = -1) -> bool:
        """Whether it was acquired within ``timeout`` seconds (0: at once, negative: for ever)."""
        return self._lock.acquire(timeout > 0 or timeout < 0, timeout if timeout > 0 else -1)

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=NOTICE):
            with exposed:
                pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()
