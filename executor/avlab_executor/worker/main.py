"""The locked worker: takes blobs and one Open, loads the object, and serves it until the session ends."""

from __future__ import annotations

import pickle
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import avlab_executor
from avlab.core.codec import registry
from avlab.core.errors import BundleError, LinkClosed
from avlab.core.message import Blob, Open
from avlab.core.registry import registered_nodes
from avlab.core.tree import Values
from avlab.remote.failure import describe
from avlab.remote.host import Host
from avlab.remote.links.local import LocalLink
from avlab.remote.manifest import cloudpickle_version
from avlab.remote.shared_memory import Memory, Region
from avlab_executor.newborn import Descriptors
from avlab_executor.worker import load, output
from avlab_executor.worker.hints import hint

MAX_BLOBS = 1 << 30

# Once, in the zygote: a worker shall not look for what is installed while somebody waits.
registry.load_all()
registered_nodes()
cloudpickle_version()


def main(descriptors: Descriptors) -> None:
    """Serve one session on the worker's descriptors; returns at its end."""
    outbox, inbox = Region.attach(descriptors.outbox), Region.attach(descriptors.inbox)
    link = LocalLink(socket.socket(fileno=descriptors.session), Memory(outbox, inbox), alone=True)
    output.prepare(link)
    try:
        request, blobs = _receive(link)
    except LinkClosed:
        return  # never used
    try:
        target = load.load(request.bundle, blobs, Path.cwd())
        blobs.clear()
        values = Values(unpickle=_unpickle)
        host = Host(link, target, request, values, own=(avlab_executor,), settle=output.flush, hint=hint)
        signal.signal(signal.SIGINT, lambda *_: host.interrupt())
        opened = host.open()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  told to the caller as it is
        output.flush()
        link.send(describe(error, own=(avlab_executor,), hint=hint))
        return
    output.flush()
    link.send(opened)
    host.run()


def _receive(link: LocalLink) -> tuple[Open, dict[str, bytes]]:
    parts: dict[str, bytearray] = {}
    total = 0
    while True:
        message = link.recv()
        if isinstance(message, Open):
            return message, {name: bytes(part) for name, part in parts.items()}
        if not isinstance(message, Blob):
            raise LinkClosed(f"a {type(message).__name__} before Open")
        total += len(message.data)
        if total > MAX_BLOBS:
            raise BundleError(f"the bundle exceeds {MAX_BLOBS} bytes")
        parts.setdefault(message.name, bytearray()).extend(message.data)


def _unpickle(data: bytes, buffers: Sequence[memoryview]) -> object:
    """Arguments that have no codec; the one other place that unpickles, in the same locked process as ``load``."""
    return pickle.loads(data, buffers=[bytearray(b) for b in buffers])


