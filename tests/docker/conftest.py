"""A container of the image that `make image` builds, run as `avlab executor up` runs it. Needs a Docker engine (docker/engine.sh)."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import avlab_executor
import pytest
from avlab_executor.container.engine import engine
from avlab_executor.container.options import Options, container_name

import avlab

ROOT = Path(__file__).parents[2]
for folder in (Path(__file__).parent, ROOT / "tests/executor", ROOT / "tests/links", ROOT / "tests/sandbox"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # what the tests run on the other bank, and the suites that are run there

IMAGE = Options().image
PACKAGES = (Path(avlab.__file__).parent, Path(avlab_executor.__file__).parent)
HASH = """
import hashlib, sys
from pathlib import Path
folders = [Path("/opt/avlab/lib") / sys.argv[1] / "site-packages" / name for name in ("avlab", "avlab_executor")]
paths = [(path.relative_to(f.parent), path) for f in folders for path in f.rglob("*.py")]
print(hashlib.sha256(b"".join(path.read_bytes() for _, path in sorted(paths))).hexdigest())
"""


def docker(*words: str) -> str:
    """What the command line of Docker answers."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def current_image() -> None:
    """The image holds this source: a test of an older one would say nothing."""
    paths = [(path.relative_to(folder.parent), path) for folder in PACKAGES for path in folder.rglob("*.py")]
    ours = hashlib.sha256(b"".join(path.read_bytes() for _, path in sorted(paths))).hexdigest()
    python = docker("run", "--rm", "--entrypoint", "ls", IMAGE, "/opt/avlab/lib").strip()
    theirs = docker("run", "--rm", "--entrypoint", "python", IMAGE, "-c", HASH, python).strip()
    assert ours == theirs, f"{IMAGE} was built from another state of the source: run make image"


@contextmanager
def up(name: str, **options: object) -> Iterator[str]:
    """The address of an executor in a container of its own, named after this process."""
    name = f"{name}-{os.getpid()}"
    try:
        with engine() as made:
            made.start(name, Options(**options))
        yield f"docker:{name}"
    finally:
        with engine() as made:
            made.down(name)


@pytest.fixture(scope="module", params=["landlock", "namespaces", "gvisor"])
def contained(request: pytest.FixtureRequest) -> Iterator[str]:
    """An executor in a stock container, and in those with the shipped seccomp profile, which allows the stronger tiers."""
    with up(request.param, tier=request.param, seccomp=request.param != "landlock") as url:
        yield url


def named(url: str) -> str:
    """The container of a ``docker:`` address."""
    return container_name(url.removeprefix("docker:"))
