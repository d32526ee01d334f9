"""What workers print: shown under the cell that runs now, and kept for ``%avlab logs``."""

from __future__ import annotations

import codecs
import contextvars
import sys
import threading
from collections import deque
from dataclasses import dataclass, field

from IPython.display import DisplayHandle, publish_display_data

from avlab.core.message import Log
from avlab.core.scrub import harmless

PER_CELL = 1 << 20
"""Bytes of worker output shown under one cell; what follows is kept for the log alone."""
KEPT = 1 << 20
"""Bytes of worker output that ``%avlab logs`` remembers."""
_OWN = 128  # bytes that one piece costs besides its text: many empty ones must not fill memory either
MAX_IMAGE = 16 << 20
IMAGES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


@dataclass(slots=True)
class Place:
    """A cell's output area: the context that routes prints to it, and how many bytes it still takes."""

    context: contextvars.Context
    left: int = PER_CELL


@dataclass(slots=True)
class Outputs:
    """The output of all sessions. ``now`` is the place of the cell that runs; a print from any thread can go there."""

    now: Place = field(default_factory=lambda: Place(contextvars.copy_context()))
    _kept: deque[tuple[str, str]] = field(default_factory=deque)
    _size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new_cell(self, *_: object) -> None:
        """A cell starts in this context."""
        self.now = Place(contextvars.copy_context())

    def feed(self, name: str) -> Feed:
        """Where one session's logs go."""
        return Feed(self, name)

    def recent(self, lines: int) -> str:
        """The last lines of output of all sessions, oldest first."""
        with self._lock:
            kept = list(self._kept)
        text = "".join(f"{name} │ {line}\n" for name, part in kept for line in part.splitlines())
        return "".join(text.splitlines(keepends=True)[-lines:])

    def keep(self, name: str, text: str) -> None:
        """Remember for ``recent``; the oldest output makes room."""
        text = text[-KEPT // 2 :]
        with self._lock:
            self._kept.append((name, text))
            self._size += len(text) + _OWN
            while self._size > KEPT:
                self._size -= len(self._kept.popleft()[1]) + _OWN


class Feed:
    """Called with each Log of a session, in whatever thread waits in that session."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self._outputs, self._name = outputs, name
        self._place = outputs.now
        self._decoders = {s: codecs.getincrementaldecoder("utf-8")("replace") for s in ("stdout", "stderr")}

    def here(self) -> None:
        """What comes from now on belongs to the cell that runs now."""
        self._place = self._outputs.now

    def __call__(self, log: Log) -> None:
        # A context can be entered once at a time: every log runs in a copy.
        self._place.context.copy().run(self._show, log)

    def _show(self, log: Log) -> None:
        if log.dropped:
            self._print(f"[{self._name}: {log.dropped} bytes of output left out]\n", "stderr")
        if log.stream == "display" and _is_image(log):
            self._outputs.keep(self._name, f"[{log.mime}, {len(log.data)} bytes]\n")
            if self._fits(len(log.data)):
                publish_display_data({log.mime: log.data})
        elif log.stream in self._decoders:
            self._print(self._decoders[log.stream].decode(log.data), log.stream)
        elif log.data:
            # Never as markup: HTML of a worker would be script in the user's page.
            self._print(log.data.decode("utf-8", "replace").rstrip("\n") + "\n", "stdout")

    def _print(self, text: str, stream: str) -> None:
        text = harmless(text)
        self._outputs.keep(self._name, text)
        if self._fits(len(text)):
            print(text, end="", file=sys.stderr if stream == "stderr" else sys.stdout)

    def _fits(self, size: int) -> bool:
        place = self._place
        if place.left < 0:
            return False
        place.left -= size
        if place.left >= 0:
            return True
        print(f"\n[more than {PER_CELL >> 20} MiB of output: the rest is in %avlab logs]", file=sys.stderr)  # noqa: T201
        return False


class ProgressLine:
    """Progress of a blocking run, as one line below the cell that is redrawn in place."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None

    def show(self, line: str) -> None:
        """Replace the line."""
        data = {"text/plain": line}
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(data, raw=True)
        else:
            self._handle.update(data, raw=True)

    def close(self) -> None:
        """The last line stays."""


def _is_image(log: Log) -> bool:
    magic = IMAGES.get(log.mime)
    return magic is not None and log.data.startswith(magic) and len(log.data) <= MAX_IMAGE
