"""Starting, finding, using and ending the executor's container, and what is said when that is not possible."""

import gc
import os
import socket
import sys

import pytest
from avlab_executor.container.engine import engine
from avlab_executor.container.options import Options, container_name
from conftest import docker, named, up
from container_objects import Prober

import avlab
from avlab.cli import main
from avlab.core.errors import ConfigError, ConnectError, TierUnavailable

pytestmark = pytest.mark.usefixtures("current_image")

NAME = f"life-{os.getpid()}"
URL = f"docker:{NAME}"


@pytest.fixture
def name():
    """A name whose container is gone after the test."""
    yield NAME
    with engine() as made:
        made.down(NAME)


def command(*words: str) -> int:
    return main(["executor", *words])


def identity(url: str) -> str:
    return docker("inspect", "-f", "{{.Id}}", named(url))


def test_up_status_logs_down(name, capsys) -> None:
    assert command("up", name, "--memory", "1G", "--cpus", "1", "--sessions", "3") == 0
    assert capsys.readouterr().out.startswith(f"serving docker:{name}, isolation tier namespaces\n")
    assert command("up", name) == 0
    assert capsys.readouterr().out.startswith("already serving")
    assert command("status", URL) == 0
    assert "sessions 0 of 3" in capsys.readouterr().out
    assert command("logs", name) == 0
    assert "serving grpcs://0.0.0.0:7411" in capsys.readouterr().out
    limits = docker(
        "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}}", named(URL)
    )
    assert limits.split() == [str(1 << 30), str(1 << 30), str(10**9)]
    assert command("down", name) == 0
    assert command("down", name) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"removed container {named(URL)}",
        f"there is no container {named(URL)}",
    ]


def test_asking_after_it_starts_nothing(name, capsys) -> None:
    assert command("status", URL) == 2
    assert f"`avlab executor up {name}` starts it" in capsys.readouterr().err
    assert command("logs", name) == 2
    assert "avlab executor up" in capsys.readouterr().err
    with engine() as made:
        assert made.find(name) is None


def test_connecting_starts_it_and_all_callers_share_it(name) -> None:
    with avlab.connect(URL) as first, avlab.connect(avlab.RemoteExecutorConfig.from_url(URL)) as second:
        assert first.url == second.url == first.describe().url == URL
        with first.open(Prober()) as one, second.open(Prober()) as another:
            assert one.call("uid") == another.call("uid") == 10001
            assert second.describe().sessions == 2
    with engine() as made:
        assert made.running(name) is not None
        assert Options.from_label(made.find(name).labels["avlab.executor"]).idle == 300


def test_it_ends_when_idle_and_the_next_use_starts_it_as_it_was(name, capsys) -> None:
    assert command("up", name, "--idle-exit", "3", "--sessions", "5") == 0
    with avlab.connect(URL) as executor:
        before = identity(URL)
        assert docker("wait", named(URL)).strip() == "0"
        with executor.open(Prober()) as session:
            assert session.call("uid") == 10001
            assert executor.describe().capacity == 5
        assert identity(URL) != before


def test_a_container_that_is_killed_is_an_error_for_its_sessions_and_not_for_the_next(name) -> None:
    with avlab.connect(URL, grace=2) as executor:
        with executor.open(Prober()) as session:
            assert session.call("uid") == 10001
            docker("kill", named(URL))
            with pytest.raises(avlab.AvlabError):
                session.call("uid")
        assert executor.execute(Prober(), "uid") == 10001


def test_a_tier_that_the_container_cannot_reach_is_refused(name) -> None:
    with pytest.raises(ConnectError, match=f"{named(URL)} has ended; it said: .*namespaces"), engine() as made:
        made.start(name, Options(tier="namespaces", seccomp=False))
    with up("weak", seccomp=False) as url, avlab.connect(url, tier="namespaces") as executor:  # noqa: SIM117
        with pytest.raises(TierUnavailable, match="namespaces"):
            executor.open(Prober())


def test_an_image_that_is_not_here(name, capsys) -> None:
    assert command("up", name, "--image", "avlab-executor:missing") == 2
    assert "the image avlab-executor:missing is not on this machine: build it" in capsys.readouterr().err


def test_a_port_that_is_taken(name, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("up", name, "--port", str(port)) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err
    assert command("up", name, "--port", str(port)) == 0
    assert f"127.0.0.1:{port}" in docker("port", named(URL))


def test_another_container_of_that_name_is_left_alone(name, capsys) -> None:
    docker("create", "--name", container_name(name), Options().image)
    try:
        assert command("up", name) == 2
        assert "that is no executor" in capsys.readouterr().err
    finally:
        docker("rm", container_name(name))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_engine(monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(ConnectError, match=r"no Docker engine answers .*: start it, set DOCKER_HOST"):
        avlab.connect("docker:")
    gc.collect()  # docker's own socket, which it forgets when it cannot connect


def test_no_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ConfigError, match=r"pip install 'avlab\[docker\]'"):
        avlab.connect("docker:")


@pytest.mark.parametrize("given", [{"auth": "token"}, {"tls": True}])
def test_the_container_makes_its_own_secrets(given) -> None:
    with pytest.raises(ConfigError, match="docker: takes no auth= and tls="):
        avlab.connect("docker:", **given)


@pytest.mark.parametrize("url", ["docker:a b", "docker:../x", "docker://host", "docker:-x", "docker:" + "x" * 60])
def test_addresses_that_name_no_container(url) -> None:
    with pytest.raises(ConfigError, match="docker:"):
        avlab.connect(url)


@pytest.mark.parametrize("wrong", [{"port": -1}, {"cpus": 0}, {"pids": 0}, {"memory": "much"}, {"idle": 0}, {"pip_ca": "here.pem"}])
def test_options_that_cannot_be(wrong) -> None:
    with pytest.raises(ConfigError):
        Options(**wrong)


def test_options_of_another_version_are_taken_as_far_as_they_are_known() -> None:
    label = Options(sessions=7).label().replace('"pids"', '"from a later version"')
    assert Options.from_label(label) == Options(sessions=7)


@pytest.mark.parametrize("index", ["https://me:secret@host/simple", "file:///etc", "https://host/a b"])
def test_an_index_with_a_secret_or_no_index_is_refused_and_not_shown(index) -> None:
    with pytest.raises(ConfigError, match="without credentials") as caught:
        Options(pip_index=index)
    assert index not in str(caught.value)


def test_containers_on_demand_are_told_an_index_by_variables(monkeypatch) -> None:
    monkeypatch.setenv("AVLAB_PIP_INDEX", "https://host/simple")
    monkeypatch.setenv("AVLAB_PIP_CA", "/ca.pem")
    options = Options(tier="landlock")
    assert options.container()["environment"]["PIP_INDEX_URL"] == "https://host/simple"
    assert options.host()["Mounts"][0]["Source"] == "/ca.pem"
    assert Options.from_label(options.label()) == options


def test_nothing_of_this_machines_installer_goes_in_by_itself(monkeypatch) -> None:
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/of/this/machine")
    options = Options()
    assert "/of/this/machine" not in f"{options.container()} {options.host()}"
