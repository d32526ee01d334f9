"""The executor in a container, end to end: what it may do, what it says of itself, what runs in it."""

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import IMAGE, docker, named
from container_objects import Dim, Prober

import avlab
from avlab.core.errors import LimitUnsupported

pytestmark = pytest.mark.usefixtures("current_image")

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def server_of(url: str) -> psutil.Process:
    """The server's process in a container, below its init."""
    init = psutil.Process(int(docker("inspect", "-f", "{{.State.Pid}}", named(url))))
    (server,) = init.children()
    return server


def inside(url: str, *words: str) -> str:
    return docker("exec", named(url), *words)


def test_the_tier_is_the_one_that_the_container_allows(contained) -> None:
    wanted = contained.removeprefix("docker:").partition("-")[0]
    with avlab.connect(contained) as executor:
        about = executor.describe()
        with executor.open(Prober()) as session:
            assert session.tier == about.tier == wanted
    reasons = {tier.name: tier.reason for tier in about.tiers}
    if wanted == "landlock":
        assert "unshare" in reasons["namespaces"]
    if wanted == "namespaces":
        assert "masks /proc: `avlab executor up --min-tier gvisor`" in reasons["gvisor"]


def test_a_real_video_goes_through_it_and_keeps_its_sound(contained) -> None:
    source = avlab.FileSource(os.environ["AVLAB_VIDEO"])
    node = avlab.RemoteObjectExecutionNode(Dim(), avlab.RemoteExecutorConfig.from_url(contained))
    collect = avlab.Collect()
    (source >> node >> collect).run()
    pictures = [item for item in collect.items if item.track == "video"]
    assert len(pictures) > 10
    assert {item.track for item in collect.items} == {"video", "audio"}


def test_user_code_finds_neither_the_token_nor_another_user(contained) -> None:
    with avlab.connect(contained) as executor, executor.open(Prober()) as session:
        for path in ("/run/avlab/token", "/etc/passwd", "/etc/hostname", "/proc/kcore"):
            assert session.call("read", path) in ("PermissionError", "FileNotFoundError")
        assert session.call("uid") == 10001


def test_all_that_user_code_may_write_is_bounded(contained) -> None:
    with avlab.connect(contained) as executor:
        if executor.describe().tier == "landlock":  # it watches, and says that it cannot bound exactly
            with pytest.raises(LimitUnsupported):
                executor.open(Prober(), scratch="1M")
            return
        with executor.open(Prober(), scratch="1M") as session:
            for folder in ("/tmp", "."):
                assert session.call("fill", folder, 64 << 20) == "ENOSPC"


def test_the_server_has_no_rights_and_a_root_that_nobody_writes(contained) -> None:
    lines = Path(f"/proc/{server_of(contained).pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert [int(status[name], 16) for name in SETS] == [0] * 5
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert set(status["Uid"].split()) == {"10001"}
    for path in ("/file", "/opt/avlab/file", "/etc/file", "/usr/share/avlab/file"):
        touched = subprocess.run(["docker", "exec", named(contained), "touch", path], capture_output=True, text=True)
        assert touched.returncode, path
    root = next(line for line in inside(contained, "cat", "/proc/mounts").splitlines() if line.split()[1] == "/")
    assert "ro" in root.split()[3].split(",")


def test_it_is_reached_from_this_machine_alone_and_gives_no_secret_away(contained) -> None:
    about = docker("inspect", named(contained))
    settings = json.loads(about)[0]
    published = settings["NetworkSettings"]["Ports"]
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings} == {"127.0.0.1"}
    assert [(mount["Type"], mount["Destination"]) for mount in settings["Mounts"]] == [("volume", "/var/cache/avlab")]
    token = inside(contained, "cat", "/run/avlab/token")
    assert len(token) > 40
    assert token not in about + docker("logs", named(contained))


def test_it_is_healthy_while_its_server_answers(contained) -> None:
    container = named(contained)
    check = json.loads(docker("inspect", container))[0]["Config"]["Healthcheck"]["Test"]
    assert check == ["CMD", "avlab", "executor", "health"]
    assert inside(contained, *check[1:]) == "serving\n"
    server = server_of(contained)
    server.suspend()
    try:
        frozen = subprocess.run(["docker", "exec", container, *check[1:]], capture_output=True, text=True)
    finally:
        server.resume()
    assert frozen.returncode
    assert "no executor answers" in frozen.stderr


def test_no_file_of_the_image_gives_rights() -> None:
    find = "find / -xdev ( -perm /6000 -type f ) -o ( -perm -0002 -type f )"
    found = docker("run", "--rm", "--user", "0", "--entrypoint", "find", IMAGE, *find.split()[1:])
    assert found == ""
    capabilities = "import os; [print(p) for r, _, fs in os.walk('/usr') for f in fs if (p := os.path.join(r, f)) and not os.path.islink(p) and 'security.capability' in os.listxattr(p)]"
    assert docker("run", "--rm", "--user", "0", "--entrypoint", "python", IMAGE, "-c", capabilities) == ""


def test_the_bill_of_materials_names_every_package() -> None:
    names = "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    installed = docker("run", "--rm", "--entrypoint", "python", IMAGE, "-c", names).split()
    sbom = json.loads(docker("run", "--rm", "--entrypoint", "cat", IMAGE, "/usr/share/avlab/sbom/python.cdx.json"))
    assert sbom["bomFormat"] == "CycloneDX"
    assert sorted(f"{part['name']}=={part['version']}" for part in sbom["components"]) == installed
    assert any(part.startswith("av==") for part in installed)
    debian = docker("run", "--rm", "--entrypoint", "cat", IMAGE, "/usr/share/avlab/sbom/debian.tsv").splitlines()
    packages = docker("run", "--rm", "--entrypoint", "dpkg-query", IMAGE, "-W", "-f", "${Package}\t${Version}\n")
    assert ["\t".join(line.split("\t")[:2]) for line in debian] == packages.splitlines()
