"""What must not travel: values that look like secrets, and handles that mean something in this process only."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from avlab.core.errors import BundleError, SecretRefused
from avlab.remote.source import constants

_NAME = re.compile(
    r"token(?!iz)|secret|authorization|passw(or)?d|passphrase|credential|api_?key|(access|private|secret|auth|signing|encryption)_?key",
    re.IGNORECASE,
)
# Names that say where a secret lies, or what one looks like, rather than holding it.
_ABOUT = re.compile(
    r"_(pattern|regex|type|kind|sep|separator|name|path|file|dir|url|uri|env|var|field|column|label|prompt|hint|policy)$",
    re.IGNORECASE,
)
_MARK = re.compile(r"<[^<>]{1,20}>|\[[A-Z]{1,12}\]")  # a tokenizer's own tokens: <pad>, [CLS]
# By how a credential begins, which a plain search finds fast, and what follows.
_SHAPES = (
    ("an AWS access key", ("AKIA", "ASIA"), r"\b\w{4}[0-9A-Z]{16}\b"),
    ("a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\b\w{4}[A-Za-z0-9]{20,}"),
    ("a GitHub token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("a GitLab token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("a private key", ("-----BEGIN ",), r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a JSON web token", ("eyJ",), r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("an API key", ("sk-",), r"(?<![\w-])sk-(?:[a-z0-9]{2,12}-){0,3}[A-Za-z0-9_]{16,}"),
    ("an API key", ("sk_live_", "rk_live_"), r"\b\w{8}[0-9A-Za-z]{16,}"),
    ("an API key", ("AIza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a Hugging Face token", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    ("a URL with a password", ("://",), r"://[^\s/:@'\"<>{}$*]{1,256}:(?!%[sd(])[^\s/:@'\"<>{}$*]{1,256}@"),
)

_LIVE = {
    "_socket.socket": "a socket",
    "_io._IOBase": "an open file",
    "tempfile._TemporaryFileWrapper": "an open file",
    "_thread.lock": "a lock",
    "_thread.RLock": "a lock",
    "threading.Condition": "a lock",
    "threading.Event": "a threading event",
    "threading.Semaphore": "a lock",
    "threading.Barrier": "a lock",
    "threading.Thread": "a thread",
    "_thread._local": "a thread-local",
    "weakref.ReferenceType": "a weak reference",
    "weakref.WeakKeyDictionary": "a dictionary of weak references",
    "weakref.WeakValueDictionary": "a dictionary of weak references",
    "_weakrefset.WeakSet": "a set of weak references",
    "queue.Queue": "a queue between threads",
    "_queue.SimpleQueue": "a queue between threads",
    "concurrent.futures._base.Executor": "a pool of threads or processes",
    "concurrent.futures._base.Future": "a future",
    "multiprocessing.process.BaseProcess": "a process",
    "multiprocessing.queues.Queue": "a queue between processes",
    "subprocess.Popen": "a process",
    "asyncio.events.AbstractEventLoop": "an event loop",
    "asyncio.futures.Future": "an asyncio future",
    "_asyncio.Future": "an asyncio future",
    "_asyncio.Task": "an asyncio task",
    "builtins.generator": "a running generator",
    "builtins.async_generator": "a running generator",
    "builtins.coroutine": "a running coroutine",
    "builtins.frame": "a stack frame",
    "builtins.traceback": "a traceback",
    "mmap.mmap": "a memory map",
    "sqlite3.Connection": "a database connection",
    "sqlite3.Cursor": "a database cursor",
    "select.epoll": "a poll object",
    "select.poll": "a poll object",
    "selectors.BaseSelector": "a selector",
    "_ssl._SSLContext": "a TLS context",
    "_contextvars.Context": "a context",
    "os._Environ": "the environment of this process",
    "av.container.core.Container": "an open media file",
}
_LONG = 200  # characters
_HARMLESS = {"_io.BytesIO", "_io.StringIO"}


@dataclass(frozen=True, slots=True)
class Label:
    """How to speak of a value: ``kind`` and ``name`` of the captured variable, its ``owner``, the ``trail`` from there, and
    the ``last`` name on the way: of a variable, an attribute or a key."""

    kind: str
    name: str
    owner: str
    trail: str = ""
    last: str = ""

    def attribute(self, name: str) -> Label:
        return self._longer(f".{name}", name)

    def key(self, key: object) -> Label:
        shown = (
            repr(key) if isinstance(key, int | float | bool | bytes | str) and not shape_of(key) else type(key).__name__
        )
        return self._longer(f"[{shown[:40]}]", key if isinstance(key, str) else "")

    def _longer(self, step: str, last: str) -> Label:
        trail = self.trail if self.deep else self.trail + (step if len(self.trail) < _LONG else "…")
        return Label(self.kind, self.name, self.owner, trail, last)

    @property
    def deep(self) -> bool:
        """Whether the way was too long to be told to its end."""
        return self.trail.endswith("…")

    @property
    def unnamed(self) -> Label:
        """The same place without a name of its own: keys, members of a set."""
        return Label(self.kind, self.name, self.owner, self.trail)

    @property
    def variable(self) -> Label:
        """The captured variable that the value belongs to."""
        return Label(self.kind, self.name, self.owner)

    def __str__(self) -> str:
        if not self.name and not self.trail:
            return self.owner
        link = "used by" if self.kind == "global" else "closed over by" if self.kind == "variable" else "of"
        return f"{self.kind} `{self.name}{self.trail}` {link} {self.owner}"


def shape_of(value: object) -> str:
    """What kind of credential this text has the shape of; empty for none, and for anything that is not text."""
    if isinstance(value, str):
        return _first(value, _patterns()[0])
    return _first(value, _patterns()[1]) if isinstance(value, bytes | bytearray) else ""


@functools.cache
def _patterns() -> tuple[list[tuple[str, Any, Any]], list[tuple[str, Any, Any]]]:
    """What, beginning and pattern; for text and for bytes."""
    each = [(what, start, pattern) for what, starts, pattern in _SHAPES for start in starts]
    return (
        [(what, start, re.compile(pattern)) for what, start, pattern in each],
        [(what, start.encode(), re.compile(pattern.encode())) for what, start, pattern in each],
    )


def _first(value: Any, patterns: list[tuple[str, Any, Any]]) -> str:
    for what, start, pattern in patterns:
        at = value.find(start)
        while at >= 0:
            if pattern.match(value, at):
                return what
            at = value.find(start, at + 1)
    return ""


def suspect(name: str, value: str | bytes | bytearray) -> bool:
    """Whether a variable of this name is likely to hold a secret in this value."""
    return (
        bool(_NAME.search(name)) and not _ABOUT.search(name) and not (isinstance(value, str) and _MARK.fullmatch(value))
    )


def check_text(value: str | bytes | bytearray, label: Label, allowed: frozenset[str]) -> None:
    """Raises SecretRefused if a captured value looks like a secret, by its shape or by the name it goes by."""
    if not value or label.last in allowed or label.name in allowed:
        return
    what = shape_of(value)
    if not what and label.last and suspect(label.last, value):
        what = "a secret by its name"
    if what:
        name = label.last or label.name
        raise SecretRefused(
            f"{label} looks like {what} and was not packed: pass it as an argument to a call, "
            + (f"or pack with allow_secrets=({name!r},)" if name else "or keep it out of the source")
        )


def check_source(
    text: str, filename: str, allowed: frozenset[str], *, names: bool, within: Callable[[int], bool] = lambda line: True
) -> None:
    """Raises SecretRefused if source text holds a credential; names the line, never the value.

    ``names``: string literals assigned to names that sound like secrets count as well. ``within`` chooses lines. A line is
    allowed by the name it assigns to, or as ``file.py:12``.
    """
    literals = [(name, value, number) for name, value, number in constants(text) if within(number)]
    found = {
        number: (name, "a secret by its name")
        for name, value, number in literals
        if names and value and suspect(name, value)
    }
    if shape_of(text):
        assigned = {number: name for name, _, number in literals}
        for number, line in enumerate(text.splitlines(), 1):
            if within(number) and (what := shape_of(line)):
                found[number] = (assigned.get(number, ""), what)
    for number, (name, what) in sorted(found.items()):
        place = f"{os.path.basename(filename)}:{number}"
        if not allowed & {name, place}:
            raise SecretRefused(
                f"{f'`{name}` at ' if name else ''}{filename}, line {number} looks like {what}, and this text would travel: "
                f"take it out of the text and pass it as an argument to a call, or pack with allow_secrets=({name or place!r},)"
            )


def check_live(value: Any, label: Label) -> None:
    """Raises BundleError if the value is a handle of this process."""
    kinds = [f"{c.__module__}.{c.__qualname__}" for c in type(value).__mro__]
    if isinstance(value, memoryview) and type(value.obj).__module__ == "mmap":
        kinds = ["mmap.mmap"]
    if _HARMLESS.intersection(kinds):
        return
    what = next((_LIVE[k] for k in kinds if k in _LIVE), "")
    if not what and kinds[0].startswith("av.container."):
        what = "an open media file"
    if what:
        raise BundleError(
            f"{label} is {what} ({kinds[0]}), which means something in this process only: "
            "create it where it is used, for example in `open` or `__init__`"
        )
