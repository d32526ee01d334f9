"""``%%remote --pip`` in a kernel: packages, progress under the cell, failures, the stop button; from a folder of wheels."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parent.parent / "executor"))
from wheelhouse import FOLDER, another_python, make_wheel

CELL = "%%remote {options}\nclass Uses:\n    def version(self):\n        import six\n        return six.__version__\n"


@pytest.fixture(scope="module", autouse=True)
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Before the kernel starts: its installers know the wheels and nothing else."""
    own = tmp_path_factory.mktemp("own")
    own.chmod(0o755)
    make_wheel(own, "only_there", files={"only_there.py": "ANSWER = 42\n"})
    other = another_python()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("UV_NO_INDEX", "1")
        patch.setenv("UV_FIND_LINKS", f"{FOLDER},{own}")
        patch.setenv("UV_HTTP_TIMEOUT", "60")
        if other is not None:
            patch.setenv("PATH", str(other.parent), prepend=os.pathsep)
        yield


def test_packages_of_a_cell_and_their_installation_below_it(kernel):
    kernel.run(CELL.format(options='--pip "six==1.16.0" --name uses'), ok=True)
    result = kernel.run("Uses().version()", ok=True)
    assert result.result == "'1.16.0'"
    assert result.text("stderr").startswith("installing six==1.16.0\n")
    assert not result.stray
    assert kernel.run("Uses().version()", ok=True).text("stderr") == ""
    assert "uses │ installing six==1.16.0" in kernel.run("%avlab logs", ok=True).text()


def test_explain_tells_what_would_be_installed(kernel):
    cell = CELL.format(options='--explain --pip "six==1.16.0" "idna>=3"')
    assert "installed there: idna>=3, six==1.16.0" in kernel.run(cell, ok=True).text()


def test_what_cannot_be_installed_is_shown(kernel):
    kernel.run(CELL.format(options="--pip no-such-package"), ok=True)
    result = kernel.run("Uses().version()")
    assert result.error == "EnvironmentFailed"
    assert "no-such-package cannot be installed" in result.traceback
    assert "No solution found" in result.traceback


def test_a_cell_whose_imports_exist_only_there(kernel):
    kernel.run(
        "%%remote --remote-imports --pip only-there\nimport only_there\ndef answer(): return only_there.ANSWER", ok=True
    )
    assert kernel.run("answer()", ok=True).result == "42"


def test_a_cell_for_another_python(kernel):
    other = another_python()
    python = other.name.removeprefix("python") if other else f"3.{sys.version_info.minor}"
    kernel.run(
        f"%%remote --remote-imports --python {python}\nimport sys\ndef minor(): return sys.version_info[1]", ok=True
    )
    assert kernel.run("minor()", ok=True).result == python.partition(".")[2]
    assert f"Python 3.{sys.version_info.minor}" in kernel.run("%avlab doctor", ok=True).result


def test_the_default_executor_with_packages(kernel):
    kernel.run("%avlab connect local: pip=six==1.16.0", ok=True)
    kernel.run(CELL.format(options=""), ok=True)
    assert kernel.run("Uses().version()", ok=True).result == "'1.16.0'"
    kernel.run("%avlab connect local:", ok=True)


@pytest.mark.alone
def test_the_stop_button_ends_an_installation(kernel):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        kernel.run(f"import os; os.environ.pop('UV_NO_INDEX'); os.environ['UV_DEFAULT_INDEX'] = {address!r}", ok=True)
        kernel.run(CELL.format(options="--pip never-answered"), ok=True)
        before = {child.pid for child in psutil.Process(kernel.pid).children(recursive=True)}
        result = kernel.run("Uses().version()", interrupt="installing never-answered")
        assert result.error == "KeyboardInterrupt"
        assert result.after_interrupt < 2.5
        kernel.run("%avlab stop", ok=True)
        left = {child.pid for child in psutil.Process(kernel.pid).children(recursive=True)}
    assert left <= before
    assert kernel.run("1 + 1", ok=True).result == "2"
