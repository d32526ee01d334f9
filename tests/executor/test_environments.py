"""Sessions with packages of their own, in each tier and over gRPC; everything is installed from a folder of wheels."""

import errno
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy
import psutil
import pytest
from environment_objects import Inside
from serving import served, until
from wheelhouse import FOLDER, another_python, make_source, make_wheel

import avlab
from avlab.core.errors import ConfigError, Denied, EnvironmentFailed, VersionMismatch, WorkerDied
from avlab.core.message import Log
from avlab.remote.bundle import pack, pack_source

WORKER_SIDE = """
import os, sys
status = {line.split(':')[0]: line.split()[-1] for line in open('/proc/self/status')}
locked = [status['Seccomp'], status['NoNewPrivs'], status['CapEff']]
"""
NODE = "class Doubling:\n    def process(self, x: int) -> int:\n        return 2 * x\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that no registry has."""
    folder = tmp_path_factory.mktemp("own")
    folder.chmod(0o755)  # the installer has a user of its own
    make_wheel(folder, "impostor", files={"numpy/__init__.py": WORKER_SIDE + "print('numpy', *locked, flush=True)\n"})
    make_wheel(folder, "witness", files={"witness.py": WORKER_SIDE})
    make_wheel(
        folder,
        "more_nodes",
        files={
            "more_nodes.py": NODE,
            "more_nodes-1.0.dist-info/entry_points.txt": "[avlab.nodes]\nDoubling = more_nodes:Doubling\n",
        },
    )
    make_wheel(folder, "needy", requires=["no-such-package>=3"])
    make_source(folder, "unbuilt", "raise SystemExit('this code must not run')\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def configured(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This process's installers know the wheels and nothing else; environments are kept in a folder of this module."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(cache))
        for name in ("UV", "PIP"):
            patch.setenv(f"{name}_NO_INDEX", "1")
        patch.setenv("UV_FIND_LINKS", f"{FOLDER},{own}")
        patch.setenv("PIP_FIND_LINKS", f"{FOLDER} {own}")
        yield cache / "avlab" / "environments"


@pytest.fixture(scope="module")
def local(configured: Path) -> Iterator[avlab.Executor]:
    with avlab.connect() as executor:
        yield executor


@pytest.fixture(params=["namespaces", "landlock"])
def tier(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("tier", ["gvisor", "namespaces", "landlock"])
def test_a_package_is_installed_for_the_session_that_asks(local, tier, configured):
    with local.open(Inside(), tier=tier, pip=["six==1.16.0"]) as session:
        version, file = session.call("module", "six")
        assert session.tier == tier
        assert version == "1.16.0"
        assert file.startswith(str(configured / "kept"))
        assert session.call("write", file) in (errno.EACCES, errno.EROFS)
        assert session.call("write", str(Path(file).with_name("new.py"))) in (errno.EACCES, errno.EROFS)
        assert session.call("module", "numpy")[0] == numpy.__version__  # what it does not bring is the executor's
    with local.open(Inside(), tier=tier) as session:
        assert not session.call("module", "six")[1].startswith(str(configured))


def test_a_compiled_package(local, tier, configured):
    with local.open(Inside(), tier=tier, pip=["MarkupSafe==2.1.5"]) as session:
        assert session.call("attribute", "markupsafe._speedups", "__file__").startswith(str(configured / "kept"))


@pytest.mark.parametrize("tier", ["gvisor", "namespaces", "landlock"])
def test_another_numpy_is_the_one_that_everything_uses(local, tier, configured):
    assert numpy.__version__ != "2.2.6"
    with local.open(Inside(), tier=tier, pip=["numpy==2.2.6"]) as session, local.open(Inside(), tier=tier) as beside:
        version, file = session.call("module", "numpy")
        assert (version, file.startswith(str(configured / "kept"))) == ("2.2.6", True)
        assert session.call("files", "av")[0].startswith(sys.prefix)
        assert {file.startswith(str(configured / "kept")) for file in session.call("files", "numpy")} == {True}
        assert session.call("numbers", 5).tolist() == [0, 1, 2, 3, 4]
        assert beside.call("module", "numpy")[0] == numpy.__version__


def test_what_hides_numpy_is_imported_in_a_locked_worker_only(local, tier):
    with local.open(Inside(), tier=tier, pip=["witness"]) as session:
        assert session.call("attribute", "witness", "locked") == ["2", "1", "0" * 16]
    for _ in range(2):  # it is no numpy that a worker can live with: each dies of it, and nothing else does
        with pytest.raises(WorkerDied, match=f"numpy 2 1 {'0' * 16}"):
            local.open(Inside(), tier=tier, pip=["impostor"])


def test_progress_is_told_while_it_installs(local, configured):
    logs: list[Log] = []
    with local.open(Inside(), pip=["idna==3.10", "six==1.16.0"], on_log=logs.append):
        text = b"".join(log.data for log in logs).decode()
    assert text.startswith("installing idna==3.10, six==1.16.0\n")
    assert "idna" in text.partition("\n")[2]
    logs.clear()
    with local.open(Inside(), pip=["six==1.16.0", "IDNA == 3.10"], on_log=logs.append):
        assert not logs  # it is there


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        (["no-such-package"], "no-such-package"),
        (["six==1.16.0", "six==1.17.0"], "unsatisfiable"),
        (["needy"], "no-such-package"),
        (["protobuf<4"], "protobuf>=6.31"),  # avlab itself needs another
        (["six==1.16.0; python_version < '3'", "six==9"], "six==9"),
        (["unbuilt"], "wheel"),  # only its source is there
    ],
)
def test_what_cannot_be_installed_is_told_with_the_installers_last_lines(local, requirements, words, configured):
    with pytest.raises(EnvironmentFailed) as caught:
        local.open(Inside(), pip=requirements)
    assert "cannot be installed" in str(caught.value)
    assert words in str(caught.value)
    assert not list((configured / "building").iterdir())


