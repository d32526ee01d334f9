"""Executors to test: the embedded one and a server in a process of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import avlab

HERE = Path(__file__).parent
for folder in (str(HERE), str(HERE.parent / "links")):
    if folder not in sys.path:
        sys.path.append(folder)  # what the tests run on the other bank, and how they serve it

from serving import served  # noqa: E402  it lies there


@pytest.fixture(scope="module")
def local() -> Iterator[avlab.Executor]:
    """The embedded executor."""
    with avlab.connect() as executor:
        yield executor


@pytest.fixture(scope="module")
def remote() -> Iterator[avlab.Executor]:
    """A server of its own."""
    with served() as (url, _), avlab.connect(url) as executor:
        yield executor
