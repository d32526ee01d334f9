"""When a server that was started on demand has nothing to do any more."""

from __future__ import annotations

from collections.abc import Callable

from avlab.core.errors import ConfigError

_GLANCES = 8
_LONGEST_GLANCE = 5.0


def until_idle(busy: Callable[[], bool], wait: Callable[[float], bool], seconds: float) -> bool:
    """Wait until ``busy`` has been false for ``seconds``; it is looked at several times in that span.

    ``wait`` sleeps for some seconds and says whether to give up. Returns whether idleness was reached. Raises ConfigError.
    """
    if seconds <= 0:
        raise ConfigError(f"idle after {seconds:g} s: give a positive number of seconds")
    step = min(seconds / _GLANCES, _LONGEST_GLANCE)
    idle = 0.0
    while idle < seconds:
        if wait(step):
            return False
        idle = 0.0 if busy() else idle + step
    return True
