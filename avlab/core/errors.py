"""The error tree. Every error that leaves avlab is an AvlabError; errors are named by what the caller can do about them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn


class AvlabError(Exception):
    """Base of every error that avlab raises."""


class ConfigError(AvlabError, ValueError):
    """An argument, option, URL or spec is wrong: correct it and call again."""


class PipelineError(ConfigError):
    """A pipeline cannot be built; names the node or the edge."""


class UnknownNode(ConfigError):
    """No node of this name is registered where it was looked for."""


class BundleError(AvlabError):
    """An object cannot be packed or loaded; names the variable, import or version."""


class SecretRefused(BundleError):
    """A captured value looks like a credential."""


class VersionMismatch(BundleError):
    """Both sides differ in Python minor, cloudpickle or wire version."""


class CodecError(AvlabError):
    """Bytes from a link are not what the format promises, or a value has no codec."""


class ItemTooLarge(CodecError):
    """An item exceeds the largest size that a link carries; names the size and the limit."""


class MediaError(AvlabError):
    """A file, stream or frame cannot be read, decoded or written; names the file."""


class TimingError(MediaError):
    """Timestamps that a sink cannot write, for example not increasing; names the track and the pts."""


class LinkError(AvlabError):
    """Something is wrong between the caller and the executor."""


class ConnectError(LinkError):
    """No executor answers at the address; names it."""


class LinkClosed(LinkError):
    """The other side has ended the link."""


class Denied(LinkError):
    """The executor refuses: credentials, tier or quota."""


class SessionError(AvlabError):
    """A session ended or cannot be used; ``first_undelivered`` is the number of the first input without all its results."""

    def __init__(self, message: str, first_undelivered: int | None = None) -> None:
        super().__init__(message)
        self.first_undelivered = first_undelivered


class SessionClosed(SessionError):
    """The session was closed, by the caller or by its own end."""


class SessionLost(SessionError):
    """The connection to the executor was lost for longer than the session's grace, or (``answered``) the executor does not have the
    session any more: it was restarted."""

    answered = False


class PoisonItem(SessionError):
    """The workers that were given this item died one after the other; ``first_undelivered`` is its number."""


class WorkerDied(SessionError):
    """The session's process is gone. ``reason``: oom, signal, cpu, wall, seccomp, output, exit, cancelled (by this side) or stopped
    (with its executor)."""

    def __init__(self, message: str, reason: str = "exit", first_undelivered: int | None = None) -> None:
        super().__init__(message, first_undelivered)
        self.reason = reason


class LimitExceeded(WorkerDied):
    """The worker was ended because it used more than a limit of its session allows."""


class LimitUnsupported(ConfigError):
    """The isolation tier cannot enforce a limit that was asked for; names the tier that can."""


class TierUnavailable(AvlabError):
    """The isolation tier that was asked for is not possible on this system; names the missing layer."""


class EnvironmentFailed(AvlabError):
    """The packages or the Python that a session asked for cannot be had; shows what the installer said last."""


class Cancelled(AvlabError):
    """The work was stopped on purpose before its end."""


class TimedOut(Cancelled, TimeoutError):
    """The work did not end within the time that the caller gave it."""


class NodeError(AvlabError):
    """A local node raised. Also *is* the builtin type of the original, which is its ``__cause__``, with its ``args``.

    ``node``: the node's name; ``item``: number of the item within its track, or None outside of an item.
    """

    node: str = ""
    item: int | None = None


class RemoteError(AvlabError):
    """User code raised in the worker.

    Raised as a class that also *is* the builtin type of the original, so ``except ValueError`` works, with its ``args`` where
    they are plain values (an OSError has its ``errno`` and file names). ``type_name`` is the
    original's qualified name, ``remote_traceback`` its folded traceback (a note too, so that a script shows it),
    ``input`` the number of the failing input.
    """

    type_name: str = ""
    remote_traceback: str = ""
    input: int | None = None

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of the local frames (IPython's custom traceback hook)."""
        text = self.remote_traceback or f"{self.type_name}: {self}"
        return text.rstrip("\n").split("\n")


_NOT_MIRRORED = {"KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration", "StopAsyncIteration"}


