"""TcpRelay: a bad network between two real TCP sockets on this machine. No root, no other programs."""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Self

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError

CONNECTIONS = 256
"""Most connections at once: more are refused, and counted."""
UNDER_WAY = 1 << 20
"""Bytes under way in each direction of a connection; the sender has to wait then, as in a full network."""
_CHUNK = 64 << 10
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class StreamFaults:
    """What is wrong with one direction of a connection. Order is kept and nothing gets lost, as TCP promises.

    delay: seconds that each piece takes. jitter: delays are even between ``delay − jitter`` and ``delay + jitter`` (a delay
    below the jitter counts as the jitter); a piece never overtakes another. bandwidth: bytes a second, 0: any. slicer: what
    comes is cut into pieces of 1 to ``slicer`` bytes, 0: it passes as it comes.
    Raises ConfigError for negative and infinite values.
    """

    delay: float = 0.0
    jitter: float = 0.0
    bandwidth: float = 0.0
    slicer: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"{each.name} is {value!r}: it is a time, a rate or a length from 0 on")


@dataclass(frozen=True, slots=True)
class TcpStatistics:
    """Counts so far. forth, back: bytes that were passed to the target, and to its clients; connections: accepted and
    connected; cut: connections that were ended by a cut; refused: those that came during a cut, or were too many."""

    forth: int = 0
    back: int = 0
    connections: int = 0
    cut: int = 0
    refused: int = 0


class _Way:
    """One direction of a connection: what has come, and when it is due."""

    def __init__(self, source: socket.socket, sink: socket.socket, seed: str, name: str) -> None:
        self.source, self.sink, self.name = source, sink, name
        self.dice = random.Random(seed)
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.bytes = 0
        self.due = 0  # of the latest piece
        self.ended = self.closed = False

    def add(self, data: bytes, faults: StreamFaults, now: int) -> None:
        """Cut it into pieces, each with the time at which it comes out."""
        self.bytes += len(data)
        while data:
            size = self.dice.randint(1, faults.slicer) if faults.slicer else len(data)
            piece, data = data[:size], data[size:]
            late = max(faults.delay, faults.jitter) + faults.jitter * (2 * self.dice.random() - 1)
            due = max(now + int(late * 1e9), self.due)
            if faults.bandwidth:
                due = max(due, self.due + int(len(piece) / faults.bandwidth * 1e9))
            self.due = due
            self.pieces.append((due, piece))


class _Pair:
    """A client's connection and the one to the target that stands for it."""

    def __init__(self, client: socket.socket, target: socket.socket, seed: str) -> None:
        self.ways = (_Way(client, target, f"{seed}:forth", "forth"), _Way(target, client, f"{seed}:back", "back"))
        self.sockets = (client, target)


