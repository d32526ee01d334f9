"""Shared memory between two processes of one machine: a region per direction, slots in it, no messages to free them.

Each region is a sealed memfd. Its first page holds one counter per slot of the *opposite* region: whoever has copied a slot
out increments that counter in the region it writes, and the owner of the slot sees it there. Its second page says of each
slot of its own how many bytes lie there by now: a large payload is announced before it is copied in, so that the other side
copies it out behind the hand that writes. Each side writes only its own region, and a hostile side can at most spoil the
data that it sends itself.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from avlab.core.arriving import Arriving, Naps
from avlab.core.errors import CodecError, LinkClosed
from avlab.core.message import Buffer, Slot

PAGE = mmap.PAGESIZE
SLOTS = PAGE // 4
HEAD = 2 * PAGE
"""Where payloads begin: behind the page of counters and the page of progress."""
DEFAULT_SIZE = 256 << 20
AHEAD = 512 << 10 if platform.machine() in ("x86_64", "AMD64") else 1 << 62
"""Payloads of more bytes are announced before they are written. Only where processors show stores in their order (x86-TSO):
elsewhere a byte might be seen after the number that counts it."""
PART = 256 << 10
"""Bytes between two looks at the other side's progress."""


class Region:
    """One sealed memfd; pages are committed when they are first used.

    The file can neither shrink nor grow, so a reader's mapping never faults.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size

    @classmethod
    def create(cls, size: int = DEFAULT_SIZE) -> Region:
        """A new region of ``size`` bytes of address space (rounded up to pages)."""
        size = -(-size // PAGE) * PAGE
        fd = os.memfd_create("avlab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, size)

    @classmethod
    def attach(cls, fd: int) -> Region:
        """A region that another process has made and handed over."""
        return cls(fd, os.fstat(fd).st_size)

    def map(self, *, write: bool) -> mmap.mmap:
        """The region as memory of this process."""
        return mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if write else 0))

    def close(self) -> None:
        """Close the descriptor; existing mappings stay. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Memory:
    """This process's view of a pair of regions: puts payloads into ``outgoing``, finds them in ``incoming``.

    Not thread-safe: one thread puts, one thread takes.
    """

    def __init__(self, outgoing: Region, incoming: Region) -> None:
        self._maps = (outgoing.map(write=True), incoming.map(write=False))
        self._out, self._in = (memoryview(m) for m in self._maps)
        self._written, self._arrived = (view[PAGE:HEAD].cast("I") for view in (self._out, self._in))
        self._used: list[tuple[int, int, int, int]] = []  # begin, end, slot, counter when it was handed out
        self._free = list(range(SLOTS - 1, -1, -1))
        self._closed = False

    def reserve(self, sizes: Sequence[int]) -> Slot | None:
        """A slot for buffers of these sizes; None when there is no room now. Lowest addresses first: they are warm.

        Raises LinkClosed after `close`.
        """
        if self._closed:
            raise LinkClosed("the link is closed")
        self._reap()
        if not self._free:
            return None
        length = sum(sizes)
        begin, at = HEAD, 0
        for at, (start, end, _, _) in enumerate(self._used):  # noqa: B007  `at` is used after the loop
            if start - begin >= length:
                break
            begin = end
        else:
            at = len(self._used)
            if len(self._out) - begin < length:
                return None
        index = self._free.pop()
        self._used.insert(at, (begin, begin + -(-length // PAGE) * PAGE, index, self._in[index]))
        self._written[index] = 0
        return Slot(index, begin, length, tuple(sizes))

    def write(self, slot: Slot, buffers: Sequence[Buffer]) -> None:
        """Copy the buffers into their slot; the other side may read behind."""
        out, position, written = self._out, slot.offset, 0
        step = PART if slot.length > AHEAD else slot.length
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            for start in range(0, len(view), step or 1):
                part = view[start : start + step]
                out[position : position + len(part)] = part
                position += len(part)
                written += len(part)
                self._written[slot.index] = written

    def withdraw(self, slot: Slot) -> None:
        """Take back a slot that was never handed over."""
        self._used = [extent for extent in self._used if extent[2] != slot.index]
        self._free.append(slot.index)

    def _reap(self) -> None:
        counters, kept = self._in, []
        for extent in self._used:
            if counters[extent[2]] != extent[3]:
                self._free.append(extent[2])
            else:
                kept.append(extent)
        self._used = kept

    def take(self, slot: Slot, gone: Callable[[], bool]) -> list[Buffer | Arriving]:
        """The buffers of a slot, as views that are valid until `release`, or still arriving.

        ``gone``: whether who writes them has ended. Raises CodecError for impossible places.
        """
        if not (slot.index < SLOTS and slot.offset >= HEAD and slot.offset + slot.length <= len(self._in)):
            raise CodecError("a payload outside of shared memory")
        index, position, start = slot.index, slot.offset, 0
        whole, naps = self._arrived[index] >= slot.length, Naps()
        buffers: list[Buffer | Arriving] = []
        for size in slot.sizes:
            view = self._in[position : position + size]
            buffers.append(view if whole else Arriving(view, start, lambda: self._progress(index), gone, naps))
            position += size
            start += size
        return buffers

    def _progress(self, index: int) -> int:
        """Bytes of a slot that have been written by now; LinkClosed when nobody can tell any more."""
        try:
            return self._arrived[index]
        except ValueError:  # unmapped by another thread
            raise LinkClosed("the link is closed") from None

    def release(self, index: int) -> None:
        """The slot has been copied out: the other side may use it again."""
        if not self._closed:
            with suppress(ValueError):  # closed by another thread at this moment
                self._out[index] = (self._out[index] + 1) & 0xFF

    def close(self) -> None:
        """Unmap; views that are still out keep their mapping alive. Idempotent."""
        self._closed = True
        for view in (self._written, self._arrived, self._out, self._in):
            view.release()
        for mapping in self._maps:
            with _still_viewed():
                mapping.close()


@contextmanager
def _still_viewed() -> Iterator[None]:
    """A mapping with live views cannot be closed now; it goes with its last view."""
    try:
        yield
    except BufferError:
        return
