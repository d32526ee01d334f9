"""Memory of large messages: kept for the next one, instead of given back to the system and taken again page by page."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

_LARGE = 1 << 20
_BLOCK = (32 << 20) - (64 << 10)


def expect(size: int) -> None:
    """A message of so many bytes is under way: from the first large one on, this process keeps what it frees."""
    if size > _LARGE:
        _keep()


@cache
def _keep() -> None:
    # glibc gives a block above a threshold back to the system as soon as it is freed, and the free end of its heap above twice that.
    # The threshold is the largest such block yet, up to 32 MiB: so one of that size is freed here, of which no page was touched.
    # Where the environment sets a threshold (MALLOC_…), glibc stays with it; other libraries have none.
    with suppress(MemoryError):
        bytes(_BLOCK)
