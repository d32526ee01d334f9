"""The host's look at a worker from outside, before any user byte: is it what the tier promises?"""

from __future__ import annotations

import os

from avlab.core.errors import TierUnavailable
from avlab_executor.sandbox import gvisor, namespaces, rlimits, selfprobe
from avlab_executor.sandbox.profile import GVISOR, LANDLOCK, NESTED, PROCESS, Profile, read_status

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_FILTER_MODE = 2


def verify(pid: int, profile: Profile, administrator: bool, answers: selfprobe.Answers) -> None:
    """Raise TierUnavailable, naming every layer that is missing, unless worker ``pid`` is locked as ``profile`` says.

    Raises OSError if it is gone.
    """
    if profile.tier == PROCESS:
        return
    uid = profile.uid if administrator and profile.tier in NESTED else os.geteuid()
    wrong = gvisor.wrong(pid, uid) if profile.tier == GVISOR else _status(pid, profile, uid)
    wrong += selfprobe.failures(profile, answers)
    if profile.tier in NESTED:
        wrong += _namespaces(pid, administrator and profile.tier != GVISOR)
    if wrong:
        raise TierUnavailable(f"worker {pid} is not locked as tier {profile.tier!r} promises: {'; '.join(wrong)}")


def verify_limits(pid: int, wanted: dict[str, int], found: dict[str, int] | None = None) -> None:
    """Raise TierUnavailable unless the limits in force for ``pid`` (``found``: as it says itself) are at most the wanted ones."""
    found = rlimits.of_process(pid) if found is None else found
    loose = [name for name, value in wanted.items() if found.get(name, value + 1) > value]
    if loose:
        raise TierUnavailable(f"worker {pid} has not taken its limits: {', '.join(loose)}")


def _status(pid: int, profile: Profile, expected: int) -> list[str]:
    status = read_status(pid)
    wrong = []
    if status["Dead"]:
        raise ProcessLookupError(f"process {pid} is dead")
    if status["Seccomp"] != _FILTER_MODE:
        wrong.append("no seccomp filter")
    if status["NoNewPrivs"] != 1:
        wrong.append("no_new_privs is off")
    # Nobody but an administrator can empty the bounding set without a user namespace; with no_new_privs it gives nothing.
    sets = _CAPABILITIES if profile.tier == LANDLOCK and os.geteuid() != 0 else (*_CAPABILITIES, "CapBnd")
    wrong += [f"{name} is not empty" for name in sets if status[name]]
    if status["Uid"] != expected:
        wrong.append(f"it runs as uid {status['Uid']} instead of {expected}")
    return wrong


def _namespaces(pid: int, administrator: bool) -> list[str]:
    names = namespaces.NAMES if administrator else (*namespaces.NAMES, "user")
    return [
        f"it shares the {name} namespace of the host"
        for name in names
        if os.stat(f"/proc/{pid}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino
    ]
