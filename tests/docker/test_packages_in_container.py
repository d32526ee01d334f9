"""Packages that sessions bring, installed in a container: built there, kept on its volume, found again by the next container."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import psutil
import pytest
from avlab_executor.container.engine import engine
from avlab_executor.container.options import CACHE, Options, container_name
from conftest import up
from environment_objects import Inside
from wheelhouse import make_wheel

import avlab
from avlab.core.errors import EnvironmentFailed

pytestmark = pytest.mark.usefixtures("current_image")

NAME = f"packages-{os.getpid()}"
VERSION = f"1.{os.getpid()}"  # the volume of all containers may hold those of earlier runs


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


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL of an index on this machine, as containers reach it, and the file of the authority that vouches for it."""
    with closing(docker.from_env()) as client:
        bridge = client.networks.get("bridge").attrs["Options"]["com.docker.network.bridge.name"]
    host = next(each.address for each in psutil.net_if_addrs()[bridge] if each.family is socket.AF_INET)
    (tmp_path / "simple" / "witness").mkdir(parents=True)
    make_wheel(tmp_path / "simple" / "witness", "witness", VERSION, files={"witness.py": f"__version__ = '{VERSION}'\n"})
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    leaf = f"-subj /CN=index -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:{host} -addext basicConstraints=critical,CA:FALSE"
    for words in ("-subj /CN=authority -keyout ca.key -out ca.crt", f"{leaf} -keyout own.key -out own.crt"):
        subprocess.run(["openssl", *make.split(), *words.split()], cwd=tmp_path, check=True, capture_output=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.crt", tmp_path / "own.key")
    with ThreadingHTTPServer((host, 0), handler) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"https://{host}:{served.server_address[1]}/simple", tmp_path / "ca.crt"
        served.shutdown()
        thread.join()


def test_packages_come_from_the_index_that_it_was_told_and_from_none_that_its_authority_does_not_know(index) -> None:
    url, authority = index
    with (
        up("index", pip_index=url, pip_ca=str(authority)) as address,
        avlab.connect(address) as executor,
        executor.open(Inside(), pip=[f"witness=={VERSION}"], on_log=lambda log: None) as session,
    ):
        assert session.call("module", "witness")[0] == VERSION
    with (
        up("no-ca", pip_index=url) as address,
        avlab.connect(address) as executor,
        pytest.raises(EnvironmentFailed, match=r"(?i)certificate"),
    ):
        executor.open(Inside(), pip=[f"witness<={VERSION}"], on_log=lambda log: None)
