"""Ending what a process has started, all of it: for keepers, to whom the kernel gives the orphans below them."""

from __future__ import annotations

import os
import signal

from avlab_executor.sandbox import kernel


def adopt_orphans() -> None:
    """From now on processes below this one whose parent ends become its children."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill and wait until no child is left. Children of children become ours in turn: nothing is waited for in good faith."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(children[0], 0)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
