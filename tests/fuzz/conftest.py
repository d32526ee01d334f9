"""The fuzzers share the messages of the wire's tests and the host side of the sandbox's."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("fuzz", "wire", "sandbox"))

from every_kind import every_kind

from avlab.core.message import Message


@pytest.fixture
def messages() -> Mapping[str, Message]:
    return every_kind()
