"""The in-memory link: a host in a thread of this process, for tests of pipelines and nodes without an executor.

Messages pass through the real wire format, so that what works here works on every link. There is no sandbox, nothing is
pickled, and limits are refused. Objects are lent, not copied.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from avlab.core.channel import ChannelClosed, Receiver, Sender, open_channel
from avlab.core.errors import ConfigError, LimitUnsupported, LinkClosed, TierUnavailable
from avlab.core.message import (
    MAX_ITEM,
    WIRE_VERSION,
    Buffer,
    Bundle,
    BundleKind,
    Credit,
    ItemMessage,
    Log,
    Message,
    Open,
)
from avlab.core.registry import registered
from avlab.core.status import Status
from avlab.core.tree import Values
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote.arguments import pickle_argument
from avlab.remote.failure import describe
from avlab.remote.host import Host
from avlab.remote.interrupts import exposed
from avlab.remote.link import Description, Layer, Link, one_item
from avlab.remote.manifest import cloudpickle_version, python_version

CAPACITY = 64


class InprocLink:
    """One end of a pair of bounded channels that carry encoded batches."""

    def __init__(self, outgoing: Sender[bytes], incoming: Receiver[bytes], back: Sender[bytes]) -> None:
        self._outgoing, self._incoming, self._back = outgoing, incoming, back

    def send(self, message: Message) -> None:
        try:
            self._outgoing.send(encode_batch([message]))
        except ChannelClosed:
            raise LinkClosed("the other side of the link is gone") from None

    def hold(self) -> None:
        return  # there is nothing to be saved

    def flush(self) -> None:
        return

    def recv(self, timeout: float | None = None) -> Message:
        try:
            with exposed:
                data = self._incoming.receive(timeout)
            return next(decode_batch(data))
        except ChannelClosed:
            raise LinkClosed("the other side of the link is gone") from None

    def arrived(self) -> Message | None:
        return None  # everything that arrives is waited for in the channel

    def look(self) -> Message | None:
        """A message that needs no waiting, or None. Raises LinkClosed."""
        try:
            return self.recv(0)
        except TimeoutError:
            return None

    def wake(self) -> None:
        with suppress(ChannelClosed):  # who waits there learns it
            self._back.send(encode_batch([Credit()]))

    def close(self) -> None:
        self._outgoing.close()
        self._incoming.close()


def link_pair(capacity: int = CAPACITY) -> tuple[InprocLink, InprocLink]:
    """Two connected ends; each direction holds at most ``capacity`` messages."""
    to_host: tuple[Sender[bytes], Receiver[bytes]] = open_channel(capacity)
    to_caller: tuple[Sender[bytes], Receiver[bytes]] = open_channel(capacity)
    near = InprocLink(to_host[0], to_caller[1], back=to_caller[0])
    far = InprocLink(to_caller[0], to_host[1], back=to_host[0])
    return near, far


class Inproc:
    """A Connection whose hosts are threads of this process."""

    def __init__(self) -> None:
        self._lent: dict[str, object] = {}
        self._numbers = itertools.count(1)
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []

    def describe(self) -> Description:
        return Description(
            url="inproc:",
            wire=WIRE_VERSION,
            python=python_version(),
            cloudpickle=cloudpickle_version(),
            tier="none",
            tiers=[Layer("none", True, "a thread of this process: no isolation")],
            sessions=sum(thread.is_alive() for thread in self._threads),
            max_item=MAX_ITEM,
        )

    def status(self) -> Status:
        return Status(tier="none")

    def lend(self, obj: object) -> Bundle:
        name = f"lent-{next(self._numbers)}"
        self._lent[name] = obj
        return Bundle(BundleKind.OBJECT, name)

    def argument(self, value: Any) -> tuple[bytes, Sequence[Buffer]]:
        pickle_argument(value)  # what cannot travel elsewhere does not travel here either
        name = f"lent-{next(self._numbers)}"
        self._lent[name] = value
        return name.encode(), ()

    def prepare(self, request: Open) -> Iterator[Log]:
        if request.bundle.requirements or (request.bundle.python or python_version()) != python_version():
            raise ConfigError("pip= and python= are not possible in memory: use 'local:'")
        return iter(())

    def open(self, request: Open, blobs: Mapping[str, bytes]) -> Link:
        if request.limits:
            raise LimitUnsupported(f"limit {next(iter(request.limits))} cannot be enforced in memory: use 'local:'")
        if request.tier:
            raise TierUnavailable(f"tier {request.tier!r} is not possible in memory: use 'local:'")
        near, far = link_pair()
        target = self._target(request.bundle)
        thread = threading.Thread(target=self._serve, args=(far, target, request), name="avlab-inproc", daemon=True)
        self._links.append(near)
        self._threads.append(thread)
        thread.start()
        return near

    def _target(self, bundle: Bundle) -> object:
        if bundle.kind is BundleKind.NODE:
            node: object = registered(bundle.name)(**json.loads(bundle.config or b"{}"))
            return node
        if bundle.name in self._lent:
            return self._lent.pop(bundle.name)
        raise ConfigError("a packed bundle needs a sandbox: open the object itself in memory, or use 'local:'")

    def _serve(self, link: InprocLink, target: object, request: Open) -> None:
        values = Values(unpickle=lambda name, _: self._lent.pop(bytes(name).decode()))
        host = Host(link, target, request, values)
        try:
            try:
                opened = host.open()
            except Exception as error:  # noqa: BLE001  told to the caller as it is
                link.send(describe(error))
                return
            link.send(replace(opened, tier="none"))
            host.run()
        finally:
            link.close()

    def execute(self, request: Open, blobs: Mapping[str, bytes], item: ItemMessage) -> Iterator[Message]:
        return one_item(self.open(request, blobs), item)

    def close(self) -> None:
        for link in self._links:
            link.close()
        for thread in self._threads:
            thread.join(timeout=2)


def connect() -> Inproc:
    """A connection of its own, with no sessions yet."""
    return Inproc()
