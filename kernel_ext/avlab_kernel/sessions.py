"""Who owns the executors and sessions of a notebook."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab.remote.bundle import Packed, pack
from avlab.remote.client import Executor, connect
from avlab.remote.session import Session

from .display import Outputs
from .handle import Handle
from .proxy import original_of


class Desk:
    """The executors that this notebook uses, by URL, and the sessions that its proxies opened on them.

    The default executor is the embedded one until `connect` names another; each starts with the first session that needs it.
    """

    def __init__(self) -> None:
        self.url = "local:"
        self.outputs = Outputs()
        self._config: dict[str, Any] = {}
        self._executors: dict[str, Executor] = {}
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._unreferenced: deque[Handle] = deque()
        self._wake = threading.Lock()
        self._closer: threading.Thread | None = None

    def connect(self, url: str, **config: Any) -> Executor:
        """Make ``url`` the default executor and connect to it. Raises what ``avlab.connect`` raises; then nothing changes."""
        executor = connect(url, **config)
        with self._lock:
            old, self._executors[url] = self._executors.get(url), executor
            self.url, self._config = url, config
        if old is not None:
            old.close()
        return executor

    def executor(self, url: str | None = None) -> Executor:
        """The executor at ``url`` (default: the notebook's), connected on first use."""
        url = url or self.url
        with self._lock:
            if url not in self._executors:
                self._executors[url] = connect(url, **(self._config if url == self.url else {}))
            return self._executors[url]

    def connected(self) -> dict[str, Executor]:
        """The executors in use, by URL."""
        with self._lock:
            return dict(self._executors)

    def adopt(self, owner: object, handle: Handle) -> None:
        """Close the handle's session once ``owner`` is no longer referenced."""
        self._handles.add(handle)
        weakref.finalize(owner, self._release, handle).atexit = False

    def sessions(self) -> list[Handle]:
        """The handles with an open session."""
        return [handle for handle in list(self._handles) if handle.is_open]

    def stop(self, name: str | None = None) -> int:
        """Close the sessions called ``name``, or all sessions and executors; returns how many sessions were closed."""
        mine = [handle for handle in self.sessions() if name in (None, handle.name)]
        for handle in mine:
            handle.close("it was stopped by %avlab stop")
        if name is None:
            with self._lock:
                executors, self._executors = list(self._executors.values()), {}
            for executor in executors:
                executor.close()
        return len(mine)

    def _release(self, handle: Handle) -> None:
        # The garbage collector may call this inside any code that holds any lock: append and a bare release are all it dares.
        if handle.is_open:
            self._unreferenced.append(handle)
            with contextlib.suppress(RuntimeError):  # it is awake already
                self._wake.release()

    def opened(self) -> None:
        """A session was opened: from now on somebody must close those that nobody refers to any more."""
        with self._lock:
            if self._closer is None:
                self._wake.acquire()
                self._closer = threading.Thread(target=self._close_unreferenced, name="avlab-closer", daemon=True)
                self._closer.start()

    def _close_unreferenced(self) -> None:
        while self._wake.acquire():
            while self._unreferenced:
                self._unreferenced.popleft().close("nothing referred to it any more")


@dataclass(frozen=True)
class Home:
    """Where and how the definitions of one cell run: its options, its source and the folder that its modules lie in."""

    desk: Desk
    base: Path
    sources: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    on: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def pack(self, target: object) -> Packed:
        """The bundle of an object of this cell. Raises BundleError naming what cannot travel."""
        if isinstance(target, Packed):
            return target
        return pack(target, files=self.files, sources=self.sources, base=self.base, originals=original_of)

    def open(self, handle: Handle, target: object) -> Session:
        """A session on this cell's executor."""
        packed = self.pack(target)
        session = self.desk.executor(self.on).open(packed, on_log=handle.feed, **self.limits)
        self.desk.opened()
        return session


def check_url(url: str | None) -> str | None:
    """Raises ConfigError for something that is no URL of an executor."""
    if url is not None and ":" not in url:
        raise ConfigError(f"--on {url}: not the URL of an executor: write local: or grpc://host:port")
    return url
