"""Accounts: what each tenant has in use, what it has used, and what happens when that is more than its quota."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from avlab.core.clock import Clock, monotonic
from avlab.core.message import Open
from avlab.core.status import QuotaStatus, SessionStatus, label
from avlab.remote.tracing import Trace
from avlab_executor.audit import audit
from avlab_executor.blobs import BlobStore
from avlab_executor.tenants import Tenant, exhausted
from avlab_executor.worker_link import WorkerLink

ENDING_SECONDS = 1.0
"""A session that its caller has just closed still holds its place until its worker is gone."""
BEGINNING = 4
"""Streams, and sessions without a worker, of a tenant beyond its quota of sessions: each holds a thread."""
LOOK_SECONDS = 0.5
"""How often the use of running sessions is compared with the quotas: what one may exceed them by."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the account, the peer (its address, and the name in its certificate if it showed one), the trace of the call."""

    account: Account
    peer: str = ""
    trace: Trace | None = None


@dataclass(slots=True)
class Totals:
    """What a tenant has used since the executor started; never less than before. Bytes of payload, seconds of CPU time."""

    sessions: Counter[str] = field(default_factory=Counter)  # by tier
    ends: Counter[str] = field(default_factory=Counter)  # by reason
    denied: Counter[str] = field(default_factory=Counter)  # by kind of error
    inputs: int = 0
    outputs: int = 0
    received: int = 0
    sent: int = 0
    cpu_seconds: float = 0.0


class _Entry:
    """One session in the books: what it was when it was looked at last."""

    def __init__(self, link: WorkerLink, request: Open, tenant: str, opened: int) -> None:
        self.link, self.opened = link, opened
        bundle = request.bundle
        self.status = SessionStatus(
            tenant, label(request.session), (bundle.name or bundle.kind.name.lower())[:80], link.tier
        )
        self.seen: tuple[float, ...] = (0, 0, 0, 0, 0.0)

    def figures(self) -> tuple[int, int, int, int, float]:
        """inputs, outputs, received, sent, CPU seconds so far."""
        link = self.link
        return link.inputs, link.outputs, link.received, link.sent, link.cpu_seconds()


