"""Exceptions across a link: an exception becomes a Failure on one bank and a RemoteError or SessionError on the other."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from avlab.core import errors
from avlab.core.errors import (
    AvlabError,
    LimitExceeded,
    NodeError,
    SessionError,
    WorkerDied,
    arguments_of,
    made_of,
    nearest_builtin,
    remote_error,
)
from avlab.core.item import Item
from avlab.core.message import MAX_MEMBERS, Failure
from avlab.core.scrub import cut, scrubbed
from avlab.core.tree import PLAIN

MAX_NAME = 200
MAX_TEXT = 1000  # of a member of an exception group
Hint = Callable[[BaseException], str]
_OWN = str(Path(errors.__file__).parents[1])


def describe(
    error: BaseException, item: Item | None = None, own: tuple[ModuleType, ...] = (), hint: Hint = lambda error: ""
) -> Failure:
    """The Failure that tells a caller of ``error``, which user code raised (at ``item``, if it was processing one).

    Frames of avlab itself and of the modules ``own`` are left out; texts are bounded (64 KiB). ``hint`` says what to do about an error.
    """
    whole = error  # drive names node and item in its message
    if isinstance(error, NodeError) and error.__cause__ is not None:
        error = error.__cause__
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
    kind = name.rpartition(".")[2] if isinstance(error, AvlabError) and cls.__module__ == errors.__name__ else ""
    folders = (_OWN, *(str(Path(m.__file__).parent) for m in own if m.__file__))
    text = "".join(_folded(error, folders))
    if told := hint(error):
        text += f"({told})\n"
    if item is not None:
        text += f"while processing item {item.seq}" + (f" of track {item.track!r}" if item.track else "")
        text += f" (pts {item.pts})\n" if item.pts is not None else "\n"
    return Failure(
        type=_bounded(name),
        builtin=nearest_builtin(cls),
        message=_text(whole),
        traceback=_bounded(text),
        kind=kind,
        members=_members(error, MAX_MEMBERS)[0],
        args=_args(error),
    )


def _args(error: BaseException) -> str:
    """What the error was made of, as JSON, if that is short and plain."""
    args = arguments_of(error)
    if not all(type(each) in PLAIN for each in args):
        return ""
    try:
        text = json.dumps(args)
    except ValueError:  # an integer of thousands of digits
        return ""
    return text if len(text) <= MAX_TEXT else ""


def _members(error: BaseException, left: int) -> tuple[list[Failure], int]:
    """The members of an exception group, of all its levels at most ``left``, and how many more there may be."""
    found: list[Failure] = []
    for each in error.exceptions if isinstance(error, ExceptionGroup) else ():
        if left <= 0:
            break
        members, left = _members(each, left - 1)
        name, text = cut(type(each).__qualname__, MAX_NAME), cut(_text(each), MAX_TEXT)
        found.append(Failure(name, nearest_builtin(type(each)), text, members=members))
    return found, left


def _text(error: BaseException) -> str:
    try:
        return _bounded(error.message if isinstance(error, ExceptionGroup) else str(error))
    except Exception as broken:  # noqa: BLE001  user code again
        return f"(its __str__ raised {type(broken).__name__})"


def _folded(error: BaseException, folders: tuple[str, ...]) -> list[str]:
    report = traceback.TracebackException.from_exception(error, compact=True)
    seen: list[traceback.TracebackException] = [report]
    while seen:
        part = seen.pop()
        part.stack = traceback.StackSummary.from_list([f for f in part.stack if not f.filename.startswith(folders)])
        seen.extend(p for p in (part.__cause__, part.__context__, *(part.exceptions or ())) if p is not None)
    return list(report.format())


def _bounded(text: str) -> str:
    return cut(text.encode("utf-8", "replace").decode("utf-8"))


def restore(failure: Failure, first_undelivered: int | None = None) -> AvlabError:
    """The exception that a Failure stands for, ready to be raised on the caller's side. Its texts are bounded and `scrubbed`."""
    message, name = scrubbed(failure.message), scrubbed(failure.type, MAX_NAME)
    if failure.reason:
        cls = LimitExceeded if failure.reason in ("oom", "cpu", "wall", "output") else WorkerDied
        return cls(message, scrubbed(failure.reason, MAX_NAME), first_undelivered)
    if failure.kind:
        own = getattr(errors, failure.kind, None)
        if isinstance(own, type) and issubclass(own, AvlabError) and not issubclass(own, NodeError):
            return own(message)
    members = [restore(each) for each in failure.members]
    error = remote_error(name, failure.builtin, message, scrubbed(failure.traceback), failure.input or None, members)
    made_of(error, _plain_args(failure.args))
    return error


def ending(failure: Failure) -> AvlabError:
    """`restore`, for a Failure that ends a session: never a TimeoutError, which says that nothing has arrived yet."""
    error = restore(failure)
    return SessionError(f"the session is lost: {error}") if isinstance(error, TimeoutError) else error


def _plain_args(text: str) -> tuple[Any, ...]:
    if not 2 < len(text) <= MAX_TEXT:
        return ()
    try:
        args = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(args, list) or not all(type(each) in PLAIN for each in args):
        return ()
    return tuple(scrubbed(each) if isinstance(each, str) else each for each in args)
