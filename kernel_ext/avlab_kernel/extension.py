"""``%load_ext avlab``."""

from __future__ import annotations

import atexit
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

from avlab.flow.progress import Hook

from . import tracebacks
from .display import ProgressLine
from .live.again import cells
from .magics import AvlabMagics
from .sessions import Desk
from .traces import CellTraces

_ATTRIBUTE = "_avlab_desk"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics. Loading again changes nothing."""
    if hasattr(shell, _ATTRIBUTE):
        return
    desk = Desk()
    setattr(shell, _ATTRIBUTE, desk)
    shell.register_magics(AvlabMagics(shell, desk))
    tracebacks.install(shell)
    Hook.display = ProgressLine
    shell.events.register("pre_run_cell", desk.outputs.new_cell)
    shell.events.register("post_run_cell", lambda _: desk.modules.note(Path.cwd()))
    CellTraces(shell)
    cells.watch()
    desk.outputs.new_cell()
    atexit.register(desk.stop)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """End all sessions and executors of the notebook. The magics stay registered until the kernel ends."""
    desk: Desk | None = getattr(shell, _ATTRIBUTE, None)
    if desk is not None:
        desk.stop()
