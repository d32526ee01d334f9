"""The audit trail: one line of JSON per event on the logger ``avlab.audit``, without payloads and tokens.

Events: hello, bundle, spawn, exit, deny. What others have chosen (names, addresses, texts) is bounded, and escaped so that it
cannot begin a line of its own.
"""

from __future__ import annotations

import json
import logging
import threading

from avlab.core.clock import Clock, monotonic

MOST = 500
"""Characters of one value."""
STRANGERS = 10
"""Lines in a second about calls without a valid token: who has none cannot fill a disk."""
_log = logging.getLogger("avlab.audit")


def audit(event: str, **facts: str | int | float) -> None:
    """Write one line. The order of the facts is kept."""
    if not _log.isEnabledFor(logging.INFO):
        return
    bounded = {name: fact[:MOST] if isinstance(fact, str) else fact for name, fact in facts.items()}
    facts = {"event": event, **bounded}
    _log.info("%s", json.dumps(facts, ensure_ascii=True), extra={"audit": facts})


class Strangers:
    """The lines about calls without a valid token: at most so many in a second, the next one tells how many were left out."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock, self._second, self._written, self._left_out = clock, 0, 0, 0
        self._lock = threading.Lock()

    def denied(self, peer: str, what: str) -> None:
        """One more such call."""
        with self._lock:
            second = self._clock() // 1_000_000_000
            if second != self._second:
                self._second, self._written = second, 0
            if self._written >= STRANGERS:
                self._left_out += 1
                return
            self._written += 1
            more = {"left_out": self._left_out} if self._left_out else {}
            self._left_out = 0
        audit("deny", peer=peer, what=what, error="Unauthenticated", **more)


__all__ = ["Strangers", "audit"]
