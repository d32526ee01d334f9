"""What installed packages add to avlab, by entry point: read once, because it takes 10 ms to look through a hundred packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points

_all = cache(entry_points)


def points(group: str) -> EntryPoints:
    """The entry points of a group, as far as installed when any were first asked for."""
    return _all().select(group=group)
