"""The stop button: cancel, then SIGINT in the worker, then kill, each with its deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable

from avlab.core.errors import SessionError
from avlab.core.message import SignalKind
from avlab.remote.caller import Caller
from avlab.remote.exchange import Exchange

COOPERATIVE, FORCED = 0.3, 1.2
"""Seconds that a cancellation, and then a SIGINT, have before the next harder step; together under 2 s."""
TRIES = 3
"""How often a SIGINT is sent in its time."""


def stop(caller: Caller, exchange: Exchange, kill: Callable[[], None]) -> None:
    """End the exchange's work; returns within 2 s.

    What waits behind other exchanges' inputs is only cancelled: theirs shall not suffer.
    """
    exchange.cancelled = False
    dropped = caller.leave(exchange)
    # Also when a send blocks because the worker does not read.
    last = threading.Timer(COOPERATIVE + FORCED, kill)
    last.daemon = True
    last.start()
    try:
        caller.give_up(exchange, dropped)
        if _drained(caller, exchange, COOPERATIVE) or not caller.is_abandoned:
            return
        for _ in range(TRIES):  # one that comes in the instant before code begins to wait goes unnoticed there
            caller.signal(SignalKind.INTERRUPT, caller.abandoned)
            if _drained(caller, exchange, FORCED / TRIES):
                return
        kill()
    except SessionError:
        return  # it ended by itself
    except KeyboardInterrupt:
        kill()
    finally:
        last.cancel()


def _drained(caller: Caller, exchange: Exchange, seconds: float) -> bool:
    try:
        caller.wait(exchange, lambda: not exchange.open, seconds)
    except TimeoutError:
        return False
    return True
