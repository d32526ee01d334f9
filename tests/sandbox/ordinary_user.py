"""Run as a script by an ordinary user: all attempts and everyday code in one tier; prints what did not come out as it must."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

UID = 12345


def main(tier: str, secret: str) -> None:
    from avlab_executor.pool import Pool
    from sandbox_attempts import ATTEMPTS
    from sandbox_host import HERE, Conversation

    from avlab.remote.limits import Limits

    wrong, limits = [], Limits(memory="512M", scratch="8M") if tier != "landlock" else Limits(memory="512M")
    facts = {
        "host": os.getpid(),
        "zygote": os.getppid(),
        "secret": secret,
        "open_folder": "/var/tmp",
        "home": "/home",
        "checkout": str(Path(__file__).parents[2]),
        "host_name": socket.gethostname(),
    }
    with Pool(tier, entry="sandbox_attempts:main", paths=[HERE], preload=()) as pool:
        conversation = Conversation(pool.acquire(limits))
        for attempt in ATTEMPTS:
            outcome = conversation.ask(attempt=attempt.name, facts=facts)["outcome"]
            # In a namespace, process 1 is the worker itself, whose environment is clean; /proc may be absent.
            allowed = {*attempt.expected[tier].split("|")} | ({"EROFS", "ENOENT"} if tier == "namespaces" else set())
            if outcome not in allowed and "process 1" not in attempt.name:
                wrong.append([attempt.name, outcome])
        conversation.close()
    with Pool(tier, entry="sandbox_errands:main", paths=[HERE], preload=()) as pool:
        conversation = Conversation(pool.acquire(limits))
        layers = {layer.name: layer.on for layer in pool.reports[-1].layers}
        everyday = conversation.ask(errand="everyday")
        namespaces = [os.readlink(f"/proc/{who}/ns/user") for who in ("self", conversation.worker.pid)]
        conversation.close()
    print(json.dumps({"wrong": wrong, "everyday": everyday, "layers": layers, "alone": len(set(namespaces)) == 2}))


def become_ordinary(arguments: list[str], mask: bool) -> None:
    """As root: optionally cover a part of /proc, as container engines do; then become the user and start again."""
    from avlab_executor.sandbox import kernel

    if mask:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("/dev/null", "/proc/uptime", None, kernel.MS_BIND)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.execv(sys.executable, [sys.executable, __file__, *arguments])


if __name__ == "__main__":
    if os.geteuid() == 0:
        become_ordinary(sys.argv[1:3], mask="mask" in sys.argv[3:])
    main(*sys.argv[1:3])
