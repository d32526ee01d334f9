"""The options of ``%%remote`` and ``%avlab connect``."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

from IPython.core.error import UsageError

from avlab.core.errors import ConfigError
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.limits import Limits, check_tier
from avlab.remote.requirements import check_minor, normal


class Parser(argparse.ArgumentParser):
    """Raises UsageError, one line, instead of leaving the process."""

    def __init__(self, name: str) -> None:
        super().__init__(prog=name, add_help=False, allow_abbrev=False, exit_on_error=False)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{self.prog}: {message}; {self.prog}? shows the options")

    def parse(self, line: str) -> argparse.Namespace:
        """The options of a magic's line. Raises UsageError."""
        try:
            return self.parse_args(shlex.split(line))
        except (ValueError, argparse.ArgumentError) as error:
            self.error(str(error))


REMOTE = Parser("%%remote")
REMOTE.add_argument("--on", metavar="URL")
REMOTE.add_argument("--files", nargs="+", default=[], metavar="PATH")
REMOTE.add_argument("--memory", metavar="SIZE")
REMOTE.add_argument("--cpu", type=float, metavar="SECONDS", dest="cpu_seconds")
REMOTE.add_argument("--timeout", type=float, metavar="SECONDS", dest="item_timeout")
REMOTE.add_argument("--tier")
REMOTE.add_argument("--name")
REMOTE.add_argument("--pip", nargs="+", default=[], metavar="REQUIREMENT")
REMOTE.add_argument("--python", default="", metavar="MINOR")
REMOTE.add_argument("--explain", action="store_true")
REMOTE.add_argument("--remote-imports", action="store_true")

CONNECT = Parser("%avlab connect")
CONNECT.add_argument("url")
CONNECT.add_argument("options", nargs="*", metavar="NAME=VALUE")


def limits(options: argparse.Namespace) -> dict[str, Any]:
    """The limits among the options of ``%%remote``, with tier, pip and python. Raises UsageError for values that cannot be."""
    given = {
        n: getattr(options, n) for n in ("memory", "cpu_seconds", "item_timeout") if getattr(options, n) is not None
    }
    try:
        Limits(**given)
        check_tier(options.tier)
        normal(options.pip)
        if options.python:
            check_minor(options.python)
    except ConfigError as error:
        REMOTE.error(str(error))
    return given | {n: getattr(options, n) for n in ("tier", "pip", "python") if getattr(options, n)}


def url(options: argparse.Namespace) -> str | None:
    """The executor that ``--on`` names, if any. Raises UsageError for one that is no URL."""
    if options.on is not None:
        try:
            RemoteExecutorConfig.from_url(options.on)
        except ConfigError as error:
            REMOTE.error(f"--on: {error}")
    return str(options.on) if options.on else None


def pairs(options: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` words as keyword arguments; numbers and true/false as what they are; ``pip=`` may be repeated, a token stays text. Raises UsageError."""
    found: dict[str, Any] = {}
    for word in options:
        name, sign, value = word.partition("=")
        if not sign or not name.isidentifier():
            CONNECT.error(f"{word!r} is not NAME=VALUE")
        if name == "pip":
            found.setdefault(name, []).append(value)
        else:
            found[name] = value if name in ("python", "auth") else _plain(value)
    return found


def _plain(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
