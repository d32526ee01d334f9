"""The audit trail: one line of JSON per event on the logger ``avlab.audit``, without payloads and tokens.

Events: hello, bundle, spawn, exit, deny. What others have chosen (names, addresses, texts) is bounded, and escaped so that it
cannot begin a line of its own.
"""

from __future__ import annotations

import json
import logging

MOST = 500
"""Characters of one value."""
_log = logging.getLogger("avlab.audit")


def audit(event: str, **facts: str | int | float) -> None:
    """Write one line. The order of the facts is kept."""
    if not _log.isEnabledFor(logging.INFO):
        return
    bounded = {name: fact[:MOST] if isinstance(fact, str) else fact for name, fact in facts.items()}
    facts = {"event": event, **bounded}
    _log.info("%s", json.dumps(facts, ensure_ascii=True), extra={"audit": facts})


__all__ = ["audit"]
