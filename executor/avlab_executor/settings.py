"""The settings of a server: from flags, environment variables and a TOML file, in this order of precedence.

A setting is declared once, in SETTINGS. Its flag is ``--name-with-dashes``, its variable AVLAB_EXECUTOR_NAME, its key in the file
the name itself. A value that cannot be is refused with its name and the place that it stands in.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError
from avlab.remote.limits import parse_size
from avlab_executor.environments.policy import MODES
from avlab_executor.sandbox.profile import PROCESS, STRENGTH
from avlab_executor.tenants import DEFAULT, Quota, Tenant

PREFIX = "AVLAB_EXECUTOR_"
CONFIG = "config"
_TABLES = ("quota", "tenants")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be. words: for a person; accept: the value of a file as it is used, ValueError for another; read: from text."""

    words: str
    accept: Callable[[Any], Any]
    read: Callable[[str], Any] = str


def whole(least: int, most: int | None = None) -> Kind:
    """A whole number in bounds."""

    def accept(value: Any) -> int:
        if type(value) is not int or value < least or (most is not None and value > most):
            raise ValueError
        return int(value)

    return Kind(
        f"a whole number from {least} to {most}" if most else f"a whole number of at least {least}", accept, int
    )


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def one_of(words: Iterable[str]) -> Kind:
    """One of these words."""
    words = tuple(words)

    def accept(value: Any) -> str:
        return words[words.index(value)]

    return Kind(f"one of {', '.join(words)}", accept)


def _address(value: Any) -> tuple[str, int]:
    host, colon, port = _text(value).rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError
    return host.strip("[]") or "127.0.0.1", int(port)


HOST_AND_PORT = Kind("HOST:PORT, for example 127.0.0.1:9464", _address)
SECONDS = Kind("a positive number of seconds", _seconds, float)
TEXT = Kind("text without control characters", _text)
PATH = Kind("the path of a file or folder", lambda value: Path(_text(value)))
SIZE = Kind("a size such as 512M or 10G", lambda value: whole(1).accept(parse_size(value)))
NAMES = Kind("names", lambda value: tuple(map(_text, value)), lambda text: text.replace(",", " ").split())
FLAG = Kind("true or false", _flag, lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()])


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. group: its heading in the help; meta: what stands for the value there; env: variable, if not the usual one."""

    name: str
    kind: Kind
    group: str
    help: str
    default: Any = None
    meta: str = ""
    env: str = ""

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.env or PREFIX + self.name.upper()

    def value(self, given: Any, place: str, *, as_text: bool = False) -> Any:
        """The value that is used. Raises ConfigError that names setting and place."""
        try:
            return self.kind.accept(self.kind.read(given) if as_text else given)
        except (ValueError, KeyError):
            raise ConfigError(f"{self.name}={_shown(given)} ({place}): it must be {self.kind.words}") from None


def _shown(given: Any) -> str:
    return str(given) if isinstance(given, str | int | float) and str(given).isprintable() else repr(given)


ADDRESS, ACCESS, ISOLATION, OPERATION = "address", "who may call", "isolation and capacity", "operation"
PACKAGES = "packages for sessions"
SETTINGS = (
    Setting("host", TEXT, ADDRESS, "address to bind; others than loopback need TLS and a token", "127.0.0.1"),
    Setting("port", whole(0, 65535), ADDRESS, "port; 0 takes a free one", 7411),
    Setting("tls_cert", PATH, ADDRESS, "PEM certificate chain", meta="FILE"),
    Setting("tls_key", PATH, ADDRESS, "PEM private key", meta="FILE"),
    Setting("token_file", PATH, ACCESS, "bearer tokens: a `tenant token` per line, or one token alone", meta="FILE"),
    Setting(
        "tls_client_ca",
        PATH,
        ACCESS,
        "PEM authorities that must have signed a client's certificate (mTLS)",
        meta="FILE",
    ),
    Setting(
        "self_signed",
        PATH,
        ACCESS,
        "make a token and a certificate at start and leave them there for the owner's clients, until the next start",
        meta="FOLDER",
    ),
    Setting(
        "min_tier",
        one_of(tier for tier in STRENGTH if tier != PROCESS),
        ISOLATION,
        "refuse to serve with less isolation",
        meta="TIER",
    ),
    Setting("allow_process", FLAG, ISOLATION, "accept plain processes: no security boundary", False),
    Setting("sessions", whole(1), ISOLATION, "most sessions at once", 32, "N"),
    Setting("warm", whole(0), ISOLATION, "workers that wait, started and locked", 2, "N"),
    Setting(
        "pip_policy",
        one_of(MODES),
        PACKAGES,
        "install what sessions ask for: not at all (off), from wheels, which executes nothing of it, or also from source (any)",
        "off",
        "POLICY",
    ),
    Setting("pip_allow", NAMES, PACKAGES, "the only projects that may be asked for", meta="NAMES"),
    Setting("environments", PATH, PACKAGES, "where they are kept (default: in the cache of the user)", meta="FOLDER"),
    Setting("environments_size", SIZE, PACKAGES, "bytes kept; the least recently used go first", "10G", "SIZE"),
    Setting("log_format", one_of(("text", "json")), OPERATION, "a line of text or of JSON per record", "text", "FORM"),
    Setting(
        "log_level",
        one_of(("debug", "info", "warning", "error")),
        OPERATION,
        "the least that is logged",
        "info",
        "LEVEL",
    ),
    Setting("audit", FLAG, OPERATION, "write the audit trail to the log also where no token is asked for", False),
    Setting(
        "metrics",
        HOST_AND_PORT,
        OPERATION,
        "let Prometheus find figures at http://HOST:PORT/metrics, or https if there is a certificate; needs avlab[operation]",
        meta="HOST:PORT",
    ),
    Setting(
        "health_socket",
        PATH,
        OPERATION,
        "answer health checks at this Unix socket too",
        meta="PATH",
        env="AVLAB_HEALTH_SOCKET",
    ),
    Setting(
        "drain", SECONDS, OPERATION, "after SIGTERM, how long open sessions may go on; new ones are refused", 8.0, "SECONDS"
    ),
    Setting("idle_exit", SECONDS, OPERATION, "end after that long without a session", meta="SECONDS"),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of all settings, under the headings of their groups."""
    parser.add_argument("--config", metavar="FILE", help=f"TOML file of settings, tenants and quotas ({PREFIX}CONFIG)")
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(each.group for each in SETTINGS)}
    for each in SETTINGS:
        text = each.help + ("" if each.default in (None, False) else f" (default: {each.default})")
        if each.kind is FLAG:
            groups[each.group].add_argument(each.flag, action="store_const", const="true", help=text)
        else:
            groups[each.group].add_argument(each.flag, metavar=each.meta or each.name.upper(), help=text)


