"""Built-in nodes. ``from avlab.nodes import Resize`` finds those of others too: whatever is registered, by its name."""

from __future__ import annotations

from typing import Any

from avlab.core.errors import UnknownNode
from avlab.core.registry import registered, registered_nodes


def __getattr__(name: str) -> Any:
    try:
        return registered(name)
    except UnknownNode as error:
        raise AttributeError(str(error)) from error


def __dir__() -> list[str]:
    return registered_nodes()
