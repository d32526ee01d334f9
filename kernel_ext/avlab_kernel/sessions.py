"""Who owns the executors and sessions of a notebook."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from typing import Any, Protocol

from avlab.core.errors import AvlabError, SessionError
from avlab.remote.client import Executor
from avlab.remote.connect import connect
from avlab.remote.imports import LoadedModules

from .display import Outputs
from .handle import Handle


class Closable(Protocol):
    """What is at work until it is closed."""

    def close(self) -> None: ...


class Desk:
    """The executors that this notebook uses, by URL, and the sessions that its proxies opened on them.

    The default executor is the embedded one until `connect` names another; each starts with the first session that needs it.
    """

    def __init__(self) -> None:
        self.url = "local:"
        self.outputs = Outputs()
        self.modules = LoadedModules()
        self.originals: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()
        self._config: dict[str, Any] = {}
        self._executors: dict[str, Executor] = {}
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._lock = threading.RLock()  # never held for long: `%avlab status` and `stop` need it
        self._connecting = threading.Lock()  # one at a time
        self._stops = 0
        self._unreferenced: deque[Handle] = deque()
        self._wake = threading.Lock()
        self._closer: threading.Thread | None = None
        self._watching: Closable | None = None

    def connect(self, url: str, **config: Any) -> Executor:
        """Make ``url`` the default executor and connect to it. Raises what ``avlab.connect`` raises; then nothing changes."""
        with self._connecting:
            executor = connect(url, **config)
            with self._lock:
                old, self._executors[url] = self._executors.get(url), executor
                self.url, self._config = url, config
        if old is not None:
            old.close()
        return executor

    def executor(self, url: str | None = None) -> Executor:
        """The executor at ``url`` (default: the notebook's), connected on first use. Raises SessionError when it was stopped
        meanwhile."""
        with self._connecting:
            with self._lock:
                url, stops = url or self.url, self._stops
                known, config = self._executors.get(url), self._config if url == self.url else {}
            if known is not None:
                return known
            executor = connect(url, **config)
            with self._lock:
                if stops == self._stops:
                    self._executors[url] = executor
                    return executor
            executor.close()
            raise SessionError(f"{url} was stopped by %avlab stop before it was connected: run the cell again")

    def connected(self) -> dict[str, Executor]:
        """The executors in use, by URL."""
        with self._lock:
            return dict(self._executors)

    def adopt(self, owner: object, handle: Handle) -> None:
        """Close the handle's session once ``owner`` is no longer referenced."""
        with self._lock:
            self._handles.add(handle)
        handle.owner = weakref.ref(owner)
        weakref.finalize(owner, self._release, handle).atexit = False

    def stand(self, original: type, stand_in: type) -> None:
        """Remember what stands for a class of a cell; as long as somebody else does."""
        self.originals[original] = weakref.ref(stand_in)

    def standing(self, original: type) -> type | None:
        """What stands for a class."""
        found = self.originals.get(original)
        return found() if found is not None else None

    def sessions(self) -> list[Handle]:
        """The handles with an open session."""
        return [handle for handle in self._all() if handle.is_open]

    def _all(self) -> list[Handle]:
        with self._lock:
            return list(self._handles)

    def watch(self, table: Closable | None) -> None:
        """This table is drawn again and again now, instead of the one before it."""
        before, self._watching = self._watching, table
        if before is not None:
            before.close()

    def stop(self, name: str | None = None) -> int:
        """Close the sessions called ``name``, or all sessions and executors, also those on their way; returns how many sessions
        were closed."""
        mine = [each for each in self._all() if (each.is_open or each.is_opening) and name in (None, each.name)]
        for handle in mine:
            handle.close("it was stopped by %avlab stop")
        if name is None:
            self.watch(None)
            with self._lock:
                self._stops += 1
                executors, self._executors = list(self._executors.values()), {}
                closer, self._closer = self._closer, None
            for executor in executors:
                executor.close()
            if closer is not None:
                self._awake()
                closer.join()
        return len(mine)

    def _release(self, handle: Handle) -> None:
        # The garbage collector may call this inside code that holds any lock: all it dares is to append and to release.
        if handle.is_open:
            self._unreferenced.append(handle)
            self._awake()

    def _awake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._wake.release()

    def opened(self) -> None:
        """A session was opened: from now on somebody must close those that nobody refers to any more."""
        with self._lock:
            if self._closer is None:
                self._wake.acquire(blocking=False)
                self._closer = threading.Thread(target=self._close_unreferenced, name="avlab-closer", daemon=True)
                self._closer.start()

    def _close_unreferenced(self) -> None:
        while self._closer is threading.current_thread():
            while self._unreferenced:
                with contextlib.suppress(AvlabError):  # its executor is gone: so is the session
                    self._unreferenced.popleft().close("nothing referred to it any more")
            self._wake.acquire()
