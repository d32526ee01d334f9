"""A span for each cell, where the notebook uses OpenTelemetry: what the cell asks of executors belongs to it."""

from __future__ import annotations

from typing import Any

from avlab.remote.tracing import Trace, start


class CellTraces:
    """Begins a span before a cell and ends it after it; in a kernel without OpenTelemetry it does nothing."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._trace: Trace | None = None
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def _begin(self, *_: object) -> None:
        self._trace = start("avlab.cell", attributes={"avlab.cell": self._shell.execution_count}, headers={})
        if self._trace is not None:
            # A kernel may run the cell in a context that is gone when it ends: nothing is there to be undone.
            self._trace.enter()

    def _end(self, result: Any) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.leave()
            error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
            trace.end(type(error).__name__ if error is not None else "")
