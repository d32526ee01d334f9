"""What an executor serves, whatever carries it: sessions up to a capacity, blobs, and a description of itself."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict

from avlab.core.errors import CodecError, ConfigError, Denied, TierUnavailable
from avlab.core.message import Blob, BundleKind, Open
from avlab.core.wire import MAX_MESSAGE, decode_batch, decode_names, encode_description, encode_names
from avlab_executor.blobs import BlobStore
from avlab_executor.embedded import Embedded
from avlab_executor.relay import names_of
from avlab_executor.worker_link import WorkerLink

STREAMS = {"StreamObject": (BundleKind.OBJECT, BundleKind.SOURCE), "StreamNode": (BundleKind.NODE,)}
"""The kinds of bundles that each streaming method takes."""
_ENDING_SECONDS = 1.0  # a session that its caller has just closed still holds its place until its worker is gone


class Service:
    """Workers for callers elsewhere. Thread-safe.

    minimum: the weakest tier that may serve. allow_process: whether plain processes may. sessions: most at once. warm: workers
    that wait. Raises TierUnavailable when this system cannot isolate as asked, ConfigError.
    """

    def __init__(
        self, *, minimum: str | None = None, allow_process: bool = False, sessions: int = 32, warm: int = 2
    ) -> None:
        if sessions < 1 or warm < 0:
            raise ConfigError(f"sessions={sessions}, warm={warm}: at least 1 session and 0 waiting workers")
        self._sessions, self._allow_process = sessions, allow_process
        self._embedded = Embedded(minimum=minimum, warm=warm)
        self._blobs = BlobStore()
        self._free = threading.Semaphore(sessions)
        self._used = False
        try:
            self.tier = self._embedded.describe().tier
            if self.tier == "process" and not allow_process:
                raise TierUnavailable(
                    "this system can isolate workers only as plain processes: --allow-process accepts that"
                )
        except BaseException:
            self._embedded.close()
            raise

    def start(self, request: Open, kinds: Collection[BundleKind]) -> WorkerLink:
        """A worker for a caller's Open. Raises CodecError, TierUnavailable, LimitUnsupported, Denied when all are taken."""
        if request.bundle.kind not in kinds:
            raise CodecError(f"a bundle of kind {request.bundle.kind.name} does not belong to this RPC")
        if request.tier == "process" and not self._allow_process:
            raise TierUnavailable("this executor does not run plain processes: it was started without --allow-process")
        if not self._free.acquire(timeout=_ENDING_SECONDS):
            raise Denied(f"all {self._sessions} sessions of this executor are in use: try again later")
        try:
            link = self._embedded.open(request, self._blobs.get(names_of(request.bundle)))
        except BaseException:
            self._free.release()
            raise
        link.on_close(self._free.release)
        self._used = True
        return link

    def used(self) -> bool:
        """Whether a session was open at any time since the last call."""
        used, self._used = self._used or self._embedded.sessions > 0, False
        return used

    def has(self, names: bytes) -> bytes:
        """HasBlobs."""
        return encode_names(self._blobs.held(decode_names(names)))

    def put(self, requests: Iterator[bytes]) -> bytes:
        """PutBlobs: batches with parts of blobs."""
        parts = (m for data in requests for m in decode_batch(data, MAX_MESSAGE) if isinstance(m, Blob))
        return encode_names(self._blobs.put(parts))

    def describe(self) -> bytes:
        """Describe."""
        values = asdict(self._embedded.describe())
        tiers = [(t["name"], t["available"], t["reason"]) for t in values.pop("tiers")]
        values.pop("url")
        values["capacity"] = self._sessions
        return encode_description(values, tiers)

    def close(self) -> None:
        """End all workers. Idempotent."""
        self._embedded.close()
