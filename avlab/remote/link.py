"""Link: what carries messages between two banks, and Connection: what opens links to one executor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from avlab.core.arriving import whole
from avlab.core.errors import LinkClosed
from avlab.core.message import Buffer, Bundle, Credit, Failure, ItemMessage, Log, Message, Open, Opened
from avlab.core.status import Status


class Link(Protocol):
    """A two-way, ordered stream of messages. ``send`` may be called from any thread; one thread at a time receives."""

    def send(self, message: Message) -> None:
        """Hand a message over; blocks while the other side does not read. Raises LinkClosed."""

    def hold(self) -> None:
        """More messages follow at once: small ones may wait for `flush` and travel together."""

    def flush(self) -> None:
        """Send what is held, if anything. Raises LinkClosed."""

    def recv(self, timeout: float | None = None) -> Message:
        """The next message. Raises TimeoutError after ``timeout`` seconds, LinkClosed (or a SessionError with the reason)
        at the end."""

    def arrived(self) -> Message | None:
        """A message that has been received already and needs no waiting, or None. Never raises."""

    def wake(self) -> None:
        """Make a `recv` that waits return an empty Credit. May be called from any thread."""

    def close(self) -> None:
        """End both directions and free what belongs to the link. Idempotent."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One isolation tier as an executor has probed it."""

    name: str
    available: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What an executor says of itself. ``max_item``: bytes; ``capacity``: sessions at once; ``environments``: what it installs for
    sessions, "off", "wheels", "any", or "no installer" for want of one; ``pythons``: minor versions that they can have."""

    url: str = ""
    version: str = ""
    wire: int = 0
    python: str = ""
    cloudpickle: str = ""
    tier: str = ""
    tiers: Sequence[Layer] = ()
    nodes: Sequence[str] = field(default=())
    sessions: int = 0
    capacity: int = 0
    max_item: int = 0
    environments: str = "off"
    pythons: Sequence[str] = ()


class Connection(Protocol):
    """A way to one executor."""

    def describe(self) -> Description:
        """What the executor is and can do. Raises ConnectError."""

    def status(self) -> Status:
        """What this caller's tenant has in use there. Raises ConnectError, and Denied from executors that do not tell."""

    def prepare(self, request: Open) -> Iterator[Log]:
        """Make ready on this side what `open` needs first and what takes long, an environment; gives its progress, an empty Log now
        and then. Leaving early gives it up. Raises EnvironmentFailed, Denied, ConfigError."""

    def open(self, request: Open, blobs: Mapping[str, bytes]) -> Link:
        """A link on which the session's `Opened` (or a Failure) is the next message.

        ``blobs``: what the bundle names; only those the executor lacks are sent. Raises LinkError, TierUnavailable,
        LimitUnsupported, Denied.
        """

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        """A stream of one: every message of the executor up to the input's last output. Raises as `open` does."""

    def lend(self, obj: object) -> Bundle | None:
        """A bundle for an object that needs no packing (same process), or None: pack it."""

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        """An argument without a codec as bytes and buffers beside them. Raises CodecError naming the type."""

    def close(self) -> None:
        """Free everything. Sessions that are still open end. Idempotent."""


END_SECONDS = 1.0
"""How long a worker that broke off an item may take to end."""


def one_item(link: Link, item: ItemMessage) -> Iterator[Message]:
    """`Connection.execute` over a link that was opened for it; the link is closed at the end."""
    try:
        opened = False
        while True:
            message = link.recv()
            if isinstance(message, ItemMessage):
                try:
                    message.buffers = [whole(buffer) for buffer in message.buffers]
                except LinkClosed:
                    with suppress(TimeoutError):
                        while True:  # what the worker printed last, then why it has ended
                            yield link.recv(END_SECONDS)
                    raise
            yield message
            if isinstance(message, ItemMessage) and not message.last:
                with suppress(LinkClosed):  # then the next message says why
                    link.send(Credit(message.ordinal))
            if isinstance(message, Opened) and not opened:
                opened = True
                link.send(item)
            if isinstance(message, Failure) or (isinstance(message, ItemMessage) and message.last):
                return
    finally:
        link.close()
