"""Store: the folder of environments, shared by all executors of one user on one machine.

``kept/KEY`` is an environment, ``building/KEY`` one at work, ``locks/KEY`` the file whose lock says who may do what: shared by those
who use it, exclusive for who builds or removes it. The kernel drops the locks of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from avlab.core.errors import AvlabError, Cancelled, EnvironmentFailed
from avlab_executor.environments import finish
from avlab_executor.environments.build import Build
from avlab_executor.environments.policy import Policy
from avlab_executor.environments.spec import Environment, Spec
from avlab_executor.sandbox import scratch

_WAIT_SECONDS = 0.2  # nothing announces that another process has dropped a lock


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store holds (of all executors that share its folder), and what this executor did: builds by outcome (built, failed,
    stopped), environments that it removed to make room."""

    environments: int
    bytes: int
    builds: Mapping[str, int]
    removed: int


class Lease:
    """An environment in use: it stays until the lease is closed."""

    def __init__(self, environment: Environment, lock: int) -> None:
        self.environment, self._lock = environment, lock

    def close(self) -> None:
        """The environment may go. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Store:
    """Environments under a policy. ``confined``: the tier that installers are confined with; ``removed``: told of each that is
    removed here, by its key. Thread-safe."""

    def __init__(self, policy: Policy, confined: Callable[[], str], removed: Callable[[str], None]) -> None:
        self.policy, self._confined, self._removed = policy, confined, removed
        self._builds: dict[str, Build] = {}
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False
        self._outcomes = dict.fromkeys(("built", "failed", "stopped"), 0)
        self._evicted = 0

    def statistics(self) -> Kept:
        """What is kept now, and what was done since the start."""
        sizes = [size for _, _, size in self._found()]
        with self._lock:
            return Kept(len(sizes), sum(sizes), dict(self._outcomes), self._evicted)

    def build(self, spec: Spec) -> Iterator[str]:
        """Make sure that an environment is there: the installer's lines, and "" now and then; none if it is.

        Whoever needs the same one joins. Raises EnvironmentFailed, Cancelled.
        """
        if not self._is_kept(spec.key):
            yield from self._join(spec).follow()

    def lease(self, spec: Spec) -> Lease:
        """An environment to use, built now if it is missing. Raises EnvironmentFailed, Cancelled."""
        while True:
            lock = self._open_lock(spec.key)
            try:
                if self._try(lock, fcntl.LOCK_SH) and self._is_kept(spec.key):
                    folder = self._kept / spec.key
                    os.utime(folder / finish.NOTE)  # used most recently
                    return Lease(finish.load(spec.key, folder, spec), lock)
            except (OSError, ValueError, KeyError) as error:
                os.close(lock)
                raise EnvironmentFailed(
                    f"the environment {self._kept / spec.key} is damaged: remove it ({error})"
                ) from None
            os.close(lock)
            for _ in self._join(spec).follow():
                pass

    def close(self) -> None:
        """Stop all builds and wait for their end. Idempotent."""
        with self._lock:
            self._closed = True
            builds, threads, self._threads = list(self._builds.values()), self._threads, None
        for build in builds:
            build.stop()
        if threads is not None:
            threads.shutdown()

    @property
    def _kept(self) -> Path:
        return self.policy.place / "kept"

    @property
    def _building(self) -> Path:
        return self.policy.place / "building"

    def _is_kept(self, key: str) -> bool:
        return os.path.exists(self._kept / key / finish.NOTE)

    def _open_lock(self, key: str) -> int:
        try:
            for folder in ("kept", "building", "locks"):  # an installer's own user must come through
                (self.policy.place / folder).mkdir(mode=0o711, parents=True, exist_ok=True)
            return os.open(self.policy.place / "locks" / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentFailed(f"environments cannot be kept in {self.policy.place}: {error.strerror}") from None

    def _try(self, lock: int, kind: int) -> bool:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _join(self, spec: Spec) -> Build:
        with self._lock:
            if self._closed:
                raise Cancelled("the executor is closed")
            build = self._builds.get(spec.key)
            if build is None or build.stopped.is_set():
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(self.policy.builds, thread_name_prefix="avlab-build")
                build = self._builds[spec.key] = Build(spec)
                self._threads.submit(self._run, build)
            return build

    def _run(self, build: Build) -> None:
        try:
            self._make(build)
        except AvlabError as error:
            outcome: BaseException | None = error
        except OSError as error:
            outcome = EnvironmentFailed(f"{build.spec} cannot be installed: {error}")
        except BaseException as error:  # noqa: BLE001  raised where somebody waits for it
            outcome = error
        else:
            outcome = None
        with self._lock:
            if self._builds.get(build.spec.key) is build:
                del self._builds[build.spec.key]
            self._outcomes["built" if outcome is None else "stopped" if isinstance(outcome, Cancelled) else "failed"] += 1
        if outcome is None:
            build.outcome.set_result(None)
        else:
            build.outcome.set_exception(outcome)

    def _make(self, build: Build) -> None:
        key = build.spec.key
        lock = self._open_lock(key)
        try:
            told = False
            while not self._try(lock, fcntl.LOCK_EX):
                if self._is_kept(key):
                    return  # those who use it hold the lock
                if not told:
                    build.say("another process builds this environment")
                    told = True
                if build.stopped.wait(_WAIT_SECONDS):
                    raise Cancelled(f"the installation of {build.spec} was stopped")
            if build.stopped.is_set():
                raise Cancelled(f"the installation of {build.spec} was stopped")
            if self._is_kept(key):
                return
            folder = self._building / key
            scratch.remove(str(folder))  # of a builder that died
            scratch.remove(str(self._kept / key))  # without its note
            folder.mkdir(mode=0o700)
            build.say(f"installing {build.spec}")
            try:
                with self._downloads() as cache:
                    build.run(folder, cache, self.policy, self._confined())
                folder.rename(self._kept / key)
            finally:
                scratch.remove(str(folder))
            build.say("the environment is ready, and kept")
        finally:
            os.close(lock)
        self._evict(key)

    @contextlib.contextmanager
    def _downloads(self) -> Iterator[Path]:
        """The folder that downloads are kept in, emptied when it has grown large and nobody else uses it."""
        folder, lock = self.policy.place / "downloads", self._open_lock("downloads")
        try:
            if self._try(lock, fcntl.LOCK_EX) and scratch.usage(str(folder), self.policy.disk) >= self.policy.disk:
                scratch.remove(str(folder))
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(lock)

    def _evict(self, newest: str) -> None:
        """Remove the least recently used environments, until what is kept fits; those in use stay. And what dead builders left."""
        found = self._found()
        total = sum(size for _, _, size in found)
        for _, key, size in sorted(found):
            if total <= self.policy.size:
                break
            if key != newest and self._remove(self._kept / key):
                total -= size
                with self._lock:
                    self._evicted += 1
                self._removed(key)
        for folder in self._building.iterdir():
            self._remove(folder)

    def _found(self) -> list[tuple[int, str, int]]:
        """What is kept: when it was used last, its key, its bytes."""
        found = []
        for folder in self._kept.iterdir() if self._kept.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, KeyError):  # another process has just removed it
                size = int(finish.read_note(folder)["bytes"])
                found.append(((folder / finish.NOTE).stat().st_mtime_ns, folder.name, size))
        return found

    def _remove(self, folder: Path) -> bool:
        """Remove the folder of an environment unless somebody uses or builds it."""
        lock = self._open_lock(folder.name)
        try:
            if not self._try(lock, fcntl.LOCK_EX):
                return False
            (folder / finish.NOTE).unlink(missing_ok=True)  # first: what is half gone is not kept
            scratch.remove(str(folder))
            return True
        finally:
            os.close(lock)