def remote_error(
    type_name: str,
    builtin: str,
    message: str,
    traceback: str = "",
    input: int | None = None,
    members: Sequence[Exception] = (),
) -> RemoteError:
    """A RemoteError that is also the builtin exception named ``builtin``; ``members``: of an ExceptionGroup.

    Control-flow exceptions (KeyboardInterrupt, StopIteration and their like) are not mirrored: a worker must not steer the
    caller's interpreter. Unknown names give a plain RemoteError.
    """
    error: RemoteError = _mirrored(RemoteError, builtin, message, members)
    error.type_name = type_name or builtin
    error.remote_traceback = traceback
    error.input = input
    if traceback:
        error.add_note(f"over there:\n{traceback.rstrip()}")
    return error


def blame(node: object, item: Any, error: Exception, method: str = "process") -> NoReturn:
    """Raise what leaves a pipeline when ``node`` raised ``error``: a NodeError naming the node, the item and its track.

    avlab's own errors are raised as they are, with the place as a note.
    """
    name = type(node).__name__
    where = f"{name}.{method}"
    if item is not None and method == "process":
        where += f", item {item.seq}" + (f" of track {item.track!r}" if item.track else "")
    if isinstance(error, AvlabError):
        if not isinstance(error, NodeError) and not any(note.startswith("in ") for note in getattr(error, "__notes__", ())):
            error.add_note(f"in {where}")
        raise error
    members = error.exceptions if isinstance(error, ExceptionGroup) else ()
    text = error.message if isinstance(error, ExceptionGroup) else str(error)
    wrapped: NodeError = _mirrored(NodeError, nearest_builtin(type(error)), f"{text} (in {where})", members)
    made_of(wrapped, arguments_of(error))
    wrapped.node, wrapped.item = name, getattr(item, "seq", None)
    raise wrapped from error


def nearest_builtin(cls: type) -> str:
    """Name of the first builtin exception among a class and its bases."""
    return next(base.__name__ for base in cls.__mro__ if base.__module__ == "builtins")


def _mirrored(kind: type, builtin: str, message: str, members: Sequence[Exception]) -> Any:
    cls = _mirror(kind, builtin) if builtin in vars(builtins) else kind  # a worker may name others without end
    if issubclass(cls, ExceptionGroup):
        return cls(message, members) if members else kind(message)
    error = cls(message)
    error.args = (message,)
    error.__dict__["_said"] = message
    return error


def arguments_of(error: BaseException) -> tuple[Any, ...]:
    """What an error was made of; of an OSError with the names of its files, which are not in its ``args``."""
    if not isinstance(error, OSError) or error.filename is None:
        return error.args
    files = (error.filename,) if error.filename2 is None else (error.filename, None, error.filename2)
    return (error.errno, error.strerror, *files)


def made_of(error: AvlabError, args: tuple[Any, ...]) -> None:
    """Give a mirrored error the arguments of the original, and so an OSError its errno and file names; its text stays."""
    if not args or type(error).__str__ is not _message:
        return
    error.args = args
    if isinstance(error, OSError) and len(args) > 1:
        OSError.__init__(error, *args)


@cache
def _mirror(kind: Any, builtin: str) -> Any:
    base = getattr(builtins, builtin, None)
    if not isinstance(base, type) or not issubclass(base, Exception) or builtin in {*_NOT_MIRRORED, "Exception"}:
        return kind
    if base is ExceptionGroup:
        return type(builtin, (kind, base), {"__module__": "avlab", "__init__": _nothing})
    try:
        # str() of KeyError quotes and of UnicodeDecodeError needs fields: show the message as it is.
        bases: tuple[Any, ...] = (kind, base)
        cls = type(builtin, bases, {"__module__": "avlab", "__init__": _nothing, "__str__": _message})
        cls("")
        return cls
    except TypeError:  # its layout does not go with ours, or it cannot be made of a message alone
        return kind


def _nothing(error: BaseException, *_: Any) -> None:
    """Some exceptions want more than a message to be made."""


def _message(error: BaseException) -> str:
    return str(vars(error).get("_said", ""))
