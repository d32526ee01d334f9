"""Packages that sessions bring, installed in a container: built there, kept on its volume, found again by the next container."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from avlab_executor.container.engine import engine
from avlab_executor.container.options import CACHE, Options, container_name
from environment_objects import Inside
from wheelhouse import make_wheel

import avlab

pytestmark = pytest.mark.usefixtures("current_image")

NAME = f"packages-{os.getpid()}"


@pytest.fixture(scope="module", params=["landlock", "namespaces"])
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    """Starts a container whose installer finds a folder of wheels, in place of the one that runs; its volume stays."""
    wheels = tmp_path_factory.mktemp("wheels")
    wheels.chmod(0o755)
    make_wheel(wheels, "witness", files={"witness.py": "__version__ = '1.0'\n"})
    options = Options(seccomp=request.param == "namespaces", tier=request.param)
    host = options.host() | {"Binds": [f"{NAME}:{CACHE}", f"{wheels}:/wheels:ro"]}
    given = options.container() | {"environment": {"UV_NO_INDEX": "1", "UV_FIND_LINKS": "/wheels"}}
    client = docker.from_env()

    def restart() -> None:
        with engine() as made:
            made.down(NAME)
        client.api.start(client.api.create_container(name=container_name(NAME), host_config=host, **given))

    try:
        yield restart
    finally:
        with engine() as made:
            made.down(NAME)
        client.volumes.get(NAME).remove()
        client.close()


def test_a_package_is_installed_once_and_kept_for_the_next_container(start) -> None:
    lines = []
    for _ in range(2):
        start()
        told: list[str] = []
        with avlab.connect(f"docker:{NAME}") as executor:
            on_log = lambda log, told=told: told.append(log.data.decode())  # noqa: E731
            with executor.open(Inside(), pip=["witness==1.0"], on_log=on_log) as session:
                version, file = session.call("module", "witness")
                assert version == "1.0"
                assert Path(file).is_relative_to(Path(CACHE) / "kept")
                assert session.call("write", file) != 0
        lines.append("".join(told))
    assert "witness" in lines[0]  # the installer's words
    assert lines[1] == ""
