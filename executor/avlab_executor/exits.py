"""Why a worker died: told apart from its wait status, its CPU time, its memory group and what the host asked for."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from avlab.core.units import size
from avlab.remote.limits import Limits
from avlab_executor.sandbox.profile import GVISOR, NAMESPACES

# The kernel checks the limit on whole clock ticks: beside busy neighbours, that is more than what was used.
_CPU_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker's end. reason: oom, signal, cpu, wall, seccomp, output, exit or cancelled; text says it to a person.

    status: as os.waitpid gives it; None if the zygote itself ended. cpu_seconds, max_rss (bytes): what the worker used.
    """

    reason: str
    text: str
    status: int | None = None
    cpu_seconds: float = 0.0
    max_rss: int = 0


def explain(
    status: int,
    cpu_seconds: float,
    max_rss: int,
    limits: Limits,
    *,
    tier: str = "",
    out_of_memory: bool = False,
    asked: tuple[str, str] | None = None,
) -> Exit:
    """The Exit for a wait status. asked: reason and text of the host's own kill, if there was one before the end."""
    reason, text = _reason(status, cpu_seconds, limits, out_of_memory, asked)
    if os.WIFSIGNALED(status) and reason == "signal" and (reason, text) != asked:
        text += _doubt(tier, os.WTERMSIG(status))
    return Exit(reason, text, status, cpu_seconds, max_rss)


def asked_to_die(reason: str, limits: Limits) -> tuple[str, str]:
    """Reason and text of a kill by the host."""
    texts = {
        "signal": "killed by SIGKILL",
        "wall": "wall-clock limit reached",
        "cancelled": "stopped on request",
        "oom": _memory(limits),
        "cpu": _cpu(limits),
        "output": "output limit reached" if limits.output is None else f"output limit of {size(limits.output)} reached",
        "seccomp": "a forbidden system call",
        "exit": "ended on request",
    }
    return reason, texts.get(reason, reason)


def _reason(
    status: int, used: float, limits: Limits, out_of_memory: bool, asked: tuple[str, str] | None
) -> tuple[str, str]:
    if os.WIFEXITED(status):
        return "exit", f"exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        if out_of_memory:
            return "oom", _memory(limits)
        if asked:
            return asked
    if number == signal.SIGXCPU or (
        number == signal.SIGKILL and limits.cpu_seconds and used >= limits.cpu_seconds * _CPU_SHARE
    ):
        return "cpu", _cpu(limits)
    if number == signal.SIGSYS:
        return "seccomp", "killed for a system call that no worker may make (SIGSYS)"
    return "signal", f"killed by {signal_name(number)}"


def _doubt(tier: str, number: int) -> str:
    """What else a signal may have been, where that cannot be told apart."""
    if tier == GVISOR:
        return f", or an exit with code {128 + number}: runsc tells both alike"
    if tier == NAMESPACES and number == signal.SIGSEGV:
        # The first process of a namespace is deaf to signals of its own: the C library then executes what it may not.
        return ", or by its own abort(): in this tier both end alike"
    return ""


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory(limits: Limits) -> str:
    return f"memory limit of {size(limits.memory)} reached" if limits.memory else "the system ran out of memory"


def _cpu(limits: Limits) -> str:
    return f"CPU limit of {limits.cpu_seconds:g} s reached" if limits.cpu_seconds else "CPU limit reached"
