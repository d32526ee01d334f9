"""Objects named on the command line: ``module:object`` and ``Node(parameter=value)``."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from typing import Any

from avlab.core.errors import ConfigError
from avlab.core.registry import registered


def load(name: str) -> Any:
    """The object called ``module:object``; modules of the current folder are found. Raises ConfigError."""
    module, _, attributes = name.partition(":")
    if not module or not attributes:
        raise ConfigError(f"{name!r} is not of the form module:object")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} cannot be loaded: {error}") from error
    return found


def build(text: str) -> Any:
    """The node that ``Name``, ``Name(parameter=value)`` or ``module:Name(parameter=value)`` says; values are literals.

    Raises UnknownNode for a name that is not registered, ConfigError for text that is not of this form.
    """
    name, bracket, _ = text.partition("(")
    cls = load(name) if ":" in name else registered(name.strip())
    try:
        call: Any = ast.parse("_" + text[len(name) :] if bracket else "_()", mode="eval").body
        if not isinstance(call.func, ast.Name):
            raise ValueError
        args = [ast.literal_eval(arg) for arg in call.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ConfigError(f"{text!r} is not of the form Name(parameter=value) with plain values") from error
    try:
        return cls(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{text!r}: {error}") from error
