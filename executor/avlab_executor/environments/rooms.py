"""Rooms: one pool of workers per environment and tier, so that nothing that a zygote has imported comes from another environment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from avlab.core.errors import Cancelled
from avlab_executor.environments.spec import Environment, Spec
from avlab_executor.environments.store import Lease, Store
from avlab_executor.pool import Pool

IDLE = 3
"""Rooms without a session that are kept for the next one; each holds a zygote and the workers that wait."""


@dataclass(slots=True)
class Room:
    """A pool and the lease of its environment. users: sessions that run in it, or are about to."""

    pool: Pool
    lease: Lease
    users: int = 0

    def close(self) -> None:
        """End the pool; then the environment may go."""
        self.pool.close()
        self.lease.close()


class Rooms:
    """The rooms of one executor, by tier and environment. ``make`` starts a pool. Thread-safe."""

    def __init__(self, store: Store, make: Callable[[str, Environment], Pool]) -> None:
        self._store, self._make = store, make
        self._rooms: dict[tuple[str, str], Room] = {}  # the least recently used first
        self._lock = threading.Lock()
        self._closed = False

    def enter(self, tier: str, spec: Spec) -> tuple[Pool, Callable[[], None]]:
        """A pool, and what to call once when its session is over. Raises what Store.lease and Pool raise."""
        key = (tier, spec.key)
        room = self._find(key)
        if room is None:
            lease = self._store.lease(spec)
            try:
                made = Room(self._make(tier, lease.environment), lease)
            except BaseException:
                lease.close()
                raise
            room = self._add(key, made)
        return room.pool, lambda: self._leave(room)

    def _find(self, key: tuple[str, str]) -> Room | None:
        with self._lock:
            room = self._rooms.pop(key, None)
            if room is not None:
                self._rooms[key] = room
                room.users += 1
            return room

    def _add(self, key: tuple[str, str], made: Room) -> Room:
        with self._lock:
            room = made if self._closed else self._rooms.setdefault(key, made)
            room.users += 1
            closed = self._closed
            idle = [k for k, r in self._rooms.items() if not r.users]
            leaving = [self._rooms.pop(k) for k in idle[: max(0, len(idle) - IDLE)]]
        if closed or room is not made:  # somebody was faster
            leaving.append(made)
        for each in leaving:
            each.close()
        if closed:
            raise Cancelled("the executor is closed")
        return room

    def _leave(self, room: Room) -> None:
        with self._lock:
            room.users -= 1

    def close(self) -> None:
        """End all pools. Idempotent."""
        with self._lock:
            self._closed = True
            rooms, self._rooms = list(self._rooms.values()), {}
        for room in rooms:
            room.close()
