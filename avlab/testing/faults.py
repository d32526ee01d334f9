"""Bad networks on this machine, between two real sockets, and what they did. No root, no other programs.

UdpRelay is here; TcpRelay and check_history can be imported from here too.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any, Self

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError
from avlab.testing.fate import Bottleneck, Fate, Faults
from avlab.testing.history import History, check_history
from avlab.testing.tcp import StreamFaults, TcpRelay, TcpStatistics

CLIENTS = 64
"""Most senders that a relay remembers: what others send is lost, and counted."""
UNDER_WAY = 4096
"""Most packets under way in each direction: what comes on top is lost, and counted."""
_LARGEST = 65536
_BUFFER = 1 << 20  # bytes that the system keeps for each socket: our own losses are the only ones wanted

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class DirectionStatistics:
    """Packets of one direction. ``received`` = ``passed`` − ``doubled`` + ``lost`` + ``cut`` + ``overflowed`` + those under way.

    lost: by chance, or where the network was too narrow; cut: while the network was cut; overflowed: too many senders or packets under
    way, or a full socket.
    """

    received: int = 0
    passed: int = 0
    lost: int = 0
    doubled: int = 0
    cut: int = 0
    overflowed: int = 0


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """``forth``: from clients to the target; ``back``: from the target to its clients."""

    forth: DirectionStatistics
    back: DirectionStatistics


@dataclass
class _Direction:
    fate: Fate
    counts: dict[str, int] = field(default_factory=lambda: asdict(DirectionStatistics()))
    under_way: int = 0
    bottleneck: Bottleneck = field(default_factory=Bottleneck)


class UdpRelay:
    """Stands before a UDP socket: what is sent to `address` goes to ``target``, what that answers comes back, with faults.

    Each sender is shown to the target as a socket of its own, as a router with address translation does it; only the
    target's packets come back through that. The faults are those of `Faults` and hold for both directions, whose dice differ.
    The same seed and the same order of packets give the same losses, delays and doubles; `cut` and `heal` change no dice.

    target: host and port, an IP address of this machine or another. host: where to listen; by default the loopback address of the
    target's family. A context manager with one thread; `close` ends it. Packets that are under way then are lost.
    Raises ConfigError for a target or a fault that cannot be, OSError when it cannot listen.
    """

    def __init__(
        self,
        target: Address,
        *,
        loss: float = 0.0,
        burst: float = 1.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        bandwidth: float = 0.0,
        seed: int | str = 0,
        host: str = "",
        clock: Clock = monotonic,
    ) -> None:
        faults = Faults(loss, burst, delay, jitter, reorder, duplicate, bandwidth)
        try:
            six = ip_address(target[0]).version == 6
        except ValueError:
            raise ConfigError(f"target of UdpRelay is {target!r}: give an IP address and a port") from None
        self._family = socket.AF_INET6 if six else socket.AF_INET
        self._target, self._clock = (target[0], target[1]), clock
        self._forth, self._back = (_Direction(Fate(faults, f"{seed}:{name}")) for name in ("forth", "back"))
        self._lock = threading.Lock()
        self._cut = self._closed = False
        self._order = 0
        self._late: list[tuple[int, int, _Direction, socket.socket, Address, bytes]] = []
        self._ways: dict[Address, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._front = self._socket((host or ("::1" if six else "127.0.0.1"), 0), self._come)
        self._address: Address = self._front.getsockname()[:2]
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name=f"avlab:relay {self._address[1]}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> Address:
        """Where clients send to: host and port."""
        return self._address

    @property
    def target(self) -> Address:
        """Where their packets go."""
        return self._target

    def cut(self) -> None:
        """Lose everything in both directions, also what is under way, until `heal`."""
        with self._lock:
            self._cut = True
            for _, _, direction, *_ in self._late:
                direction.under_way -= 1
                direction.counts["cut"] += 1
            self._late.clear()

    def heal(self) -> None:
        """Let packets through again; the faults remain."""
        with self._lock:
            self._cut = False

    def change(self, **faults: float) -> None:
        """Other faults for the packets to come, by name; those that are not named are none. Raises ConfigError."""
        made = Faults(**faults)
        with self._lock:
            self._forth.fate.faults = self._back.fate.faults = made

    def statistics(self) -> RelayStatistics:
        """What has become of the packets so far."""
        with self._lock:
            return RelayStatistics(DirectionStatistics(**self._forth.counts), DirectionStatistics(**self._back.counts))

    def close(self) -> None:
        """End the relay, its thread and its sockets. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._bell.send(b".")
        self._thread.join()
        for each in (self._front, *self._ways.values(), self._bell, self._ear):
            each.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UdpRelay {self._address} → {self._target}{' cut' if self._cut else ''}>"

    def _socket(self, address: Address, come: Callable[..., None], *client: Any) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            made.setblocking(False)
            made.bind(address)
        except OSError:
            made.close()
            raise
        self._selector.register(made, selectors.EVENT_READ, lambda data, sender: come(data, sender, *client))
        return made

    # The relay's thread.

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(self._send_due()):
                if key.data is not None:
                    self._read(key.fileobj, key.data)

    def _read(self, ready: Any, come: Callable[[bytes, Address], None]) -> None:
        for _ in range(64):  # then others, and what is due, have their turn
            try:
                data, sender = ready.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            come(data, sender[:2])

    def _come(self, data: bytes, sender: Address) -> None:
        way = self._ways.get(sender)
        if way is None and len(self._ways) < CLIENTS:
            way = self._socket(("", 0), self._answer, sender)
            self._ways[sender] = way
        self._put(self._forth, way, self._target, data)

    def _answer(self, data: bytes, sender: Address, client: Address) -> None:
        if sender == self._target:
            self._put(self._back, self._front, client, data)

    def _put(self, direction: _Direction, way: socket.socket | None, to: Address, data: bytes) -> None:
        with self._lock:
            direction.counts["received"] += 1
            if self._cut or way is None:
                direction.counts["cut" if self._cut else "overflowed"] += 1
                return
            now, fate = self._clock(), direction.fate
            delays = fate.next()
            waits = direction.bottleneck.passes(now / 1e9, len(data), fate.faults.bandwidth) if delays else None
            if waits is None:
                direction.counts["lost"] += 1
                return
            direction.counts["doubled"] += len(delays) == 2
            for delay in delays:
                if direction.under_way >= UNDER_WAY:
                    direction.counts["overflowed"] += 1
                    continue
                direction.under_way += 1
                self._order += 1
                heapq.heappush(self._late, (now + int((delay + waits) * 1e9), self._order, direction, way, to, data))
        self._send_due()

    def _send_due(self) -> float | None:
        """Send what is due; seconds until the next packet is."""
        with self._lock:
            while self._late and (wait := self._late[0][0] - self._clock()) <= 0:
                _, _, direction, way, to, data = heapq.heappop(self._late)
                direction.under_way -= 1
                try:
                    way.sendto(data, to)
                    direction.counts["passed"] += 1
                except OSError:  # a full buffer, or an address that cannot be reached from here
                    direction.counts["overflowed"] += 1
            return wait / 1e9 if self._late else None


__all__ = [
    "DirectionStatistics",
    "Faults",
    "History",
    "RelayStatistics",
    "StreamFaults",
    "TcpRelay",
    "TcpStatistics",
    "UdpRelay",
    "check_history",
]
