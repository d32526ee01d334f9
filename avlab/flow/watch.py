"""Blocking on a run: progress, timeout, interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avlab.core.clock import monotonic
from avlab.core.errors import AvlabError, TimedOut
from avlab.flow.progress import Display, display, line
from avlab.flow.run import Run, limit
from avlab.flow.statistics import Result

_REDRAW = 0.2
_INTERRUPT = 1.6  # seconds for a stop after an interrupt, which may take 2 s in all


def watch(
    run: Run, progress: bool | None, timeout: float | None, total: Callable[[], int | None] | int | None
) -> Result:
    """Start a run and wait for its end, showing progress. See `Pipeline.run`."""
    shown: Display | None = None
    timeout = limit(timeout)
    try:
        run.start()
        shown = display(progress)
        count = total() if callable(total) else total
        result = _wait(run, shown, timeout, count)
    except KeyboardInterrupt as interrupt:
        if run.running:
            _leave(lambda: run.stop(_INTERRUPT), interrupt)
        raise
    except BaseException as error:
        if run.running:
            _leave(run.cancel, error)
        raise
    finally:
        if shown is not None:
            shown.close()
    return result


def _wait(run: Run, shown: Display | None, timeout: float | None, total: int | None) -> Result:
    if shown is None:
        return run.wait(timeout)
    until = None if timeout is None else monotonic() + int(timeout * 1e9)
    while True:
        try:
            return run.wait(_REDRAW if until is None else min(_REDRAW, max(0.0, (until - monotonic()) / 1e9)))
        except TimedOut:
            if until is not None and monotonic() >= until:
                raise TimedOut(f"the pipeline has not ended within {timeout:g} s") from None
        finally:
            shown.show(line(run.statistics(), total))


def _leave(end: Callable[[], Any], reason: BaseException) -> None:
    try:
        end()
    except AvlabError as error:  # the reason is what is raised
        if error is not reason:
            reason.add_note(f"while stopping: {error}")
