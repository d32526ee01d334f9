"""Callers without root: the same tiers, by way of user namespaces; also where a container engine masks /proc."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_host import EVERY_TIER, HERE

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def interpreter():
    """One of this minor version that other users may run: a virtual environment in root's home is closed to them."""
    if os.geteuid() != 0:
        return sys.executable
    minor = f"python3.{sys.version_info.minor}"
    for folder in ("/usr/bin", "/usr/local/bin"):
        if os.access(f"{folder}/{minor}", os.X_OK):
            return f"{folder}/{minor}"
    pytest.fail(f"no system-wide {minor} to run as another user: install it")


def run(interpreter: str, *arguments: str) -> dict:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join([packages, str(CHECKOUT), str(CHECKOUT / "executor")]),
    }
    done = subprocess.run(
        [interpreter, f"{HERE}/ordinary_user.py", *arguments],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("tier", EVERY_TIER)
def test_an_ordinary_users_workers_are_locked_too(interpreter, tier, tmp_path):
    result = run(interpreter, tier, str(tmp_path / "secret"))
    assert result["wrong"] == []
    assert result["everyday"]["result"]["frames"] == 5
    assert result["alone"] is (tier != "landlock")


def test_namespaces_where_proc_is_masked(interpreter, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("masking /proc needs root: run the suite as root")
    result = run(interpreter, "namespaces", str(tmp_path / "secret"), "mask")
    assert result["wrong"] == []
    assert result["layers"]["/proc"] is False
    assert result["everyday"]["result"]["frames"] == 5
