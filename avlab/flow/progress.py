"""Progress of a blocking run: one line, redrawn; on a terminal by itself, in a notebook through a hook."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from avlab.flow.statistics import Statistics


class Display(Protocol):
    """Shows one line of text, replacing the last one. ``close`` leaves it standing."""

    def show(self, line: str) -> None:
        """Replace the line."""

    def close(self) -> None:
        """The last line was shown."""


class TerminalLine:
    """A line on a terminal or in a log, redrawn with a carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._width = stream, 0

    def show(self, line: str) -> None:
        """Replace the line."""
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def close(self) -> None:
        """End the line."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()


class Hook:
    """Where a notebook says how it shows progress; ``display`` is None outside of one."""

    display: Callable[[], Display] | None = None


def display(wanted: bool | None) -> Display | None:
    """How to show progress: None for not at all. By default only in a notebook and on a terminal."""
    if wanted is False:
        return None
    if Hook.display is not None:
        return Hook.display()
    if wanted or sys.stderr.isatty():
        return TerminalLine(sys.stderr)
    return None


def line(statistics: Statistics, total: int | None) -> str:
    """One line: a bar when the total is known, the count, the rate of the last node."""
    source, last = statistics.hops[0], statistics.hops[-1]
    done, seconds = source.sent, statistics.elapsed
    rate = f"{max(last.received, last.sent) / seconds:.1f}/s" if seconds else ""
    drops = sum(hop.dropped for hop in statistics.hops)
    tail = f"{rate}, {seconds:.1f} s" + (f", {drops} dropped" if drops else "")
    if not total:
        return f"{done} items, {tail}"
    share = min(done / total, 1.0)
    bar = ("█" * round(share * 24)).ljust(24, "·")
    return f"{bar} {share:4.0%}  {done}/{total}, {tail}"