def test_hashes_are_checked(local):
    (wheel,) = FOLDER.glob("six-1.16.0-*")
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with local.open(Inside(), pip=[f"six==1.16.0 --hash=sha256:{right}"]) as session:
        assert session.call("module", "six")[0] == "1.16.0"
    with pytest.raises(EnvironmentFailed, match=r"(?i)hash"):
        local.open(Inside(), pip=[f"six==1.16.0 --hash=sha256:{'0' * 64}"])


def test_nodes_of_an_installed_package_can_be_opened(local):
    with local.open("Doubling", pip=["more-nodes"]) as session:
        assert list(session.stream([1, 2])) == [2, 4]


def test_an_import_that_is_missing_here_is_left_to_the_environment():
    def use() -> str:
        import witness_of_nothing  # noqa: F401

        return ""

    with pytest.raises(avlab.AvlabError, match="witness_of_nothing"):
        pack(use)
    assert "witness_of_nothing" in pack(use, missing_ok=True).missing


def test_a_config_and_one_call(local, configured):
    with avlab.connect(pip=["six==1.16.0"]) as executor:
        assert executor.execute(Inside(), "module", "six")[0] == "1.16.0"
        with executor.open(Inside(), pip=[]) as session:
            assert not session.call("module", "six")[1].startswith(str(configured))


@avlab.node
def number(_: object) -> Iterator[int]:
    """A source."""
    yield 1


class Version(avlab.Node):
    """Tells six's version."""

    def process(self, x: int) -> str:
        import six

        return str(six.__version__)


def test_a_node_with_packages_of_its_own():
    config = avlab.RemoteExecutorConfig(pip=["six==1.16.0"])
    found = avlab.Collect()
    avlab.Pipeline([[1], Version().on(config), found]).run(progress=False)
    assert found.values == ["1.16.0"]


def test_matplotlib_is_imported_lazily_and_knows_its_fonts(local, tier):
    with local.open(Inside(), tier=tier, pip=["six==1.16.0"]) as session:
        said, size = session.call("plot")
    assert size > 1000
    assert not [line for line in said if "cache" in line or "writable" in line]


# Other Pythons.


def test_another_python(local, configured, monkeypatch):
    other = another_python()
    python = other.name.removeprefix("python") if other else "3.11"
    if other is not None:
        monkeypatch.setenv("PATH", str(other.parent), prepend=os.pathsep)
    text = "import sys, numpy, six\nclass A:\n    def look(self):\n        return [sys.version_info[1], six.__version__]\n    def numbers(self):\n        return numpy.arange(3)\n"
    packed = pack_source(text, "<cell>", "A", arguments=((), {}))
    for tier in ("namespaces", "landlock"):
        with local.open(packed, pip=["six==1.16.0"], python=python, tier=tier) as session:
            assert session.call("look") == [int(python.partition(".")[2]), "1.16.0"]
            assert session.call("numbers").tolist() == [0, 1, 2]
    with local.open("Resize", {"width": 64}, python=python) as session:
        assert session.consumes == ["av.video.frame.VideoFrame"]
    assert python in local.describe().pythons


