"""Write docker/seccomp.json: the profile with which an executor in a container can use the tiers `namespaces` and `gvisor`.

    python docker/seccomp.py IMAGE > docker/seccomp.json        (as root, beside the engine; any image that has sleep)

It is what this machine's engine allows a container without capabilities, as the engine itself hands it to its runtime, plus the
calls with which avlab makes a sandbox inside, less what no executor needs. A user namespace without capabilities outside is all
that these calls give: the kernel still refuses them to who is not the owner of one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# avlab_executor.sandbox.kernel: new namespaces, a root of its own, read-only mounts.
ADDED = ("mount", "mount_setattr", "pivot_root", "setns", "umount2", "unshare")
# runsc, which the tier gvisor starts in such a sandbox, makes its own with clone and chroot.
ADDED_FOR_GVISOR = ("chroot", "clone")
# Newer engines leave io_uring out of their default, because of its record.
LEFT_OUT = ("io_uring_enter", "io_uring_register", "io_uring_setup")
# No 32-bit and x32 calls: what runs in the image is 64-bit.
ARCHITECTURES = [
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
]
STATE = Path("/run")


def default(image: str) -> dict[str, Any]:
    """The engine's own profile for a container without capabilities."""
    stock = ["docker", "run", "--detach", "--rm", "--cap-drop", "ALL", "--entrypoint", "sleep", image, "60"]
    container = subprocess.run(stock, check=True, capture_output=True, text=True).stdout.strip()
    try:
        path = next(path for path in STATE.rglob("config.json") if container in path.parts)
        return json.loads(path.read_text())["linux"]["seccomp"]
    finally:
        subprocess.run(["docker", "kill", container], check=True, capture_output=True)


def extended(profile: dict[str, Any]) -> dict[str, Any]:
    """The engine's profile with what avlab needs."""
    rules = [dict(rule) for rule in profile["syscalls"] if rule["names"] != ["clone"]]
    plain = max(rules, key=lambda rule: len(rule["names"]))
    assert plain["action"] == "SCMP_ACT_ALLOW" and not plain.get("args")
    plain["names"] = sorted({*plain["names"], *ADDED, *ADDED_FOR_GVISOR} - {*LEFT_OUT})
    return {"defaultAction": profile["defaultAction"], "archMap": ARCHITECTURES, "syscalls": rules}


if __name__ == "__main__":
    print(json.dumps(extended(default(sys.argv[1])), indent=1))
