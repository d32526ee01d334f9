"""One message of every kind, and how messages are compared."""

import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # the support module beside the tests

from every_kind import every_kind

from avlab.core.message import Message


def comparable(value: Any) -> Any:
    """A message as plain tuples, whether its sequences are lists or tuples and its buffers bytes or views."""
    if is_dataclass(value):
        names = [f.name for f in fields(value) if f.name not in ("release", "_sizes")]
        return type(value).__name__, *[(name, comparable(getattr(value, name))) for name in names]
    if isinstance(value, list | tuple):
        return tuple(comparable(part) for part in value)
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


@pytest.fixture
def messages() -> dict[str, Message]:
    return every_kind()


@pytest.fixture(scope="session")
def same() -> Callable[[Any], Any]:
    return comparable
