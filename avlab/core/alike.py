"""Keys of one hash: numbers of one hash are easily made, and so are tuples and sets of them, which take long to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from avlab.core.errors import CodecError

MAX_ALIKE = 64
"""Keys of one hash in a set or dict: each is compared with all those before it."""
_ATOMS = frozenset((type(None), bool, int, float, str, bytes))


def check_keys(values: Sequence[Any], spend: Callable[[int], None]) -> None:
    """Raise CodecError if a set or dict of these keys takes more than linear time to make. ``spend`` is told how many comparisons
    are due for keys that are made of others: sets within sets would multiply."""
    flat = _ATOMS.issuperset(map(type, values))
    if flat and len(values) <= MAX_ALIKE:
        return
    alike = {code: count for code, count in Counter(map(hash, values)).items() if count > 1}
    if alike and max(alike.values()) > MAX_ALIKE:
        raise CodecError(f"more than {MAX_ALIKE} keys of a set or dict have one hash")
    if alike and not flat:
        for value in values:
            if (times := alike.get(hash(value), 0)) > 1:
                _charge(value, times, spend)


def _charge(value: Any, times: int, spend: Callable[[int], None]) -> None:
    """Spend what comparing ``value`` so often may take."""
    spend(times)
    if isinstance(value, tuple):
        for each in value:
            _charge(each, times, spend)
    elif isinstance(value, frozenset):
        codes = Counter(map(hash, value))
        for each in value:
            _charge(each, times * codes[hash(each)], spend)
    elif is_dataclass(value):
        for each in fields(value):
            _charge(getattr(value, each.name), times, spend)
