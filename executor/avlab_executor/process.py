"""One worker as the host sees it: its socket, pipes and memory, its limits, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable

from avlab.core.errors import AvlabError, TierUnavailable
from avlab.remote.interrupts import exposed
from avlab.remote.limits import Limits
from avlab.remote.shared_memory import Region
from avlab_executor import guest
from avlab_executor.exits import Exit, asked_to_die, explain
from avlab_executor.sandbox import cgroup, gvisor, handshake, scratch
from avlab_executor.sandbox.family import cpu_time, tree
from avlab_executor.sandbox.profile import GVISOR, NESTED, Profile
from avlab_executor.sandbox.rlimits import address_space
from avlab_executor.sandbox.verify import verify, verify_limits

_START_SECONDS = 20.0
_END_SECONDS = 5.0
# Threads and buffers of the worker's own code, besides the two regions.
_OWN_ADDRESS_SPACE = 64 << 20


class StillbornError(AvlabError):
    """The worker died before its session began."""


class WorkerProcess:
    """A fresh process for one session, never used again.

    pid; tier; limits: those in force; socket: the blocking host end of the session; inbox (host writes), outbox (worker writes);
    stdout, stderr: non-blocking descriptors to read. Threads may share it.
    """

    def __init__(self, number: int, profile: Profile, group: cgroup.Group | None = None) -> None:
        self.number, self.profile, self.tier, self.group = number, profile, profile.tier, group
        self.limits = Limits()
        self.pid = 0
        self.cpu_before = self._cpu_killed = 0.0  # seconds that its start took, and that it had taken when it was killed
        with contextlib.ExitStack() as undo:
            self.inbox = Region.create()
            undo.callback(self.inbox.close)
            self.outbox = Region.create()
            undo.callback(self.outbox.close)
            self.socket, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(self._far.close)
            undo.callback(self.socket.close)
            self.stdout, self._far_stdout = _pipe(undo)
            self.stderr, self._far_stderr = _pipe(undo)
            undo.pop_all()
        self._handle = self._interrupts = -1
        self._asked: tuple[str, str] | None = None
        self._exit: Exit | None = None
        self._started, self._ended = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._closed = False

    def give_far_ends(self, give: Callable[[list[int]], None]) -> None:
        """Hand the worker's descriptors (stdout, stderr, session, inbox, outbox) over: only it keeps them, so its end is seen."""
        # A descriptor that can be written could not be taken back; the mode keeps the worker from opening another one.
        theirs = [self._far_stdout, self._far_stderr]
        try:
            os.fchmod(self.inbox.fd, 0o400)
            inbox = os.open(f"/proc/self/fd/{self.inbox.fd}", os.O_RDONLY | os.O_CLOEXEC)
            theirs.append(inbox)
            if self.tier == GVISOR:
                interrupts, self._interrupts = os.pipe()
                try:
                    guest.follow(self.socket, inbox, self.outbox.fd, interrupts)
                finally:
                    os.close(interrupts)
            give([self._far_stdout, self._far_stderr, self._far.fileno(), inbox, self.outbox.fd])
        finally:
            self._far.close()
            for descriptor in theirs:
                os.close(descriptor)

    # What the pool's thread tells.

    def started(self, handle: int) -> None:
        """The zygote has forked it; ``handle`` is its pidfd, which is this object's from now on. Raises OSError."""
        with self._lock:
            self._handle = handle
        with open(f"/proc/self/fdinfo/{handle}") as file:
            fields = dict(line.rstrip().split(":", 1) for line in file)
        self.pid = int(fields["Pid"])
        if self.group is not None:
            try:
                self.group.add(self.pid)
            except OSError:
                # Dead already, or not ours to move: its memory is watched instead.
                self.group.close()
                self.group = None
        self._started.set()

    def ended(self, status: int, cpu_seconds: float, max_rss: int) -> None:
        """The zygote has buried it."""
        killed = self.group is not None and self.group.out_of_memory_kills() > 0
        if self.tier == GVISOR:
            status, cpu_seconds = gvisor.wait_status(status), max(cpu_seconds, self._cpu_killed) - self.cpu_before
        self._finish(
            explain(status, cpu_seconds, max_rss, self.limits, tier=self.tier, out_of_memory=killed, asked=self._asked)
        )

    def lost(self, text: str) -> None:
        """The zygote is gone, or could not fork."""
        self._finish(Exit(*(self._asked or ("signal", text))))

    def _finish(self, end: Exit) -> None:
        self._exit = self._exit or end
        self._started.set()
        self._ended.set()

    # What the session's owner does.

    def admit(self, limits: Limits, rlimits: dict[str, int], administrator: bool) -> None:
        """Verify the locked worker from outside, then give it its limits.

        Raises TierUnavailable if a layer is missing, StillbornError if it has died; it is closed then.
        """
        self.limits = limits
        self.socket.settimeout(_START_SECONDS)
        try:
            with exposed:
                report = handshake.receive(self.socket)
            if "answers" not in report:
                raise TierUnavailable(
                    f"a worker of tier {self.tier!r} cannot be locked: {report.get('error', 'it does not say why')}"
                )
            self._started.wait(_START_SECONDS)
            verify(self.pid, self.profile, administrator, report["answers"])
            if self.group is not None:
                if self.tier == GVISOR:
                    self._group_family(self.group)
                # A tmpfs for scratch files is memory, and the outbox counts for who touches it first.
                files = (limits.scratch or 0) if self.tier in NESTED else 0
                self.group.limit((limits.memory or 0) + files + self.outbox.size)
            used = report["size"] if self.tier == GVISOR else address_space(self.pid)
            regions = self.inbox.size + self.outbox.size
            rlimits = {**rlimits, "as": used + regions + _OWN_ADDRESS_SPACE + (limits.memory or 0)}
            handshake.send(self.socket, dict(rlimits))
            with exposed:
                told = handshake.receive(self.socket)["limits"]
            # Limits of gVisor's kernel are not seen from outside; the worker's own word is still ours.
            verify_limits(self.pid, rlimits, told if self.tier == GVISOR else None)
        except (OSError, EOFError) as error:
            end = self.exited(
                _END_SECONDS if isinstance(error, EOFError | ProcessLookupError | FileNotFoundError) else 0
            )
            self.close()
            raise StillbornError(
                f"a worker of tier {self.tier!r} did not start: {end.text if end else error}"
            ) from None
        except BaseException:
            self.close()
            raise
        if self.tier == GVISOR:
            self.cpu_before = cpu_time(tree(self.pid))
        self.socket.settimeout(None)

    def _group_family(self, group: cgroup.Group) -> None:
        """What runsc has started before it was itself in the group is in it too."""
        for pid in set(tree(self.pid)) - group.members():
            group.add(pid)

    def interrupt(self) -> None:
        """SIGINT: KeyboardInterrupt in the worker's main thread. A dead worker is left alone."""
        if self.tier != GVISOR:
            self._signal(signal.SIGINT)
            return
        with self._lock:
            if self._interrupts >= 0:
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._interrupts, b"\0")

    def kill(self, reason: str = "signal") -> None:
        """SIGKILL; ``exited`` then gives this reason, unless the worker was dead already."""
        self.kill_saying(*asked_to_die(reason, self.limits))

    def kill_saying(self, reason: str, text: str) -> None:
        """kill with a text of the caller's."""
        with self._lock:
            self._asked = self._asked or (reason, text)
        if self.tier == GVISOR and self.pid and not self._ended.is_set():
            self._cpu_killed = cpu_time(tree(self.pid))  # runsc is killed before it could wait for its own
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._handle >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, number)

    def exited(self, timeout: float | None = 0) -> Exit | None:
        """Its end, waiting up to ``timeout`` seconds (None: for ever); None while it lives."""
        self._ended.wait(timeout)
        return self._exit

    def close(self) -> None:
        """Kill, wait, release descriptors, memory, group and scratch folder. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._started.wait(_START_SECONDS)
        self.kill("cancelled")
        self._ended.wait(_END_SECONDS)
        self.socket.close()
        with self._lock:
            for descriptor in (self.stdout, self.stderr, self._handle, self._interrupts):
                if descriptor >= 0:
                    os.close(descriptor)
            self._handle = self._interrupts = -1
        self.inbox.close()
        self.outbox.close()
        if self.group is not None:
            self.group.close()
        if self.tier not in NESTED:
            scratch.remove(self.profile.scratch)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cannot_start(error: OSError) -> AvlabError:
    """What a caller is told when this process has no room for another worker."""
    return AvlabError(f"no worker can be started here: {error}; close sessions or raise the limit")


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose reading end does not block."""
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    os.set_blocking(ends[0], False)
    return ends
