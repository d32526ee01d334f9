"""Every attempt of tests/sandbox, from inside a worker in a container: in a stock one, and in one with the shipped profile."""

import json

import docker
import pytest
from avlab_executor.container.options import Options
from conftest import ROOT
from sandbox_attempts import ATTEMPTS

pytestmark = pytest.mark.usefixtures("current_image")

# Where a container answers before the tier does: its root is read-only, Docker lays /dev/null over /proc/keys, and where Docker
# masks parts of /proc the namespaces tier can mount none.
ELSEWISE = {
    "landlock": {
        "read /proc/keys": "success: b''",
        "write /sys": "EROFS",
        "create a file in /var/tmp": "EROFS",
    },
    "namespaces": {
        "read the environment of process 1": "ENOENT",
        "read /proc/kallsyms": "ENOENT",
        "read /proc/sys": "ENOENT",
        "write /proc/sys/kernel/core_pattern": "ENOENT",
        "write /proc/self/oom_score_adj": "ENOENT",
        "open the inbox again for writing": "ENOENT",
    },
    "gvisor": {},
}


def outcomes(tier: str) -> dict[str, str]:
    """What each attempt gets in a container that is run as the executor's is, with the tests mounted."""
    options = Options(seccomp=tier != "landlock", tier=tier)
    host = options.host() | {"Binds": [f"{ROOT / 'tests'}:/tests:ro"], "PortBindings": {}}
    client = docker.from_env()
    entrypoint = ["python", "/tests/docker/attempts_inside.py"]
    given = options.container() | {"entrypoint": entrypoint, "command": [tier], "labels": {}}
    made = client.containers.get(client.api.create_container(host_config=host, **given)["Id"])
    try:
        made.start()
        assert made.wait()["StatusCode"] == 0, made.logs()
        return json.loads(made.logs(stderr=False))
    finally:
        made.remove(force=True)
        client.close()


@pytest.mark.parametrize("tier", ["landlock", "namespaces", "gvisor"])
def test_no_attempt_succeeds(tier) -> None:
    found = outcomes(tier)
    assert len(found) == len(ATTEMPTS) >= 100
    expected = {each.name: ELSEWISE[tier].get(each.name, each.expected[tier]) for each in ATTEMPTS}
    unexpected = {name: (found[name], words) for name, words in expected.items() if found[name] not in words.split("|")}
    assert unexpected == {}
