"""What a cell has started ends before that cell is run again: its view is gone then, and mostly its name."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from avlab.core.clock import monotonic


class Cells:
    """Which live runs each cell has started, by the id that JupyterLab and Notebook give it. ``watch`` is called before the first."""

    def __init__(self) -> None:
        self._shell: Any = None
        self._began: int | None = None
        self._started: dict[str, list[weakref.WeakMethod[Callable[[], object]]]] = {}

    def watch(self) -> None:
        """Hear of every cell from now on. Idempotent; outside of a kernel it does nothing."""
        jupyter = sys.modules.get("IPython")
        shell: Any = jupyter.get_ipython() if jupyter is not None else None
        if shell is not self._shell and getattr(shell, "kernel", None) is not None:
            self._shell = shell
            shell.events.register("pre_run_cell", self.begins)

    def note(self, stop: Callable[[], object], age: float = 0.0) -> None:
        """The cell under way has started what the method ``stop`` stops, unless that is ``age`` seconds old and thus another's."""
        self.watch()
        if self._shell is None:
            return
        if age and (self._began is None or age > (monotonic() - self._began) / 1e9):
            return
        cell = self._shell.kernel.get_parent("shell").get("metadata", {}).get("cellId")
        if cell:
            self._started.setdefault(cell, []).append(weakref.WeakMethod(stop))

    def begins(self, info: Any) -> None:
        """A cell is about to be run."""
        for noted in self._started.pop(getattr(info, "cell_id", None) or "", []):
            stop = noted()
            if stop is not None:
                with suppress(Exception):  # the run's own error, of no interest any more
                    stop()
        self._began = monotonic()


cells = Cells()
"""Those of this kernel."""
