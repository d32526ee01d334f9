"""Tracebacks as the user wants them: the cells' own lines, without avlab's."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from os.path import isabs
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from avlab.core.errors import AvlabError, ConfigError, RemoteError

_PACKAGES = ("avlab", "avlab_kernel", "avlab_executor")
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FILE = re.compile(r'File "([^"\n]+)", line')
_HOOK = "_render_traceback_"  # IPython asks an exception for its own text by this name


class CannotBeRemote(AvlabError, TypeError):
    """A definition or use that would run in the kernel although it looks remote."""


class WrongArguments(ConfigError, TypeError):
    """Arguments that do not fit the signature."""


def install(shell: InteractiveShell) -> None:
    """Show avlab's errors, and interrupted calls, without avlab's frames."""
    shell.set_custom_exc((AvlabError, KeyboardInterrupt, asyncio.CancelledError, SyntaxError), _show)


def _show(shell: Any, kind: type, error: BaseException, tb: TracebackType | None, tb_offset: int | None = None) -> None:
    own = vars(error).get(_HOOK)
    if own is None and isinstance(error, SyntaxError):
        shell.showsyntaxerror(running_compiled_code=True)
    else:
        shell._showtraceback(kind, error, own() if own is not None else render(shell, error))


def begin_in(shell: Any, error: BaseException, filename: str) -> None:
    """Whoever shows this error shows it from its first frame in this file on."""
    if _HOOK not in vars(error):
        lines = render(shell, error, filename)
        setattr(error, _HOOK, lambda: lines)


def render(shell: Any, error: BaseException, start: str = "") -> list[str]:
    """The text of an error: the frames here, without avlab's, and for a remote error the frames over there."""
    if isinstance(error, SyntaxError) and error.filename == start:
        syntax: list[str] = shell.SyntaxTB.structured_traceback(type(error), error, [])
        return syntax
    frames = list(_frames(error.__traceback__))
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    begin = files.index(start) if start in files else 0
    own = _own_folders()
    inside = next((n for n, file in enumerate(files) if n > begin and file.startswith(own)), len(files))
    shown = None
    for n in range(len(frames) - 1, begin - 1, -1):
        # From avlab's first frame on, only what the user wrote and avlab called is of interest.
        if n < inside or not files[n].startswith((*own, *_INSTALLED)):
            shown = TracebackType(shown, frames[n].tb_frame, frames[n].tb_lasti, frames[n].tb_lineno)
    offset = 0 if start else None
    with _alone(error, (*own, *_INSTALLED)):
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, shown, tb_offset=offset)
    if isinstance(error, RemoteError) and error.remote_traceback:
        lines[-1] = _FILE.sub(lambda found: _place(shell, found[1]), error.remote_traceback.rstrip("\n"))
    return lines


@contextlib.contextmanager
def _alone(error: BaseException, ours: tuple[str, ...]) -> Iterator[None]:
    """Without the errors behind it if no line of the user's is in them (how avlab learned of it), and without a remote traceback's note."""
    cause, context, hidden = error.__cause__, error.__context__, error.__suppress_context__
    notes = getattr(error, "__notes__", None)
    frames = [frame for each in (cause, context) if each is not None for frame in _frames(each.__traceback__)]
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    if isinstance(context, AvlabError) or all(f.startswith(ours) or not isabs(f) for f in files):  # compiled: no folder
        error.__cause__, error.__context__ = None, None
    if isinstance(error, RemoteError) and notes:
        error.__notes__ = [note for note in notes if error.remote_traceback.rstrip() not in note]
    try:
        yield
    finally:
        error.__cause__, error.__context__, error.__suppress_context__ = cause, context, hidden
        if notes is not None:
            error.__notes__ = notes


def _place(shell: Any, filename: str) -> str:
    """How IPython calls a cell's file, and others by their name."""
    label = shell.compile.format_code_name(filename)
    return f"{' '.join(label)}, line" if label else f'File "{filename}", line'


def _own_folders() -> tuple[str, ...]:
    modules = [sys.modules[name] for name in _PACKAGES if name in sys.modules]
    return tuple(str(Path(module.__file__).parent) for module in modules if module.__file__)


def _frames(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next