class TcpRelay:
    """Stands before a TCP server: who connects to `address` is connected to ``target``, with faults in between.

    The faults are those of `StreamFaults` and hold for both directions of every connection, whose dice differ: the same seed
    and the same order of connections and bytes give the same slices and delays. Besides: `cut` resets all connections and
    refuses new ones; `cut_after` does so at a byte; `hole` swallows everything silently; `heal` ends both.

    target: host and port. host: where to listen. A context manager with one thread; `close` ends it.
    Raises ConfigError for a fault that cannot be, OSError when it cannot listen.
    """

    def __init__(
        self,
        target: Address,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        bandwidth: float = 0.0,
        slicer: int = 0,
        seed: int | str = 0,
        host: str = "127.0.0.1",
        clock: Clock = monotonic,
    ) -> None:
        self._faults = StreamFaults(delay, jitter, bandwidth, slicer)
        self._target, self._seed, self._clock = (target[0], target[1]), seed, clock
        self._lock = threading.Lock()
        self._was_cut = threading.Event()
        self._pairs: list[_Pair] = []
        self._cut = self._hole = self._closed = False
        self._fuses: dict[str, int] = {}
        self._counts = dict.fromkeys((each.name for each in fields(TcpStatistics)), 0)
        self._front = socket.create_server((host, 0), backlog=64)
        self._front.setblocking(False)
        self._address: Address = self._front.getsockname()[:2]
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ, self._accept)
        self._selector.register(self._ear, selectors.EVENT_READ, self._listen)
        self._thread = threading.Thread(target=self._run, name=f"avlab:relay {self._address[1]}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> Address:
        """Where clients connect to: host and port."""
        return self._address

    @property
    def target(self) -> Address:
        """Where their connections go."""
        return self._target

    def cut(self) -> None:
        """Reset all connections, lose what is under way, refuse new ones until `heal`."""
        with self._lock:
            self._break()

    def cut_after(self, count: int, direction: str = "forth") -> None:
        """`cut` when ``count`` more bytes have passed in a direction ("forth": to the target, or "back"), none more.

        Raises ConfigError for another direction and a count below 0.
        """
        if direction not in ("forth", "back") or count < 0:
            raise ConfigError(f"cut_after({count!r}, {direction!r}): a number of bytes, and 'forth' or 'back'")
        with self._lock:
            if not self._cut:  # else somebody has yet to see it, and to heal it
                self._was_cut.clear()
            self._fuses[direction] = count
        self._ring()

    def wait_until_cut(self, timeout: float | None = None) -> bool:
        """Whether a cut has come within ``timeout`` seconds (None: for ever)."""
        return self._was_cut.wait(timeout)

    def hole(self) -> None:
        """Pass nothing on until `heal`, and say nothing: connections stay and new ones are taken, but nobody answers.

        What comes meanwhile waits in the sockets, as unacknowledged packets would wait with their sender.
        """
        with self._lock:
            self._hole = True

    def heal(self) -> None:
        """Let everything through again; the faults remain."""
        with self._lock:
            self._cut = self._hole = False
            self._fuses.clear()
            self._was_cut.clear()
        self._ring()

    def change(self, *, delay: float = 0.0, jitter: float = 0.0, bandwidth: float = 0.0, slicer: int = 0) -> None:
        """Other faults for what comes from now on; those that are not named are none. Raises ConfigError."""
        faults = StreamFaults(delay, jitter, bandwidth, slicer)
        with self._lock:
            self._faults = faults

    def statistics(self) -> TcpStatistics:
        """What has passed so far."""
        with self._lock:
            return TcpStatistics(**self._counts)

    def close(self) -> None:
        """End the relay, its thread and all connections. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._ring()
        self._thread.join()
        for pair in self._pairs:
            self._end(pair)
        for each in (self._front, self._bell, self._ear):
            each.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " cut" if self._cut else " hole" if self._hole else ""
        return f"<TcpRelay {self._address} → {self._target}{state}>"

    def _ring(self) -> None:
        with suppress(OSError):  # full of rings, or closed
            self._bell.send(b".")

    def _break(self) -> None:
        """Mark the cut; the relay's thread does it, as it owns the sockets."""
        self._cut = True
        self._was_cut.set()
        self._ring()

    # The relay's thread.

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                self._settle()
                wait = self._pass()
                self._watch()
            for key, events in self._selector.select(wait):
                then: Callable[[int], None] = key.data
                then(events)

    def _listen(self, events: int) -> None:
        self._ear.recv(4096)

    def _accept(self, events: int) -> None:
        try:
            client, _ = self._front.accept()
        except OSError:  # it has gone already
            return
        with self._lock:
            if self._cut or len(self._pairs) >= CONNECTIONS:
                self._counts["refused"] += 1
                _reset(client)
                return
            number = self._counts["connections"]
            try:
                target = socket.create_connection(self._target, timeout=5)
            except OSError:  # as the network would say it
                self._counts["refused"] += 1
                _reset(client)
                return
            for each in (client, target):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._counts["connections"] += 1
            self._pairs.append(_Pair(client, target, f"{self._seed}:{number}"))

    def _settle(self) -> None:
        """Do what a cut asks for, and forget connections that have ended on both sides."""
        for pair in list(self._pairs):
            if self._cut or all(way.closed for way in pair.ways):
                self._counts["cut"] += self._cut
                self._end(pair)
                self._pairs.remove(pair)

    def _pass(self) -> float | None:
        """Pass on what is due; seconds until the next piece is."""
        soonest: int | None = None
        for pair in list(self._pairs):
            for way in pair.ways:
                due = None if self._hole else self._drain(way)
                if self._cut:
                    self._settle()
                    return 0
                if due is not None:
                    soonest = due if soonest is None else min(soonest, due)
        return None if soonest is None else max(0.0, (soonest - self._clock()) / 1e9)

    def _drain(self, way: _Way) -> int | None:
        """When the direction's next piece is due; None if there is none, or its reader has to read first."""
        while way.pieces and way.pieces[0][0] <= self._clock():
            due, piece = way.pieces.popleft()
            left = self._fuses.get(way.name)
            try:
                sent = way.sink.send(piece if left is None else piece[:left]) if left != 0 else 0
            except BlockingIOError:
                way.pieces.appendleft((due, piece))
                return None
            except OSError:
                way.ended, way.bytes = True, 0
                way.pieces.clear()
                return None
            way.bytes -= sent
            self._counts[way.name] += sent
            if left is not None:
                self._fuses[way.name] = left - sent
                if left == sent:
                    del self._fuses[way.name]
                    self._break()
                    return None
            if sent < len(piece):
                way.pieces.appendleft((due, piece[sent:]))
        if way.ended and not way.pieces and not way.closed:
            way.closed = True
            with suppress(OSError):  # the other side was first
                way.sink.shutdown(socket.SHUT_WR)
        return way.pieces[0][0] if way.pieces else None

    def _watch(self) -> None:
        """Wait for those sockets that something can be done with."""
        for pair in self._pairs:
            forth, back = pair.ways
            for sock, incoming, outgoing in ((pair.sockets[0], forth, back), (pair.sockets[1], back, forth)):
                events = 0
                if not (self._hole or incoming.ended or incoming.bytes >= UNDER_WAY):
                    events |= selectors.EVENT_READ
                if not self._hole and outgoing.pieces and outgoing.pieces[0][0] <= self._clock():
                    events |= selectors.EVENT_WRITE
                self._register(sock, events, incoming)

    def _register(self, sock: socket.socket, events: int, incoming: _Way) -> None:
        known = self._selector.get_map().get(sock.fileno())
        if known is None and events:
            self._selector.register(sock, events, lambda ready: self._ready(ready, incoming))
        elif known is not None and not events:
            self._selector.unregister(sock)
        elif known is not None and known.events != events:
            self._selector.modify(sock, events, known.data)

    def _ready(self, events: int, incoming: _Way) -> None:
        if not events & selectors.EVENT_READ:
            return
        with self._lock:
            if self._hole or self._cut:
                return
            try:
                data = incoming.source.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                incoming.add(data, self._faults, self._clock())
            else:
                incoming.ended = True

    def _end(self, pair: _Pair) -> None:
        for sock in pair.sockets:
            if sock.fileno() in self._selector.get_map():
                self._selector.unregister(sock)
            _reset(sock)


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


__all__ = ["StreamFaults", "TcpRelay", "TcpStatistics"]
