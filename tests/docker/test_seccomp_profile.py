"""docker/seccomp.json: allows what makes a sandbox inside a container, and nothing that the engine's default refuses besides."""

import json
import runpy

import pytest
from avlab_executor.container.options import profile
from conftest import IMAGE, ROOT, docker

SCRIPT = runpy.run_path(str(ROOT / "docker/seccomp.py"))
DANGEROUS = {
    "add_key",
    "bpf",
    "delete_module",
    "finit_module",
    "init_module",
    "iopl",
    "kexec_load",
    "keyctl",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "process_vm_readv",
    "process_vm_writev",
    "quotactl",
    "reboot",
    "request_key",
    "settimeofday",
    "swapon",
    "syslog",
    "userfaultfd",
}
# Numbers on x86-64 and on AArch64 are the same for newer calls only; these are asked by name where Python has one.
TRY = """
import ctypes, errno, json, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
calls = {"bpf": 321 if x86 else 280, "io_uring_setup": 425, "keyctl": 250 if x86 else 219, "perf_event_open": 298 if x86 else 241, "fsopen": 430}
found = {}
for name, number in calls.items():
    found[name] = errno.errorcode[ctypes.get_errno()] if libc.syscall(number, 0, 0, 0, 0, 0) < 0 else "success"
CLONE_NEWUSER = 0x10000000
found["unshare"] = errno.errorcode[ctypes.get_errno()] if libc.unshare(CLONE_NEWUSER) < 0 else "success"
print(json.dumps(found))
"""


def allowed() -> set[str]:
    rules = json.loads(profile())["syscalls"]
    return {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def test_what_it_adds_and_leaves_out_is_what_the_script_says() -> None:
    added = {*SCRIPT["ADDED"], *SCRIPT["ADDED_FOR_GVISOR"]}
    assert added <= allowed()
    assert not {*SCRIPT["LEFT_OUT"], *DANGEROUS} & allowed()
    text = json.loads(profile())
    assert text["defaultAction"] == "SCMP_ACT_ERRNO"
    assert text["archMap"] == SCRIPT["ARCHITECTURES"]
    assert json.loads((ROOT / "docker/seccomp.json").read_text()) == text


def test_the_script_extends_any_engines_default() -> None:
    stock = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "io_uring_setup", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        ],
    }
    made = SCRIPT["extended"](stock)
    (rule,) = made["syscalls"]
    assert rule["names"] == sorted({"read", "write", *SCRIPT["ADDED"], *SCRIPT["ADDED_FOR_GVISOR"]})


@pytest.mark.usefixtures("current_image")
@pytest.mark.parametrize("shipped", [False, True])
def test_in_a_container_it_opens_namespaces_and_keeps_the_rest_shut(shipped) -> None:
    options = ["--security-opt", f"seccomp={ROOT / 'docker/seccomp.json'}"] if shipped else []
    run = [
        "run",
        "--rm",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        *options,
        "--entrypoint",
        "python",
    ]
    found = json.loads(docker(*run, IMAGE, "-c", TRY))
    assert found.pop("unshare") == ("success" if shipped else "EPERM")
    io_uring = found.pop("io_uring_setup")
    assert io_uring == "EPERM" or not shipped  # older engines allow it
    assert set(found.values()) == {"EPERM"}
