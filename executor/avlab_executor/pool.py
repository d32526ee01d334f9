"""A pool of workers that wait, started, imported and locked, for their first byte."""

from __future__ import annotations

import itertools
import os
import random
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from avlab.core.errors import AvlabError
from avlab.remote.limits import Limits
from avlab_executor import watch
from avlab_executor.allowance import effective, for_kernel
from avlab_executor.process import StillbornError, WorkerProcess, cannot_start
from avlab_executor.sandbox.profile import DEFAULT_SCRATCH, GVISOR, NESTED, SCRATCH, Profile
from avlab_executor.sandbox.tiers import TierReport, landlock_missing
from avlab_executor.sandbox.visible import Visible
from avlab_executor.spawner import ENTRY, PRELOAD, Recipe, Spawner, ZygoteEndedError

_NOTICE_SECONDS = 5.0
_FIRST_UID, _UIDS = 61184, 4336  # systemd's range for users that exist only while a service runs


class Pool:
    """Workers of one tier from one zygote. Safe to use from any thread, and in processes with many (it never forks this one).

    tier: the tier to use (default: the strongest that works here); minimum: refuse anything weaker. warm: how many workers wait.
    entry: "module:function", called in each worker with its Descriptors after it is locked and verified. preload: modules that
    the zygote imports if they are installed. paths: more folders that workers can import from. seen: instead, an environment to run
    them in. spawner: one that has just been started for all this. Raises TierUnavailable if the tier is not possible, AvlabError if workers cannot be started.
    """

    def __init__(
        self,
        tier: str | None = None,
        minimum: str | None = None,
        warm: int = 1,
        entry: str = ENTRY,
        preload: Sequence[str] = PRELOAD,
        paths: Sequence[str] = (),
        seen: Visible | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        self._recipe = Recipe(tier, minimum, entry, tuple(preload), tuple(paths), seen)
        self._warm = warm
        self._waiting: deque[WorkerProcess] = deque()
        self._alive: dict[int, WorkerProcess] = {}
        self._watched: dict[int, WorkerProcess] = {}
        self._numbers, self._uids = itertools.count(1), itertools.count(random.randrange(_UIDS))
        self._landlock = not landlock_missing()
        self._lock = threading.Lock()
        self._closed = False
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)
        try:
            self._spawner = (spawner or Spawner(self._recipe)).chosen()
        except BaseException:
            self._bell.close()
            self._ear.close()
            raise
        self._thread = threading.Thread(target=self._run, name="avlab-pool", daemon=True)
        self._thread.start()

    @property
    def tier(self) -> str:
        """The tier of its workers."""
        return self._spawner.tier

    @property
    def reports(self) -> list[TierReport]:
        """The tiers that were tried, up to the one chosen."""
        return self._spawner.reports

    def acquire(self, limits: Limits | None = None) -> WorkerProcess:
        """A fresh, locked, verified worker, whose owner closes it.

        A waiting one if its profile fits; limits on processes and scratch need one that is locked for them. Raises LimitUnsupported,
        TierUnavailable if verification fails, AvlabError if the pool is closed or no worker starts.
        """
        asked = limits or Limits()
        wanted = effective(asked, self.tier)
        if asked.processes is None and asked.scratch is None:
            while (waiting := self._take()) is not None:
                try:
                    return self._admit(waiting, wanted)
                except StillbornError:
                    continue  # something has killed it while it waited
        try:
            worker = self._launch(asked)
        except ZygoteEndedError:
            self._spawner.ended.wait(_NOTICE_SECONDS)
            worker = self._launch(asked)
        return self._admit(worker, wanted)

    def close(self) -> None:
        """End all workers, waiting and at work, and the zygote. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._ring()
        self._thread.join()
        with self._lock:
            alive = list(self._alive.values())
        for worker in alive:
            worker.kill("cancelled")
        self._spawner.close()
        for worker in alive:
            worker.lost("its pool was closed")
        for worker in self._waiting:
            worker.close()
        self._bell.close()
        self._ear.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Making workers.

    def _take(self) -> WorkerProcess | None:
        while True:
            with self._lock:
                worker = self._waiting.popleft() if self._waiting and not self._closed else None
            if worker is None or worker.exited() is None:
                return worker
            worker.close()

    def _admit(self, worker: WorkerProcess, limits: Limits) -> WorkerProcess:
        try:
            worker.admit(limits, for_kernel(limits, self.tier), self._spawner.administrator)
            if watch.interval(worker) is not None:
                with self._lock:
                    self._watched[worker.number] = worker
        finally:
            self._ring()
        return worker

    def _launch(self, asked: Limits, revive: bool = True) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise AvlabError("the pool of workers is closed")
            if self._spawner.ended.is_set() and revive:
                self._spawner.close()
                self._spawner = Spawner(self._recipe).chosen()
                self._ring()
            spawner, number = self._spawner, next(self._numbers)
            worker = self._alive[number] = self._prepare(spawner, number, asked)
        try:
            worker.give_far_ends(lambda descriptors: spawner.order(number, worker.profile, descriptors))
        except (AvlabError, OSError) as error:
            with self._lock:
                self._alive.pop(number, None)
            worker.lost(str(error))
            worker.close()
            raise error if isinstance(error, AvlabError) else cannot_start(error) from None
        return worker

    def _prepare(self, spawner: Spawner, number: int, asked: Limits) -> WorkerProcess:
        scratch, uid, group = SCRATCH, 0, None
        try:
            if spawner.tier not in NESTED:
                scratch = f"{spawner.folder}/{number}"
                os.mkdir(scratch, 0o700)
            elif spawner.administrator:
                uid = _FIRST_UID + next(self._uids) % _UIDS
            group = spawner.groups.make(str(number)) if spawner.groups else None
            size, processes = asked.scratch or DEFAULT_SCRATCH, asked.processes is not None
            profile = Profile(
                spawner.tier, scratch, size, processes, spawner.folders, uid, self._landlock and spawner.tier != GVISOR
            )
            return WorkerProcess(number, profile, group)
        except FileNotFoundError:  # the keeper has cleared up behind the zygote
            raise spawner.obituary() from None
        except OSError as error:
            if group is not None:
                group.close()
            if scratch != SCRATCH:
                with suppress(OSError):  # it could not be made
                    os.rmdir(scratch)
            raise cannot_start(error) from None

    # The pool's own thread: hears the zygote, refills, watches.

    def _ring(self) -> None:
        try:
            self._bell.send(b"!", socket.MSG_DONTWAIT)
        except OSError:
            return  # the bell is ringing already, or the pool is closed

    def _run(self) -> None:
        thorough_at = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            heard = self._spawner
            selector.register(heard.control, selectors.EVENT_READ)
            while not self._closed:
                self._refill()
                for key, _ in selector.select(self._patience()):
                    if key.fileobj is self._ear:
                        self._ear.recv(4096)
                    elif not self._hear(heard):
                        selector.unregister(heard.control)
                if heard is not self._spawner:
                    heard = self._spawner
                    selector.register(heard.control, selectors.EVENT_READ)
                now = time.monotonic()
                self._look(thoroughly=now >= thorough_at)
                if now >= thorough_at:
                    thorough_at = now + watch.THOROUGH_SECONDS

    def _refill(self) -> None:
        while len(self._waiting) < self._warm and not self._spawner.ended.is_set() and not self._closed:
            try:
                self._waiting.append(self._launch(Limits(), revive=False))
            except AvlabError:
                return  # closed, or without a zygote: acquire tells, and starts a new one

    def _hear(self, spawner: Spawner) -> bool:
        told = spawner.read()
        if told is None:
            with self._lock:
                lost, self._alive = list(self._alive.values()), {}
                self._watched.clear()
            for orphan in lost:
                orphan.lost(str(spawner.obituary()))
            spawner.ended.set()
            return False
        words, descriptors = told
        number = int(next((words[key] for key in ("started", "failed", "exited") if key in words), 0))
        with self._lock:
            worker = self._alive.get(number) if "started" in words else self._alive.pop(number, None)
        if worker is None:
            for descriptor in descriptors:
                os.close(descriptor)
        elif "started" in words:
            self._started(worker, descriptors)
        elif "failed" in words:
            worker.lost(words["error"])
        else:
            worker.ended(words["status"], words["cpu"], words["memory"])
        return True

    def _started(self, worker: WorkerProcess, descriptors: list[int]) -> None:
        try:
            if not descriptors:
                raise OSError("no descriptor was left to watch it by")
            worker.started(descriptors[0])
        except OSError as error:  # it ends with its socket, which its owner closes
            worker.lost(str(error))

    def _patience(self) -> float | None:
        intervals = [watch.interval(worker) for worker in self._at_work()]
        return min((seconds for seconds in intervals if seconds is not None), default=None)

    def _look(self, thoroughly: bool) -> None:
        for worker in self._at_work():
            watch.look(worker, thoroughly)

    def _at_work(self) -> list[WorkerProcess]:
        with self._lock:
            self._watched = {number: worker for number, worker in self._watched.items() if worker.exited() is None}
            return list(self._watched.values())
