"""The same work for every contender: an object with state that gives back what it gets, and how it is timed."""

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from avlab.core.clock import monotonic

PAYLOADS = {"3.8 kB": (3840,), "720p RGB": (720, 1280, 3), "1080p RGB": (1080, 1920, 3)}
WARM_UP_CALLS = 10


class Echo:
    """What is run remotely."""

    def __init__(self) -> None:
        self.count = 0

    def process(self, value):
        self.count += 1
        return value


class Opener(Echo):
    """The first call of a fresh one needs numpy and PyAV."""

    def process(self, value):
        import av  # noqa: F401
        import numpy  # noqa: F401

        return super().process(value)


class Peer(Protocol):
    """What runs the echo. Made: ready for calls. ``close`` ends all that it started."""

    def prepare(self, payload: np.ndarray) -> Any:
        """The payload in the form in which this peer is best at taking it."""

    def call(self, value: Any) -> Any:
        """One blocking round trip."""

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        """Pipelined: results in order while more values are being sent."""

    def first(self) -> float:
        """Milliseconds until a fresh `Opener` has given its first result. Peers without objects of their own lack this."""

    def close(self) -> None: ...


class Basic:
    """Defaults of a peer."""

    def prepare(self, payload: np.ndarray) -> Any:
        return payload


def windowed(
    values: Iterable[Any], send: Callable[[Any], Any], receive: Callable[[Any], Any], window: int
) -> Iterator[Any]:
    """Keep ``window`` values under way; the oldest result first."""
    flying: deque[Any] = deque()
    for value in values:
        flying.append(send(value))
        if len(flying) == window:
            yield receive(flying.popleft())
    while flying:
        yield receive(flying.popleft())


def window_for(values: Iterable[Any], few: int, many: int) -> tuple[int, Iterator[Any]]:
    """Frames need few under way, small values many: the window and the values."""
    rest = iter(values)
    first = next(rest, None)
    size = len(first) if isinstance(first, bytes) else getattr(first, "nbytes", 0)

    def again() -> Iterator[Any]:
        if first is not None:
            yield first
            yield from rest

    return (few if size > 1 << 16 else many), again()


def payload(name: str) -> np.ndarray:
    """Bytes that no layer could shorten."""
    return np.random.default_rng(7).integers(0, 256, PAYLOADS[name], np.uint8)


def check(peer: Peer, name: str) -> None:
    """The peer gives back what it got, called and pipelined; and it is warm."""
    sent = payload(name)
    value = peer.prepare(sent)
    for _ in range(WARM_UP_CALLS):
        called = peer.call(value)
    for came in (called, *peer.stream([value] * WARM_UP_CALLS)):
        if not np.array_equal(np.frombuffer(came, np.uint8), sent.reshape(-1)):
            raise AssertionError(f"{type(peer).__name__} changed {name}")


def round_trip(peer: Peer, name: str, seconds: float) -> float:
    """p50 in ms of the calls that fit into ``seconds``, at least three."""
    value, times, end = peer.prepare(payload(name)), [], monotonic() + seconds * 1e9
    while len(times) < 3 or monotonic() < end:
        began = monotonic()
        peer.call(value)
        times.append(monotonic() - began)
    return statistics.median(times) / 1e6


def pipelined(peer: Peer, name: str, seconds: float) -> float:
    """Items per second while values are sent for ``seconds``, until the last result is here."""
    value, count, began = peer.prepare(payload(name)), 0, monotonic()

    def values() -> Iterator[Any]:
        while monotonic() < began + seconds * 1e9:
            yield value

    for _ in peer.stream(values()):
        count += 1
    return count / (monotonic() - began) * 1e9
