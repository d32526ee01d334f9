"""A process and all below it, as the host's /proc shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """``pid`` and every process below it that still lives, parents first."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    found += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return found


def cpu_time(family: Iterable[int]) -> float:
    """CPU time that these processes, and those of their children that they have waited for, have used."""
    ticks = 0
    for one in family:
        try:
            with open(f"/proc/{one}/stat") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return ticks / _TICKS
