"""Waiting for what nothing announces."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True
