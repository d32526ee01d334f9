"""Where a file lies, as its user gave it."""

from __future__ import annotations

import os
from typing import Any

from avlab.core.errors import ConfigError


def location(path: Any, node: str) -> str:
    """The path as text. Raises ConfigError, naming the node, for what can be no path of a file."""
    if not isinstance(path, str | os.PathLike) or "\0" in (text := os.fspath(path)):
        raise ConfigError(f"path of {node} is {path!r}: it must be a text or a pathlib.Path without NUL characters")
    return text
