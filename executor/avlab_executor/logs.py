"""The log of a server, on standard error: a line of text or of JSON for each record.

Whatever stands in a record cannot begin a record of its own: control characters are escaped, what follows the first line of an
exception is indented.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from avlab.core.scrub import scrubbed

MOST = 32 << 10
"""Characters of one message."""


class TextFormatter(logging.Formatter):
    """``2026-11-26T16:00:00.123Z INFO avlab.audit …``"""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and an exception's lines indented below it."""
        line = f"{_time(record)} {record.levelname} {record.name} {_message(record)}"
        if record.exc_info:
            trace = scrubbed(self.formatException(record.exc_info), MOST)
            line += "".join(f"\n    {each}" for each in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, logger, message, and exception where there is one. An audit line's facts are under "audit"."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts = {"time": _time(record), "level": record.levelname, "logger": record.name}
        audited = getattr(record, "audit", None)
        facts |= {"audit": audited} if audited is not None else {"message": _message(record)}
        if record.exc_info:
            facts["exception"] = scrubbed(self.formatException(record.exc_info), MOST)
        return json.dumps(facts, ensure_ascii=True, default=str)


FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}


def configure(form: str, level: str, audited: bool) -> None:
    """Log to standard error. form: "text" or "json"; level: the least that is logged; audited: whether the audit trail is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("avlab").setLevel(level.upper())
    logging.getLogger("avlab.audit").setLevel(logging.INFO if audited else logging.CRITICAL)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return scrubbed(record.getMessage(), MOST).replace("\n", "\\n")
