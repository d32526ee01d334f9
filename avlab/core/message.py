"""What a link carries. One class for each kind of message in protos/avlab/v1/executor.proto, with the same field names."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from avlab.core.arriving import Arriving
from avlab.core.item import MILLISECONDS

WIRE_VERSION = 1
MAX_ITEM = 64 << 20
"""Largest payload of one item, in bytes: 64 MiB."""
MAX_MEMBERS = 64
"""Exceptions in an exception group, on all its levels."""

Buffer = bytes | bytearray | memoryview
Received = Buffer | Arriving
"""What a link hands out: on the local link a large buffer may still be on its way."""


class BundleKind(enum.IntEnum):
    NODE = 0
    OBJECT = 1
    SOURCE = 2


class Mode(enum.IntEnum):
    """What an input asks for: feed ``process``, call a method, iterate what a method returns, or end one stream."""

    PROCESS = 0
    CALL = 1
    ITERATE = 2
    FLUSH = 3


class SignalKind(enum.IntEnum):
    CANCEL = 0
    INTERRUPT = 1
    SET = 2
    KILL = 3


@dataclass(slots=True)
class File:
    """A file of a bundle: relative POSIX path, sha256 of its content, bytes, importable or data."""

    path: str
    blob: str
    size: int = 0
    module: bool = False


@dataclass(slots=True)
class Source:
    """Source text that has no file (a notebook cell): for tracebacks."""

    filename: str
    blob: str


@dataclass(slots=True)
class Bundle:
    """What to run. NODE: ``name`` and ``config`` (JSON). OBJECT: blob ``object`` is a cloudpickle. SOURCE: blob
    ``object`` is JSON ``{"filename", "text", "name", "state"}`` (see avlab.remote.bundle)."""

    kind: BundleKind = BundleKind.OBJECT
    name: str = ""
    config: bytes = b""
    object: str = ""
    files: Sequence[File] = ()
    requirements: Sequence[str] = ()
    python: str = ""
    cloudpickle: str = ""
    wire: int = WIRE_VERSION
    sources: Sequence[Source] = ()


@dataclass(slots=True)
class Open:
    """Begin a session. ``limits``: names of avlab.remote.limits.Limits to numbers; ``window``: outputs under way; ``grace``:
    seconds for which it outlives its connection."""

    bundle: Bundle
    limits: Mapping[str, int | float] = field(default_factory=dict)
    tier: str = ""
    window: int = 16
    session: str = ""
    grace: float = 0.0


@dataclass(slots=True)
class Opened:
    """The session stands. ``window``: inputs that may be under way; ``consumes``: type names ``process`` takes;
    ``restores``: the object has ``snapshot`` and ``restore``."""

    session: str = ""
    tier: str = ""
    window: int = 16
    consumes: Sequence[str] = ()
    stateless: bool = False
    has_process: bool = False
    restores: bool = False


@dataclass(slots=True)
class Failure:
    """An exception of user code (builtin set), a worker's death (reason set) or avlab's own refusal (kind set)."""

    type: str = ""
    builtin: str = ""
    message: str = ""
    traceback: str = ""
    reason: str = ""
    kind: str = ""
    input: int = 0
    members: list[Failure] = field(default_factory=list)
    """Of an exception group: at most MAX_MEMBERS in all its levels, without tracebacks."""
    args: str = ""
    """What a builtin exception was made of: a JSON list of plain values."""


@dataclass(slots=True)
class Slot:
    """Where a payload lies in the link's shared memory; ``sizes`` of the buffers in it, in order."""

    index: int
    offset: int
    length: int
    sizes: tuple[int, ...] = ()


@dataclass(slots=True)
class ItemMessage:
    """An input (k == 0) or an output (k >= 1) with its encoded value; see the proto for each field.

    ``buffers`` are the raw buffers in order. ``release``, when set, must be called once they have been copied out: they lie
    in memory that the other side will use again.
    """

    input: int = 0
    k: int = 0
    last: bool = False
    ordinal: int = 0
    mode: Mode = Mode.PROCESS
    method: str = ""
    codec: str = ""
    meta: bytes = b""
    buffers: Sequence[Received] = ()
    pts: int | None = None
    time_base: Fraction = MILLISECONDS
    track: str = ""
    seq: int = 0
    stamps: tuple[int, ...] = ()
    acked: int = 0
    granted: int = 0
    failure: Failure | None = None
    slot: Slot | None = None
    packed: bool = False
    release: Callable[[], None] | None = None
    _sizes: tuple[int, ...] | None = None
    _nbytes: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each buffer, as they were when first asked for."""
        if self._sizes is None:
            self._sizes = tuple([b.nbytes if isinstance(b, memoryview) else len(b) for b in self.buffers])
            self._nbytes = sum(self._sizes)
        return self._sizes

    @property
    def nbytes(self) -> int:
        """Bytes of payload."""
        if self._sizes is None:
            _ = self.sizes
        return self._nbytes


@dataclass(slots=True)
class Credit:
    """Cumulative: outputs the consumer has taken, inputs the worker will take."""

    acked: int = 0
    granted: int = 0


@dataclass(slots=True)
class Signal:
    """CANCEL the inputs of these numbers; INTERRUPT user code that runs for them (none: any); SET parameters (JSON in
    ``data``); KILL the worker."""

    kind: SignalKind
    inputs: Sequence[int] = ()
    data: bytes = b""


@dataclass(slots=True)
class Log:
    """Output of the worker: ``stream`` is stdout, stderr or display; ``dropped`` bytes were left out before it."""

    stream: str
    data: bytes = b""
    mime: str = "text/plain"
    dropped: int = 0


@dataclass(slots=True)
class End:
    """No more messages: the session closes."""


@dataclass(slots=True)
class Resume:
    """The caller goes on with a session on a new connection; it has ``received`` messages of the executor."""

    session: str
    epoch: int = 0
    received: int = 0


@dataclass(slots=True)
class Resumed:
    """The executor goes on too; it has ``received`` messages of the caller."""

    epoch: int = 0
    received: int = 0


@dataclass(slots=True)
class Receipt:
    """This many messages of the other side have arrived and need not be kept."""

    received: int = 0


@dataclass(slots=True)
class Blob:
    """A part of a content-addressed blob: ``name`` is the sha256 of the whole, ``size`` its length in bytes."""

    name: str
    data: Buffer = b""
    offset: int = 0
    size: int = 0


Message = Open | Opened | ItemMessage | Credit | Signal | Log | End | Failure | Resume | Resumed | Blob | Receipt
