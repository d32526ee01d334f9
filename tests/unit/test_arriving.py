"""Copying out what the other side is still writing."""

import threading

import numpy as np
import pytest

from avlab.core import arriving
from avlab.core.arriving import Arriving, copy, whole
from avlab.core.codec import registry
from avlab.core.errors import LinkClosed

SIZE = 1 << 16


class Hand:
    """Writes a buffer part by part, each only when the part before it has been copied out."""

    def __init__(self, target: memoryview, parts: int = 16) -> None:
        self.there = bytearray(SIZE)
        self.content = np.random.default_rng(3).bytes(SIZE)
        self.target, self.step, self.written = target, SIZE // parts, 0
        self.looks: list[int] = []

    def look(self) -> int:
        """What a reader asks: the parts that it was shown before must be in its own memory by now."""
        assert self.target[: self.written] == self.content[: self.written]
        self.looks.append(self.written)
        end = min(self.written + self.step, SIZE)
        self.there[self.written : end] = self.content[self.written : end]
        self.written = end
        return self.written


def test_each_part_is_copied_when_it_is_there() -> None:
    mine = memoryview(bytearray(SIZE))
    hand = Hand(mine)
    copy(mine, Arriving(memoryview(hand.there), 0, hand.look, lambda: False))
    assert mine == hand.content
    assert len(hand.looks) == 16


def test_a_buffer_behind_another_waits_for_its_own_bytes() -> None:
    content, written = bytearray(b"firstsecond"), [5]
    second = Arriving(memoryview(content)[5:], 5, lambda: written[0], lambda: False)
    thread = threading.Timer(0.01, lambda: written.__setitem__(0, 11))
    thread.start()
    assert whole(second) == b"second"
    thread.join()
    assert written == [11]


@pytest.mark.parametrize("lost", ["gone", "stalled"])
def test_what_never_arrives_is_an_error(lost: str, monkeypatch) -> None:
    monkeypatch.setattr(arriving, "STALLED", 0.01 if lost == "stalled" else 1e9)
    half = Arriving(memoryview(bytes(8)), 0, lambda: 4, lambda: lost == "gone")
    with pytest.raises(LinkClosed, match="middle of an item"):
        copy(memoryview(bytearray(8)), half)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_follow_and_own_what_they_get(order: str) -> None:
    array = np.asarray(np.random.default_rng(1).integers(0, 255, (64, 32), np.uint8), order=order)
    name, meta, (buffer,) = registry.encode(array)
    written = iter([100, 1000, 64 * 32])
    source = Arriving(memoryview(bytes(buffer)), 0, lambda: next(written), lambda: False)
    back = registry.decode(name, meta, [source])
    assert np.array_equal(back, array)
    assert back.flags.writeable and back.flags.owndata


def test_codecs_that_do_not_follow_get_complete_buffers() -> None:
    name, meta, (buffer,) = registry.encode(np.float64(1.5))
    looked = []
    source = Arriving(memoryview(bytes(buffer)), 0, lambda: looked.append(1) or 8, lambda: False)
    assert registry.decode(name, meta, [source]) == 1.5
    assert looked
