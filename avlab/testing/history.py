"""check_history: what a delivery has done to what was sent."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple


class History(NamedTuple):
    """Counts of values. All are 0 when everything has come once and in order.

    lost: sent, and not received. duplicated: received more often than sent, or never sent at all. reordered: received after
    one that was sent later (the definition of RFC 4737, section 3).
    """

    lost: int
    duplicated: int
    reordered: int


def check_history(sent: Iterable[Hashable], received: Iterable[Hashable]) -> History:
    """Compare what was received with what was sent, each in its order: ``assert check_history(a, b) == (0, 0, 0)``.

    Equal values that were sent several times are matched in their order.
    """
    places: dict[Hashable, deque[int]] = defaultdict(deque)
    count = 0
    for place, value in enumerate(sent):
        places[value].append(place)
        count = place + 1
    found = duplicated = reordered = 0
    latest = -1
    for value in received:
        if not places.get(value):
            duplicated += 1
            continue
        place = places[value].popleft()
        found += 1
        reordered += place < latest
        latest = max(latest, place)
    return History(count - found, duplicated, reordered)


__all__ = ["History", "check_history"]
