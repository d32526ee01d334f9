"""Build: one installer at work, confined and bounded, followed by everybody who waits for its environment."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import Cancelled, EnvironmentFailed
from avlab.core.units import size
from avlab_executor.environments import installer
from avlab_executor.environments.finish import finish
from avlab_executor.environments.policy import Policy
from avlab_executor.environments.spec import Spec
from avlab_executor.sandbox import cgroup, scratch
from avlab_executor.sandbox.confine import Confinement
from avlab_executor.sandbox.profile import PROCESS
from avlab_executor.sandbox.tiers import landlock_missing
from avlab_executor.sandbox.visible import visible

TICK = 1.0
"""Seconds between two looks at a build's disk and time; as often, who follows it hears that it goes on."""
MAX_LINES = 500
LAST_LINES = 12
"""Lines of the installer that an error shows."""
_ADDRESSES = 3 << 30  # of address space, besides memory: threads' stacks and mapped files
_END_SECONDS = 5.0


class Build:
    """The making of one environment. It goes on while somebody follows it."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.outcome: Future[None] = Future()
        self._lines: list[str] = []
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._followers = 0
        self._news = threading.Condition()
        self.stopped = threading.Event()
        self.outcome.add_done_callback(lambda _: self._tell())

    def follow(self) -> Iterator[str]:
        """Its lines, those from before too, and "" now and then; ends when it is done. Raises EnvironmentFailed.

        Leaving early gives it up unless others follow.
        """
        seen, done = 0, False
        with self._news:
            self._followers += 1
        try:
            while not done:
                with self._news:
                    if len(self._lines) == seen and not self.outcome.done():
                        self._news.wait(TICK)
                    fresh, done = self._lines[seen:], self.outcome.done()
                seen += len(fresh)
                yield from fresh or ([] if done else [""])
            self.outcome.result()
        finally:
            with self._news:
                self._followers -= 1
                left = not self._followers
            if left and not self.outcome.done():
                self.stop()

    def stop(self) -> None:
        """End the installer, soon. Idempotent."""
        self.stopped.set()

    def say(self, line: str) -> None:
        """Tell a line to those who follow."""
        with self._news:
            if len(self._lines) < MAX_LINES:
                self._lines.append(installer.scrub(line))
                self._news.notify_all()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def run(self, folder: Path, cache: Path, policy: Policy, tier: str, clock: Clock = monotonic) -> None:
        """Install into ``folder``, which is new, and make an environment of it. Raises EnvironmentFailed, Cancelled, OSError.

        ``tier``: how the installer is confined. ``cache``: where downloads are kept.
        """
        builds = self.spec.mode == "any"
        if builds and tier == PROCESS:
            raise EnvironmentFailed("packages are built from source only where a tier confines their code: use wheels")
        cache = folder / "cache" if builds else cache  # code of packages can write there
        for each in (folder / "tmp", folder / "home", folder / installer.SITE, cache):
            each.mkdir(parents=True, exist_ok=True)
        work = installer.prepare(folder, self.spec.interpreter, self.spec.requirements, self.spec.mode, cache)
        limits = {"as": policy.memory + _ADDRESSES, "fsize": policy.disk, "nofile": 4096}
        writable = (str(folder),) if builds else (str(folder), str(cache))
        held = Confinement(tier, work.readable, writable, limits, not landlock_missing(), builds)
        if held.uid:
            limits["nproc"] = policy.processes  # elsewhere the kernel counts all processes of the host's user
            for each in (folder, *folder.rglob("*"), cache):
                os.chown(each, held.uid, held.uid)

        def used() -> int:
            return sum(scratch.usage(each, 1 << 62) for each in writable)

        before = used()
        with _Running(held.command(visible().import_path, work.command), work.environment, policy.memory) as running:
            why = self._watch(running, policy, lambda: used() - before, clock)
            code = running.end()
            if running.out_of_memory():
                why = f"it used more than {size(policy.memory)} of memory"
        if self.stopped.is_set():
            raise Cancelled(f"the installation of {self.spec} was stopped: nobody waits for it any more")
        if why or code:
            raise EnvironmentFailed(
                "\n".join(
                    [f"{self.spec} cannot be installed: {why or f'the installer ended with {code}'}", *self._last]
                )
            )
        finish(folder, self.spec)

    def _watch(self, running: _Running, policy: Policy, used: Callable[[], int], clock: Clock) -> str:
        """Pass its lines on until it ends. Why it must be ended, if it must."""
        end = clock() + int(policy.seconds * 1e9)
        looked = clock()
        too_large = f"it needs more than {size(policy.disk)} of disk"
        for line in running.lines(TICK):
            if line is not None and line.strip():
                self.say(line)
                self._last.append(installer.scrub(line))
            if self.stopped.is_set():
                return "it was stopped"
            if clock() > end:
                return f"it took longer than {policy.seconds:g} s"
            if clock() - looked >= TICK * 1e9:
                looked = clock()
                if used() >= policy.disk:
                    return too_large
        return too_large if used() >= policy.disk else ""  # it may have been quicker than the first look


class _Running:
    """The installer's keeper as a child of this process, in a memory group where there is one."""

    def __init__(self, command: list[str], environment: dict[str, str], memory: int) -> None:
        self._groups = self._group = None
        with contextlib.suppress(OSError):  # without a group its address space is the bound
            self._groups = cgroup.Groups()
            self._group = self._groups.make("build")
            self._group.limit(memory)
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._free()
            raise
        assert self._process.stdin and self._process.stdout
        self._leash, self._output = self._process.stdin, self._process.stdout
        try:
            if self._group is not None:
                self._group.add(self._process.pid)
            self._leash.write(b"!")
            self._leash.flush()
        except OSError:
            self.__exit__()
            raise

    def lines(self, patience: float) -> Iterator[str | None]:
        """What it prints, line by line; None after ``patience`` seconds of silence."""
        rest = b""
        os.set_blocking(self._output.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                if not selector.select(patience):
                    yield None
                    continue
                data = os.read(self._output.fileno(), 65536)
                if not data:
                    break
                *whole, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                rest = rest[-4096:]
                yield from (line.decode("utf-8", "replace") for line in whole)
        if rest:
            yield rest.decode("utf-8", "replace")

    def end(self) -> int:
        """Its exit code, after it and all that it has started are gone."""
        self._leash.close()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def out_of_memory(self) -> bool:
        return self._group is not None and self._group.out_of_memory_kills() > 0

    def _free(self) -> None:
        if self._groups is not None:
            self._groups.close()

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._output.close()
        self._free()
