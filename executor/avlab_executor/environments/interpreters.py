"""The Pythons of this system that sessions can run with: this one, and those on PATH as python3.N."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass

from avlab.remote.manifest import python_version
from avlab_executor.sandbox.launch import environment

OLDEST = (3, 11)
_SECONDS = 10.0
_ASK = (
    "import json, os, sys, sysconfig; print(json.dumps({'executable': sys.executable, 'version': list(sys.version_info[:2]), "
    "'kind': sys.implementation.name, 'tag': f\"{sysconfig.get_config_var('SOABI')} {sysconfig.get_platform()}\", "
    "'prefixes': [sys.base_prefix, sys.base_exec_prefix], 'path': [p for p in sys.path if os.path.isabs(p)]}))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """executable; minor: "3.12"; tag: what compiled packages must fit; prefixes: its folders; library: its sys.path without packages."""

    executable: str
    minor: str
    tag: str
    prefixes: tuple[str, ...] = ()
    library: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is the one that runs this."""
        return self.executable == sys.executable


def own() -> Interpreter:
    """The interpreter that runs this."""
    tag = f"{sysconfig.get_config_var('SOABI')} {sysconfig.get_platform()}"
    return Interpreter(sys.executable, python_version(), tag)


def find(minor: str) -> Interpreter | None:
    """The interpreter of a minor version, if it is at hand: CPython, OLDEST or newer."""
    if minor == python_version():
        return own()
    path = shutil.which(f"python{minor}")
    return None if path is None else _ask(path, minor)


def minors() -> list[str]:
    """The minor versions that are at hand, this one's first."""
    names = set[str]()
    for folder in os.get_exec_path():
        if os.path.isdir(folder):
            names.update(
                match[1] for name in os.listdir(folder) if (match := re.fullmatch(r"python(3\.\d{1,2})", name))
            )
    others = sorted((n for n in names if n != python_version()), key=lambda name: int(name.partition(".")[2]))
    return [python_version(), *(name for name in others if find(name) is not None)]


@functools.lru_cache(maxsize=32)
def _ask(path: str, minor: str) -> Interpreter | None:
    """What the program at ``path`` says of itself; None unless it is what its name promises. Isolated, and without its packages."""
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", _ASK],
            env={**environment(), "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True, cwd="/",
        )  # fmt: skip
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    version = tuple(told["version"])
    if told["kind"] != "cpython" or version < OLDEST or minor != ".".join(map(str, version)):
        return None
    return Interpreter(
        told["executable"], minor, told["tag"], tuple(dict.fromkeys(told["prefixes"])), tuple(told["path"])
    )
