"""A buffer that the other side of a link is still writing: whoever copies it out follows the hand that writes."""

from __future__ import annotations

import time
from collections.abc import Callable

from avlab.core.errors import LinkClosed

TURNS = 200
"""How often the processor is offered to others before this side sleeps between two looks: about as long as a part takes."""
SLEEP = 100e-6
"""Seconds of such a sleep."""
STALLED = 5.0
"""Seconds that the buffers of one payload may be waited for, however slowly they arrive, until the other side counts as gone."""


class Naps:
    """How often one payload was slept for, whichever of its buffers was waited for."""

    taken = 0


class Arriving:
    """Bytes of shared memory, complete up to ``written() - start``. ``gone``: whether the writer has ended; ``naps``: of the payload."""

    def __init__(
        self, view: memoryview, start: int, written: Callable[[], int], gone: Callable[[], bool], naps: Naps | None = None
    ) -> None:
        self._view, self._start, self._written, self._gone = view, start, written, gone
        self._naps = naps or Naps()

    @property
    def nbytes(self) -> int:
        """The size when complete."""
        return self._view.nbytes

    def __len__(self) -> int:
        return self._view.nbytes

    def copy_to(self, target: memoryview) -> None:
        """Copy what arrives until it is complete. Raises LinkClosed when it never will be."""
        done, size = 0, self._view.nbytes
        while done < size:
            end = self._wait_beyond(done)
            target[done:end] = self._view[done:end]
            done = end

    def complete(self) -> memoryview:
        """The whole buffer, when it is there. Raises LinkClosed as above."""
        self._wait_beyond(self._view.nbytes - 1)
        return self._view

    def _wait_beyond(self, done: int) -> int:
        """More bytes than ``done``: how many are there."""
        turns = 0
        while (there := min(self._written() - self._start, self._view.nbytes)) <= done:
            turns += 1
            if turns < TURNS:
                time.sleep(0)
                continue
            time.sleep(SLEEP)
            self._naps.taken += 1
            if self._naps.taken * SLEEP > STALLED or self._gone():
                raise LinkClosed("the other side stopped in the middle of an item")
        return there


def whole(buffer: bytes | bytearray | memoryview | Arriving) -> memoryview:
    """A view of the buffer when it is complete. Raises LinkClosed when it never will be."""
    if type(buffer) is memoryview:
        return buffer
    return buffer.complete() if isinstance(buffer, Arriving) else memoryview(buffer)


def copy(target: memoryview, source: memoryview | Arriving) -> None:
    """Fill ``target`` (bytes, of the same length). Raises LinkClosed when the rest never arrives."""
    if isinstance(source, Arriving):
        source.copy_to(target)
    else:
        target[:] = source
