"""What an executor serves, whatever carries it: sessions up to a capacity, blobs, and what it says of itself."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import asdict

from avlab.core.errors import AvlabError, CodecError, ConfigError, Denied, TierUnavailable
from avlab.core.message import Blob, BundleKind, Log, Open, Resume
from avlab.core.status import encode_description, encode_status, label
from avlab.core.wire import MAX_MESSAGE, decode_batch, decode_names, encode_names
from avlab.remote import tracing
from avlab.remote.tracing import Trace
from avlab_executor.accounts import BEGINNING, ENDING_SECONDS, LOOK_SECONDS, Account, Caller
from avlab_executor.audit import audit
from avlab_executor.connection import Embedded
from avlab_executor.environments.policy import OFF, Policy
from avlab_executor.environments.store import Kept
from avlab_executor.relay import names_of
from avlab_executor.sandbox.tiers import TierReport
from avlab_executor.session import Beginning, Session
from avlab_executor.sessions import Sessions
from avlab_executor.tenants import Tenant, check_tenants
from avlab_executor.worker_link import WorkerLink

_TOLD_SECONDS = 2.0  # for callers to hear that the executor has ended their sessions
STREAMS = {"StreamObject": (BundleKind.OBJECT, BundleKind.SOURCE), "StreamNode": (BundleKind.NODE,)}
"""The kinds of bundles that each streaming method takes."""


class Service:
    """Workers for callers elsewhere. Thread-safe.

    minimum: the weakest tier that may serve. allow_process: whether plain processes may. sessions: most at once. warm: workers
    that wait. tenants: who may call; default: one who is not told apart, and sees all. environments: what is installed for sessions
    (default: nothing). Raises TierUnavailable when this system cannot isolate as asked, ConfigError.
    """

    def __init__(
        self,
        *,
        minimum: str | None = None,
        allow_process: bool = False,
        sessions: int = 32,
        warm: int = 2,
        tenants: Sequence[Tenant] = (),
        environments: Policy = OFF,
    ) -> None:
        if sessions < 1 or warm < 0:
            raise ConfigError(f"sessions={sessions}, warm={warm}: at least 1 session and 0 waiting workers")
        check_tenants(tenants)
        self._sessions, self._allow_process = sessions, allow_process
        self.accounts = [Account(tenant) for tenant in tenants or (Tenant(operator=True),)]
        self._embedded = Embedded(
            minimum=minimum, warm=warm, environments=environments, removed=self._forget_environment
        )
        self._named = Sessions()
        self._free = threading.Semaphore(sessions)
        self._used = self._draining = False
        self._closing = threading.Event()
        self._bookkeeper: threading.Thread | None = None
        try:
            self.tier = self._embedded.describe().tier  # now: the first client shall not wait until all tiers and Pythons have been tried
            if self.tier == "process" and not allow_process:
                raise TierUnavailable(
                    "this system can isolate workers only as plain processes: --allow-process accepts that"
                )
        except BaseException:
            self._embedded.close()
            raise
        if any(account.metered for account in self.accounts):
            self._bookkeeper = threading.Thread(target=self._keep_books, name="avlab-accounts", daemon=True)
            self._bookkeeper.start()

    def prepare(self, request: Open, caller: Caller) -> Generator[Log, None, None]:
        """What must be ready before `start`, an environment; gives its progress. Raises EnvironmentFailed, Denied, ConfigError."""
        try:
            yield from self._embedded.prepare(request, caller.account)
        except AvlabError as error:
            self.deny(caller, "environment", error)
            raise

    def start(self, request: Open, kinds: Collection[BundleKind], caller: Caller) -> WorkerLink:
        """A worker for a caller's Open. Raises CodecError, TierUnavailable, LimitUnsupported, BundleError, and Denied when all
        places are taken or a quota of the tenant is used up."""
        account, bundle = caller.account, request.bundle
        who = {"tenant": account.tenant.name, "peer": caller.peer} | ({"trace": caller.trace.id} if caller.trace else {})
        audit(
            "bundle",
            **who,
            kind=bundle.kind.name,
            name=bundle.name,
            object=bundle.object,
            files=len(bundle.files),
            size=sum(file.size for file in bundle.files),
            requirements=len(bundle.requirements),
        )
        worker = tracing.start("avlab.worker", parent=caller.trace) if caller.trace else None
        try:
            link = self._start(request, kinds, account)
        except AvlabError as error:
            self.deny(caller, "session", error)
            if worker is not None:
                worker.end(tracing.kind_of(error))
            raise
        if worker is not None:
            _follow(worker, link, request)
        audit("spawn", **who, session=label(request.session), pid=link.pid, tier=link.tier)
        return link

    def _start(self, request: Open, kinds: Collection[BundleKind], account: Account) -> WorkerLink:
        if self._draining:
            raise Denied("this executor is about to end and takes no more sessions: connect to another, or again later")
        if request.bundle.kind not in kinds:
            raise CodecError(f"a bundle of kind {request.bundle.kind.name} does not belong to this RPC")
        if request.tier == "process" and not self._allow_process:
            raise TierUnavailable("this executor does not run plain processes: it was started without --allow-process")
        with account.place() as leave:
            if not self._free.acquire(timeout=ENDING_SECONDS):
                raise Denied(f"all {self._sessions} sessions of this executor are in use: try again later")
            try:
                link = self._embedded.open(request, account.blobs.get(names_of(request.bundle)), account)
            except BaseException:
                self._free.release()
                raise
            link.on_close(self._free.release)
            link.on_close(leave)
        self._used = True
        return link

    def _forget_environment(self, key: str) -> None:
        for account in self.accounts:
            account.forget_environment(key)

    @property
    def capacity(self) -> int:
        """Most sessions at once."""
        return self._sessions

    def tiers(self) -> Sequence[TierReport]:
        """Every tier, as tried on this system."""
        return self._embedded.tiers()

    def environments(self) -> Kept | None:
        """Environments that are kept for sessions; None where nothing is installed for them."""
        return self._embedded.environments()

    def used(self) -> bool:
        """Whether a session was open at any time since the last call."""
        used, self._used = self._used or self._embedded.sessions > 0, False
        return used

    def session(self, request: Open, kinds: Collection[BundleKind], caller: Caller) -> Session:
        """A session for a caller's Open, which the same tenant may resume. Raises Denied for a name that is short or taken, and when
        too many of the tenant begin or wait for their callers."""
        begin = Beginning(self.prepare(request, caller), lambda: self.start(request, kinds, caller))
        tenant = caller.account.tenant
        try:
            return self._named.start(request, tenant.name, begin, min(self._sessions, tenant.quota.sessions or self._sessions) + BEGINNING)
        except AvlabError as error:
            self.deny(caller, "session", error)
            raise

    def find(self, request: Resume, caller: Caller) -> Session:
        """The tenant's session that a Resume names. Raises SessionLost."""
        try:
            return self._named.find(request, caller.account.tenant.name)
        except AvlabError as error:
            self.deny(caller, "resume", error)
            raise

    def deny(self, caller: Caller, what: str, error: AvlabError) -> None:
        """Put a refusal into the books and the audit trail."""
        caller.account.denied(error)
        name = caller.account.tenant.name
        audit("deny", tenant=name, peer=caller.peer, what=what, error=type(error).__name__, text=str(error))

    def has(self, names: bytes, caller: Caller) -> bytes:
        """HasBlobs: of the tenant's own."""
        return encode_names(caller.account.blobs.held(decode_names(names)))

    def put(self, requests: Iterator[bytes], caller: Caller) -> bytes:
        """PutBlobs: batches with parts of blobs."""
        parts = (m for data in requests for m in decode_batch(data, MAX_MESSAGE) if isinstance(m, Blob))
        return encode_names(caller.account.blobs.put(parts))

    def describe(self, caller: Caller) -> bytes:
        """Describe: the executor as this tenant sees it. A client says hello with it."""
        account = caller.account
        audit("hello", tenant=account.tenant.name, peer=caller.peer)
        values = asdict(self._embedded.describe())
        tiers = [(t["name"], t["available"], t["reason"]) for t in values.pop("tiers")]
        values.pop("url")
        values["sessions"] = account.open_sessions
        values["capacity"] = min(self._sessions, account.tenant.quota.sessions or self._sessions)
        return encode_description(values, tiers)

    def status(self, caller: Caller) -> bytes:
        """Status: what the tenant has in use; an operator's: what all have."""
        account = caller.account
        return encode_status(self._embedded.status(account, self.accounts if account.tenant.operator else ()))

    @property
    def draining(self) -> bool:
        """Whether it takes no more sessions."""
        return self._draining

    def drain(self, seconds: float) -> None:
        """Take no more sessions; wait so long for those that are open, then tell their callers that the executor has ended them."""
        self._draining = True
        if not self._named.wait_until_none(seconds):
            for session in self._named.all():
                session.kill_saying("stopped", "the executor was stopped")
            self._named.wait_until_none(_TOLD_SECONDS)

    def close(self) -> None:
        """End all workers. Idempotent."""
        self._closing.set()
        if self._bookkeeper is not None:
            self._bookkeeper.join()
        for session in self._named.all():
            session.close()
        self._embedded.close()

    def _keep_books(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            for account in self.accounts:
                if account.metered:
                    account.settle()


def _follow(worker: Trace, link: WorkerLink, request: Open) -> None:
    """Say in a trace what a worker did, when it has ended."""
    worker.note(avlab__session=label(request.session), avlab__tier=link.tier, avlab__bundle__kind=request.bundle.kind.name)

    def ended() -> None:
        end = link.exited()
        reason = end.reason if end else "exit"
        worker.note(
            avlab__exit__reason=reason,
            avlab__items__in=link.inputs,
            avlab__items__out=link.outputs,
            avlab__payload__in=link.received,
            avlab__payload__out=link.sent,
            avlab__cpu_seconds=link.cpu_seconds(),
        )
        worker.end("" if reason in ("exit", "cancelled") else reason)

    link.on_close(ended)
