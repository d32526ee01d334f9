"""A connection to workers on this machine, in pools that start by themselves and belong to this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from avlab.core.clock import monotonic
from avlab.core.errors import AvlabError, TierUnavailable
from avlab.core.message import MAX_ITEM, WIRE_VERSION, Buffer, Bundle, ItemMessage, Log, Message, Open
from avlab.core.points import points
from avlab.core.status import Status
from avlab.remote.arguments import pickle_argument
from avlab.remote.config import make_limits
from avlab.remote.interrupts import Lock
from avlab.remote.limits import Limits
from avlab.remote.link import Description, Layer, one_item
from avlab.remote.manifest import cloudpickle_version, python_version
from avlab_executor.accounts import Account
from avlab_executor.environments import installer
from avlab_executor.environments.interpreters import minors
from avlab_executor.environments.policy import Policy
from avlab_executor.environments.rooms import Rooms
from avlab_executor.environments.spec import Environment, wanted
from avlab_executor.environments.store import Kept, Store
from avlab_executor.pool import Pool
from avlab_executor.process import cannot_start
from avlab_executor.sandbox import tiers
from avlab_executor.sandbox.profile import LANDLOCK, NAMESPACES, PROCESS
from avlab_executor.sandbox.tiers import TierReport
from avlab_executor.spawner import PRELOAD, Spawner
from avlab_executor.tenants import Tenant
from avlab_executor.worker_link import WorkerLink

WHEELS = Policy("wheels")


class Embedded:
    """A Connection to workers on this machine: one pool per isolation tier and environment that was asked for, started on first use.

    environments: what may be installed for sessions (default: wheels only); removed: told of environments that are kept no more;
    spawner: one that has just been started for the default tier, which belongs to it from now on.
    """

    def __init__(
        self,
        minimum: str | None = None,
        warm: int = 1,
        environments: Policy = WHEELS,
        removed: Callable[[str], None] = lambda key: None,
        spawner: Spawner | None = None,
    ) -> None:
        self._minimum, self._warm, self._policy, self._spawner = minimum, warm, environments, spawner
        self._pools: dict[str, Pool] = {}
        self._store = Store(environments, self._confining, removed)
        self._rooms = Rooms(self._store, self._room)
        self._lock = Lock()
        self._reports: list[TierReport] = []
        self._probing, self._counting = threading.Lock(), threading.Lock()  # who ends does not wait for a pool that starts
        self._sessions = 0
        self._own = Account(Tenant())
        self._began = monotonic()
        self._closed = False
        # Workers start while the caller still imports and packs.
        threading.Thread(target=self._start, name="avlab-start", daemon=True).start()

    def _start(self) -> None:
        with suppress(AvlabError):  # who opens a session gets it again
            self.pool()

    def pool(self, tier: str = "") -> Pool:
        """The pool for a tier ("": the strongest that works here). Raises TierUnavailable, ConfigError for a name that is no tier."""
        # What is known to be refused is not tried: that takes seconds, for which everybody else who opens a session waits.
        tiers.candidates(tier or None, self._minimum)
        if tier and self._reports:
            tiers.pick(self._reports, tier, self._minimum)
        with self._lock:
            if self._closed:
                raise TierUnavailable("the embedded executor is closed: connect again")
            if tier not in self._pools:
                spawner = None if tier else self._take_spawner()
                self._pools[tier] = Pool(tier or None, self._minimum, self._warm, spawner=spawner)
            return self._pools[tier]

    def _take_spawner(self) -> Spawner | None:
        spawner, self._spawner = self._spawner, None
        return spawner

    def tiers(self) -> list[TierReport]:
        """Every tier with its layers, as tried on this system; tried once."""
        with self._probing:
            if not self._reports:
                self._reports = tiers.probe()
            return self._reports

    def environments(self) -> Kept | None:
        """What is kept for sessions; None where nothing is installed for them."""
        return None if self._policy.mode == "off" else self._store.statistics()

    @property
    def sessions(self) -> int:
        """How many are open now."""
        return self._sessions

    def describe(self) -> Description:
        pool = self.pool()
        return Description(
            url="local:",
            version=version("avlab"),
            wire=WIRE_VERSION,
            python=python_version(),
            cloudpickle=cloudpickle_version(),
            tier=pool.tier,
            tiers=[Layer(r.name, r.available, r.reason) for r in self.tiers()],
            nodes=sorted(point.name for point in points("avlab.nodes")),
            sessions=self._sessions,
            max_item=MAX_ITEM,
            environments=self._policy.mode if self._policy.mode == "off" or installer.is_there() else "no installer",
            pythons=[python_version()] if self._policy.mode == "off" else minors(),
        )

    def status(self, account: Account | None = None, all_of: Iterable[Account] = ()) -> Status:
        """What ``account`` (default: this process's own) and ``all_of`` have in use. Raises TierUnavailable."""
        account = account or self._own
        accounts = list(all_of) or [account]
        return Status(
            tenant=account.tenant.name,
            operator=account.tenant.operator,
            uptime=(monotonic() - self._began) / 1e9,
            tier=self.pool().tier,
            sessions=tuple(session for each in accounts for session in each.sessions()),
            quotas=tuple(quota for each in accounts for quota in each.quotas()),
        )

    def prepare(self, request: Open, account: Account | None = None) -> Iterator[Log]:
        spec = wanted(request.bundle, self._policy)
        if spec is not None:
            with (account or self._own).environment(spec.key):
                for line in self._store.build(spec):
                    yield Log("stderr", f"{line}\n".encode() if line else b"")

    def open(self, request: Open, blobs: Mapping[str, bytes], account: Account | None = None) -> WorkerLink:
        """A worker with the session's Open, in the books of ``account`` (default: this process's own)."""
        limits = make_limits(request.limits)
        spec = wanted(request.bundle, self._policy)
        if spec is None:
            link = _worker(self.pool(request.tier), limits)
        else:
            pool, leave = self._rooms.enter(request.tier, spec)
            try:
                link = _worker(pool, limits)
            except BaseException:
                leave()
                raise
            link.on_close(leave)
        link.on_close(self._ended)
        with self._counting:
            self._sessions += 1
        try:
            (account or self._own).opened(link, request)
            link.begin(request, blobs)
        except BaseException:
            link.close()
            raise
        return link

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        return one_item(self.open(request, blobs), item)

    def _room(self, tier: str, environment: Environment) -> Pool:
        preload = tuple(filter(environment.harmless, PRELOAD))
        return Pool(tier or None, self._minimum, min(self._warm, 1), preload=preload, seen=environment.visible())

    def _confining(self) -> str:
        """The tier that an installer can be confined with here."""
        possible = {report.name for report in self.tiers() if report.available}
        return next((name for name in (NAMESPACES, LANDLOCK) if name in possible), PROCESS)

    def _ended(self) -> None:
        with self._counting:
            self._sessions -= 1

    def lend(self, obj: object) -> Bundle | None:
        return None

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        return pickle_argument(value)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            pools, self._pools = self._pools, {}
            spawner = self._take_spawner()
        if spawner is not None:
            spawner.close()
        self._store.close()
        self._rooms.close()
        for pool in pools.values():
            pool.close()


def _worker(pool: Pool, limits: Limits) -> WorkerLink:
    worker = pool.acquire(limits)
    try:
        return WorkerLink(worker)
    except BaseException as error:
        worker.close()
        if isinstance(error, OSError):
            raise cannot_start(error) from None
        raise
