"""docker/compose.yaml, started as an operator would: it serves a team as `avlab executor up` serves one person."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from avlab_executor.container.options import USER, Options
from conftest import ROOT, docker
from container_objects import Prober

import avlab
from avlab.core.errors import ConnectError, Denied

pytestmark = pytest.mark.usefixtures("current_image")

TOKENS = {"alice": secrets.token_urlsafe(32), "bob": secrets.token_urlsafe(32)}
_COMPOSE = (
    ["docker", "compose"]
    if not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    else ["docker-compose"]
)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str]]:
    """Address, authority and container of a running composition, whose files lie in a folder of its own."""
    folder = tmp_path_factory.mktemp("team")
    for name in ("compose.yaml", "seccomp.json"):
        shutil.copyfile(ROOT / "docker" / name, folder / name)
    hidden = folder / "secrets"
    hidden.mkdir()
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=executor"
    files = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(hidden / "tls.key"),
        "-out",
        str(hidden / "tls.crt"),
    ]
    subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
    (hidden / "tokens").write_text("".join(f"{tenant} {token}\n" for tenant, token in TOKENS.items()))
    for path in (hidden, *hidden.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)  # the folder above is closed to others
    environment = os.environ | {"AVLAB_IMAGE": Options().image, "AVLAB_ADDRESS": "127.0.0.1", "AVLAB_PORT": "0"}

    def compose(*words: str) -> str:
        command = [*_COMPOSE, "--project-name", f"avlab-{os.getpid()}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment).stdout

    try:
        compose("up", "--detach")
        container = compose("ps", "--quiet").strip()
        with subprocess.Popen(["docker", "logs", "--follow", container], stdout=subprocess.PIPE, text=True) as logs:
            assert next(line for line in logs.stdout if line.startswith("serving "))
            logs.terminate()
        yield f"grpcs://{compose('port', 'executor', '7411').strip()}", hidden / "tls.crt", container
    finally:
        compose("down", "--volumes")


def test_each_tenant_is_served_and_nobody_else(team) -> None:
    url, authority, _ = team
    for tenant, token in TOKENS.items():
        with avlab.connect(url, auth=token, tls=str(authority)) as executor, executor.open(Prober()) as session:
            assert session.tier == "namespaces"
            assert session.call("uid") == 10001
            assert executor.status().tenant == tenant
            assert [each.tenant for each in executor.status().sessions] == [tenant]
    with pytest.raises(Denied):
        avlab.connect(url, auth="guess", tls=str(authority))
    with pytest.raises(ConnectError):
        avlab.connect(url.replace("grpcs", "grpc"), auth=None)


def test_it_is_healthy_and_keeps_its_secrets(team) -> None:
    container = team[2]
    assert docker("exec", container, "avlab", "executor", "health") == "serving\n"
    shown = docker("inspect", container) + docker("logs", container)
    assert not any(token in shown for token in TOKENS.values())


def test_it_is_run_as_the_container_of_one_person_is(team) -> None:
    theirs = json.loads(docker("inspect", team[2]))[0]
    host, ours = theirs["HostConfig"], Options().host()
    same = ("Init", "ReadonlyRootfs", "CapDrop", "Tmpfs", "Memory", "MemorySwap", "NanoCpus", "PidsLimit")
    assert {name: host[name] for name in same} == {name: ours[name] for name in same}
    assert not host["Privileged"]
    assert theirs["Config"]["User"] == USER
    (first, second) = sorted(host["SecurityOpt"], key=len)
    assert first == "no-new-privileges"
    assert json.loads(second.partition("=")[2]) == json.loads((ROOT / "docker/seccomp.json").read_text())


def test_it_names_the_image_of_this_version() -> None:
    service = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["executor"]
    assert service["image"] == f"${{AVLAB_IMAGE:-avlab-executor:{version('avlab')}}}"
