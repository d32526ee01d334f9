"""Tracebacks as the user wants them: the cell's own lines, without avlab's."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

import avlab
from avlab.core.errors import AvlabError

_OWN = (str(Path(avlab.__file__).parent), str(Path(__file__).parent))


class CannotBeRemote(AvlabError, TypeError):
    """A definition or use that would run in the kernel although it looks remote."""


def install(shell: InteractiveShell) -> None:
    """Show avlab's errors without avlab's frames, where ``shell`` shows errors."""
    shell.set_custom_exc((AvlabError,), _show)


def _show(shell: Any, kind: type, error: BaseException, tb: TracebackType | None, tb_offset: int | None = None) -> None:
    shell._showtraceback(kind, error, render(shell, error))


def render(shell: Any, error: BaseException, start: str = "") -> list[str]:
    """The lines of an error's traceback. ``start``: the file that it begins in, if it has frames there."""
    own = getattr(error, "_render_traceback_", None)
    if own is not None:
        lines: list[str] = own()
        return lines
    frames = []
    tb = error.__traceback__
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    begin = files.index(start) if start in files else 0
    shown = None
    for frame, file in reversed(list(zip(frames[begin:], files[begin:], strict=True))):
        if not file.startswith(_OWN):
            shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    offset = 0 if start else None
    stb: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, shown, tb_offset=offset)
    return stb


def begin_in(shell: Any, error: BaseException, filename: str) -> None:
    """Whoever shows this error shows it from this file on (IPython's hook on exceptions)."""
    if not hasattr(error, "_render_traceback_"):
        lines = render(shell, error, filename)
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
