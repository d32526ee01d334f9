"""The least that two processes can do: copy into shared memory, wake the other by a pipe, copy out; and back the same way.

Both sides own what they get: four copies for a round trip.
"""

import itertools
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from echo import Basic, Echo, window_for, windowed

SLOT, FEW, MANY = 8 << 20, 4, 64
SIZE = SLOT * MANY
HEAD = struct.Struct("<IIIIII")


class Slots:
    """Arrays of bytes through slots of shared memory; pipes carry slot and shape."""

    def __init__(self, outgoing: int, incoming: int, there: int, back: int) -> None:
        self.outgoing, self.incoming = (np.frombuffer(mmap.mmap(fd, SIZE), np.uint8) for fd in (outgoing, incoming))
        self.there, self.back = there, back

    def send(self, value: np.ndarray, slot: int) -> None:
        self.outgoing[slot * SLOT : slot * SLOT + value.nbytes] = value.reshape(-1)
        os.write(self.there, HEAD.pack(slot, value.nbytes, value.ndim, *value.shape, *(0,) * (3 - value.ndim)))

    def receive(self) -> tuple[np.ndarray, int] | None:
        """An array and its slot; None when the other side has gone."""
        head = os.read(self.back, HEAD.size)
        if not head:
            return None
        slot, size, dimensions, *shape = HEAD.unpack(head)
        value = self.incoming[slot * SLOT : slot * SLOT + size].copy()
        return value.reshape(shape[:dimensions]), slot


def serve(descriptors: list[int]) -> None:
    """The other process; ends with the pipe."""
    echo, slots = Echo(), Slots(*descriptors)
    while (came := slots.receive()) is not None:
        value, slot = came
        slots.send(echo.process(value), slot)


class Contender(Basic):
    def __init__(self) -> None:
        memories = [os.memfd_create(name) for name in ("there", "back")]
        for memory in memories:
            os.ftruncate(memory, SIZE)
        (far_in, self.there), (self.back, far_out) = os.pipe(), os.pipe()
        far = [memories[1], memories[0], far_out, far_in]
        self.server = subprocess.Popen(
            [sys.executable, "-m", "peers.shared_memory", *map(str, far)], pass_fds=far, cwd=sys.path[0]
        )
        os.close(far_in)
        os.close(far_out)
        self.slots = Slots(*memories, self.there, self.back)
        self.about = "memfd, mmap, pipe"

    def call(self, value: np.ndarray) -> np.ndarray:
        self.slots.send(value, 0)
        return self._receive(None)

    def stream(self, values: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        window, values = window_for(values, few=FEW, many=MANY)
        turns = itertools.cycle(range(window))
        return windowed(values, lambda value: self.slots.send(value, next(turns)), self._receive, window)

    def _receive(self, _: Any) -> np.ndarray:
        came = self.slots.receive()
        if came is None:
            raise EOFError("the other process has ended")
        return came[0]

    def close(self) -> None:
        os.close(self.there)
        self.server.wait(10)


if __name__ == "__main__":
    serve([int(word) for word in sys.argv[1:]])