def resolve(flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The value of every setting by name, and under "tenants" a function from tokens by tenant to the tenants.

    Raises ConfigError.
    """
    path = flags.get(CONFIG) or environment.get(PREFIX + CONFIG.upper())
    file = _file(Path(path)) if path else {}
    values: dict[str, Any] = {each.name: each.default for each in SETTINGS}
    for each in SETTINGS:
        given, text = flags.get(each.name), environment.get(each.variable)
        if given is not None:
            values[each.name] = each.value(given, f"from {each.flag}", as_text=True)
        elif text:
            hint = "; Kubernetes sets it for a service of this name: enableServiceLinks: false" * text.startswith(
                "tcp://"
            )
            values[each.name] = each.value(text, f"from the variable {each.variable}{hint}", as_text=True)
        elif each.name in file:
            values[each.name] = each.value(file[each.name], f"in {path}")
    values["tenants"] = lambda tokens: _tenants(file, tokens, path or "no configuration file")
    return values


def unknown(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that look like settings and are none: probably misspelt."""
    known = {each.variable for each in SETTINGS} | {PREFIX + "CONFIG", PREFIX + "TOKEN"}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    _known(found, (*_BY_NAME, *_TABLES), str(path))
    return found


def _known(found: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    names = tuple(names)
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise ConfigError(
                f"{name[:80]!r} (in {place}) is no setting" + (f": did you mean {near[0]!r}?" if near else "")
            )


def _tenants(file: Mapping[str, Any], tokens: Mapping[str, tuple[str, ...]], path: str) -> tuple[Tenant, ...]:
    """Who may call, from the tables [quota] and [tenants.NAME] and from tokens by tenant. Raises ConfigError."""
    common = _quota(Quota(), file.get("quota", {}), f"{path}, [quota]")
    tables = file.get("tenants", {})
    if not isinstance(tables, Mapping):
        raise ConfigError(f"tenants (in {path}) is a table of tables: write [tenants.NAME]")
    names = list(dict.fromkeys((*tokens, *tables))) or [DEFAULT]
    found = []
    for name in names:
        place = f"{path}, [tenants.{name[:80]}]"
        table = tables.get(name, {})
        if not isinstance(table, Mapping):
            raise ConfigError(f"{name[:80]!r} (in {path}, [tenants]) is no table: write [tenants.NAME]")
        own = dict(table)
        operator = own.pop("operator", len(names) == 1)
        if not isinstance(operator, bool):
            raise ConfigError(f"operator={operator!r} (in {place}): it must be true or false")
        found.append(Tenant(name, tokens.get(name, ()), _quota(common, own, place), operator))
    return tuple(found)


def _quota(base: Quota, table: Any, place: str) -> Quota:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place} is no table")
    _known(table, (each.name for each in fields(Quota)), place)
    try:
        return replace(base, **table)
    except ConfigError as error:
        raise ConfigError(f"{error} (in {place})") from None