class Account:
    """The books of one tenant. Thread-safe. ``blobs``: its own store, which nobody else can ask."""

    def __init__(self, tenant: Tenant, clock: Clock = monotonic) -> None:
        quota = tenant.quota
        self.tenant, self._clock = tenant, clock
        self.blobs = BlobStore(
            quota.stored, lambda: exhausted(tenant.name, "stored", quota.stored, "send fewer or smaller files")
        )
        self.totals = Totals()
        self._places = threading.Semaphore(quota.sessions) if quota.sessions is not None else None
        self._entries: dict[WorkerLink, _Entry] = {}
        self._environments: set[str] = set()
        self._streams = 0
        self._since = clock()
        self._used_cpu, self._used_bytes = 0.0, 0
        self._lock = threading.RLock()

    @contextmanager
    def place(self) -> Iterator[Callable[[], None]]:
        """Room for one more session; gives what frees it again, which happens by itself when the body raises. Raises Denied."""
        self._check()
        places = self._places
        if places is not None and not places.acquire(timeout=ENDING_SECONDS):
            raise exhausted(self.tenant.name, "sessions", self.tenant.quota.sessions, "close a session")

        def free() -> None:
            if places is not None:
                places.release()

        try:
            yield free
        except BaseException:
            free()
            raise

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream of the tenant's: as many as it may have sessions, and some that begin or resume one. Raises Denied."""
        most = self.tenant.quota.sessions
        with self._lock:
            if most is not None and self._streams >= most + BEGINNING:
                raise exhausted(self.tenant.name, "sessions", most, "close a session")
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1

    def opened(self, link: WorkerLink, request: Open) -> None:
        """A session has a worker; it stays in the books until its link is closed."""
        entry = _Entry(link, request, self.tenant.name, self._clock())
        with self._lock:
            self._entries[link] = entry
            self.totals.sessions[link.tier] += 1
        link.on_close(lambda: self._ended(entry))

    @contextmanager
    def environment(self, key: str) -> Iterator[None]:
        """The tenant has this environment kept, if the body builds it. Raises Denied when it has as many as it may."""
        most = self.tenant.quota.environments
        with self._lock:
            fresh = key not in self._environments
            if fresh and most is not None and len(self._environments) >= most:
                raise exhausted(self.tenant.name, "environments", most, "use one of those that you have")
            self._environments.add(key)
        try:
            yield
        except BaseException:
            if fresh:
                self.forget_environment(key)
            raise

    def forget_environment(self, key: str) -> None:
        """The environment is kept no more."""
        with self._lock:
            self._environments.discard(key)

    def denied(self, error: Exception) -> None:
        """Count a refusal."""
        with self._lock:
            self.totals.denied[type(error).__name__] += 1

    def settle(self) -> None:
        """Take in what the sessions have used, and end them all when it is more than the quota."""
        with self._lock:
            self._renew()
            for entry in self._entries.values():
                self._charge(entry)
            spent = self._spent()
            if spent is None:
                return
            name, most = spent
            links = list(self._entries)
        text = str(exhausted(self.tenant.name, name, most, f"wait {self._renewed():.0f} s"))
        for link in links:
            link.kill_saying("cpu" if name == "cpu_seconds" else "output", text)

    def sessions(self) -> list[SessionStatus]:
        """The sessions that are open now, the oldest first."""
        with self._lock:
            entries = list(self._entries.values())
        return [self._status(entry) for entry in entries]

    def quotas(self) -> list[QuotaStatus]:
        """Every quota with what is used of it."""
        self.settle()
        quota, name = self.tenant.quota, self.tenant.name
        with self._lock:
            renewed = self._renewed()
            return [
                QuotaStatus(name, "sessions", len(self._entries), quota.sessions),
                QuotaStatus(name, "cpu_seconds", self._used_cpu, quota.cpu_seconds, renewed),
                QuotaStatus(name, "bytes", self._used_bytes, quota.bytes, renewed),
                QuotaStatus(name, "stored", self.blobs.size, quota.stored),
                QuotaStatus(name, "environments", len(self._environments), quota.environments),
            ]

    @property
    def metered(self) -> bool:
        """Whether use must be compared with a quota while sessions run."""
        return self.tenant.quota.cpu_seconds is not None or self.tenant.quota.bytes is not None

    @property
    def open_sessions(self) -> int:
        """How many sessions are open."""
        return len(self._entries)

    def _status(self, entry: _Entry) -> SessionStatus:
        inputs, outputs, received, sent, cpu = entry.figures()
        then = entry.status
        age = (self._clock() - entry.opened) / 1e9
        return SessionStatus(
            then.tenant,
            then.session,
            then.name,
            then.tier,
            age,
            inputs,
            outputs,
            received,
            sent,
            entry.link.memory(),
            cpu,
        )

    def _ended(self, entry: _Entry) -> None:
        end = entry.link.exited()
        with self._lock:
            self._charge(entry)
            self._entries.pop(entry.link, None)
            self.totals.ends[end.reason if end else "exit"] += 1
        inputs, outputs, received, sent, cpu = entry.seen
        audit(
            "exit",
            tenant=self.tenant.name,
            session=entry.status.session,
            reason=end.reason if end else "exit",
            text=end.text if end else "",
            inputs=inputs,
            outputs=outputs,
            received=received,
            sent=sent,
            cpu_seconds=round(cpu, 3),
            memory=end.max_rss if end else 0,
            seconds=round((self._clock() - entry.opened) / 1e9, 3),
        )

    def _charge(self, entry: _Entry) -> None:
        # A worker that has just ended cannot be measured until its end is known.
        now = tuple(map(max, entry.figures(), entry.seen))
        inputs, outputs, received, sent, cpu = (a - b for a, b in zip(now, entry.seen, strict=True))
        entry.seen = now
        totals = self.totals
        totals.inputs += int(inputs)
        totals.outputs += int(outputs)
        totals.received += int(received)
        totals.sent += int(sent)
        totals.cpu_seconds += cpu
        self._used_cpu += cpu
        self._used_bytes += int(received + sent)

    def _check(self) -> None:
        """Raises Denied when a quota of this period is used up."""
        with self._lock:
            self._renew()
            spent = self._spent()
        if spent is not None:
            raise exhausted(self.tenant.name, *spent, f"wait {self._renewed():.0f} s")

    def _spent(self) -> tuple[str, float] | None:
        quota = self.tenant.quota
        if quota.cpu_seconds is not None and self._used_cpu >= quota.cpu_seconds:
            return "cpu_seconds", quota.cpu_seconds
        if quota.bytes is not None and self._used_bytes >= quota.bytes:
            return "bytes", quota.bytes
        return None

    def _renew(self) -> None:
        if self._renewed() <= 0:
            self._since, self._used_cpu, self._used_bytes = self._clock(), 0.0, 0

    def _renewed(self) -> float:
        """Seconds until the period ends."""
        return self.tenant.quota.period - (self._clock() - self._since) / 1e9