def test_a_python_that_is_not_there(local):
    with pytest.raises(EnvironmentFailed, match=r"no Python 3\.99.*it has 3\.\d"):
        local.open(pack_source("def f(): return 1", "<cell>", "f"), python="3.99")
    with pytest.raises(VersionMismatch, match="--remote-imports"):
        local.open(Inside(), python="3.99")
    with pytest.raises(ConfigError, match="minor version"):
        local.open(Inside(), python="three")


# Served.


@pytest.fixture(scope="module")
def cautious() -> Iterator[str]:
    with served() as (url, _):
        yield url


@pytest.fixture(scope="module")
def generous(configured) -> Iterator[str]:
    with served("--pip-policy", "wheels", "--pip-allow", "six,needy") as (url, _):
        yield url


def test_a_server_installs_nothing_unless_it_is_told_to(cautious):
    with avlab.connect(cautious) as executor:
        assert executor.describe().environments == "off"
        with pytest.raises(Denied, match="--pip-policy"):
            executor.open(Inside(), pip=["six"])
        with pytest.raises(Denied, match="--pip-policy"):
            executor.execute(Inside(), "module", "six", pip=["six"])


def test_a_server_installs_what_it_may_and_tells_its_progress(generous):
    logs: list[Log] = []
    with avlab.connect(generous) as executor:
        assert executor.describe().environments == "wheels"
        with executor.open(Inside(), pip=["six<1.17"], on_log=logs.append) as session:
            assert session.call("module", "six")[0] == "1.16.0"
        assert b"installing six<1.17" in b"".join(log.data for log in logs)
        assert executor.execute(Inside(), "module", "six", pip=["six==1.16.0"])[0] == "1.16.0"
        with pytest.raises(Denied, match=r"idna.*only needy, six"):
            executor.open(Inside(), pip=["idna"])
        with pytest.raises(EnvironmentFailed, match="no-such-package"):
            executor.open(Inside(), pip=["needy"])


@pytest.mark.parametrize("where", ["embedded", "served"])
def test_who_gives_up_while_it_installs_stops_it(where, monkeypatch):
    class GivenUpError(Exception):
        pass

    def give_up(log: Log) -> None:
        raise GivenUpError(log.data)

    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as stack:  # an index that never answers
        monkeypatch.delenv("UV_NO_INDEX")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        url, process = "local:", psutil.Process()
        if where == "served":
            url, served_by = stack.enter_context(served("--pip-policy", "wheels"))
            process = psutil.Process(served_by.pid)
        executor = stack.enter_context(avlab.connect(url))
        executor.describe()
        with pytest.raises(GivenUpError, match="installing never-answered"):
            executor.open(Inside(), pip=["never-answered"], on_log=give_up)

        def installers() -> list[str]:
            lines = []
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # it has just ended
                    lines.append(" ".join(child.cmdline()))
            return [line for line in lines if "never-answered" in line or "--only-binary" in line]

        assert until(lambda: not installers(), 5)


def test_a_server_does_not_trust_its_callers_check(generous):
    packed = pack(Inside())
    packed.manifest.requirements = ("--find-links=/", "six")
    with avlab.connect(generous) as executor, pytest.raises(ConfigError, match="options, addresses and paths"):
        executor.open(packed)


def test_in_memory_there_are_no_environments():
    with avlab.connect("inproc:") as executor, pytest.raises(ConfigError, match="local:"):
        executor.open(Inside(), pip=["six"])


def test_from_the_ordinary_registry_or_why_not(tmp_path, monkeypatch):
    for name in ("UV_NO_INDEX", "PIP_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with avlab.connect() as executor:
        try:
            session = executor.open(Inside(), pip=["six==1.16.0"])
        except EnvironmentFailed as error:  # without a network
            assert "six" in str(error)
            return
        with session:
            assert session.call("module", "six")[0] == "1.16.0"
