"""The installer: uv where there is one, else pip. What it is told, and where it may read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from avlab.core.errors import EnvironmentFailed
from avlab.remote.manifest import cloudpickle_version
from avlab.remote.requirements import Requirement, parse
from avlab_executor.environments import configuration
from avlab_executor.environments.interpreters import Interpreter
from avlab_executor.sandbox.launch import environment

SITE = "site"
"""Folder of an environment that its packages lie in."""
_WORKERS_NEED = ("av", "cloudpickle", "numpy", "protobuf")
_CREDENTIALS = re.compile(r"://[^/\s@]*@")


@dataclass(frozen=True, slots=True)
class Installation:
    """One run of an installer. readable: what it must be able to read, besides the system."""

    command: tuple[str, ...]
    environment: dict[str, str]
    readable: tuple[str, ...]


def needs() -> list[Requirement]:
    """What avlab itself needs in a worker; cloudpickle as it is here, because its pickles are read by the same version only."""
    found = [parse(text) for text in requires("avlab") or () if ";" not in text]
    needed = [each for each in found if each.name in _WORKERS_NEED and each.name != "cloudpickle"]
    return [*needed, parse(f"cloudpickle=={'.'.join(cloudpickle_version().split('.')[:2])}.*")]


def prepare(
    folder: Path, interpreter: Interpreter, requirements: Sequence[Requirement], mode: str, cache: Path
) -> Installation:
    """What installs ``requirements`` into ``folder``/SITE, where this writes the lists that it reads. Raises EnvironmentFailed.

    avlab's own needs bound the versions; another Python than this one gets them installed too.
    """
    wanted = [str(each) for each in requirements]
    hashed = any(each.hashes for each in requirements)
    bounds = [str(each) for each in needs()]
    if not interpreter.is_own:
        if hashed:
            raise EnvironmentFailed(
                f"hashes for another Python ({interpreter.minor}) cannot be checked: it needs avlab's own packages installed too; leave "
                "the hashes out, or use the executor's Python"
            )
        wanted += bounds
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in wanted))
    (folder / "constraints.txt").write_text("".join(f"{line}\n" for line in bounds))
    uv = find_uv()
    if not is_there():
        raise EnvironmentFailed(
            "neither uv nor pip is installed where the executor runs: install avlab[environments] there"
        )
    found = configuration.variables()
    found = configuration.for_uv(found) if uv else found
    command = _uv(uv, folder, interpreter, cache) if uv else _pip(folder, interpreter, cache, mode == "wheels")
    command += ["--no-index"] if uv and "UV_NO_INDEX" in found else []  # a variable that uv itself does not read
    command += ["--only-binary", ":all:"] if mode == "wheels" else []
    command += ["--require-hashes"] if hashed else ["--constraint", str(folder / "constraints.txt")]
    command += ["--requirement", str(folder / "requirements.txt")]
    own = {**configuration.copy_own(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONNOUSERSITE": "1"}
    prefixes = (sys.prefix, sys.base_prefix, *interpreter.prefixes, os.path.dirname(interpreter.executable))
    readable = tuple(dict.fromkeys((*prefixes, *((uv,) if uv else ()), *configuration.local_paths(found))))
    return Installation(tuple(command), {**environment(), **found, **own}, readable)


def is_there() -> bool:
    """Whether anything can be installed."""
    return find_uv() is not None or importlib.util.find_spec("pip") is not None


def find_uv() -> str | None:
    """The uv that is installed beside this interpreter, or the one on PATH."""
    beside = sysconfig.get_path("scripts") + os.pathsep + os.path.dirname(sys.executable)
    path = shutil.which("uv", path=beside) or shutil.which("uv")
    return os.path.realpath(path) if path else None


def scrub(text: str) -> str:
    """A line of an installer as others may read it: printable, without credentials."""
    return "".join(c if c.isprintable() else " " for c in _CREDENTIALS.sub("://***@", text)).rstrip()[:MAX_LINE]


MAX_LINE = 300


def _uv(uv: str, folder: Path, interpreter: Interpreter, cache: Path) -> list[str]:
    command = [
        uv,
        "pip",
        "install",
        "--target",
        str(folder / SITE),
        "--python",
        interpreter.executable,
        "--no-python-downloads",
    ]
    return [
        *command,
        "--cache-dir",
        str(cache),
        "--link-mode",
        "copy",
        "--compile-bytecode",
        "--no-progress",
        "--color",
        "never",
    ]


# pip builds a dependency that its package names by address, whatever --only-binary says. It starts a process for that.
_NO_PROCESS = """
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"):
        raise PermissionError("packages are installed from wheels only: nothing is built")
sys.addaudithook(watch)
"""
_RUN_PIP = """import runpy, sys
{}
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def _pip(folder: Path, interpreter: Interpreter, cache: Path, wheels: bool) -> list[str]:
    spec = importlib.util.find_spec("pip")
    assert spec is not None and spec.origin is not None
    code = _RUN_PIP.format(_NO_PROCESS if wheels else "")
    command = [interpreter.executable, "-I", "-c", code, os.path.dirname(os.path.dirname(spec.origin)), "install"]
    command += ["--target", str(folder / SITE), "--cache-dir", str(cache), "--disable-pip-version-check"]
    return [*command, "--no-input", "--progress-bar", "off", "--no-color"]
