"""What stands in a notebook for something that runs elsewhere travels as what it was made of."""

from __future__ import annotations

from types import FunctionType
from typing import Any

ORIGINAL = "__avlab_original__"
"""The attribute of a function that stands for another."""


def original_of(value: Any) -> Any:
    """What a remote class or function, or a method of one, was made of; None for anything else, also for an instance."""
    if isinstance(value, FunctionType):
        return vars(value).get(ORIGINAL)
    kind = type(value)
    # An instance finds the mark of its class's own type.
    if not getattr(kind, "__avlab_stands_for__", False) or getattr(type(kind), "__avlab_stands_for__", False):
        return None
    return value.__avlab__.original
