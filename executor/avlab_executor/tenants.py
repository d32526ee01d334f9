"""Tenants: who may use an executor, by which tokens, and how much of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from avlab.core.errors import ConfigError, Denied
from avlab.remote.config import check_token
from avlab_executor.blobs import DEFAULT_BYTES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DEFAULT = "default"
"""The tenant of an executor that tells nobody apart."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one tenant may use. None: as much as there is.

    sessions: at once. cpu_seconds: CPU time, and bytes: payload in both directions, within each ``period`` of seconds.
    stored: bytes of bundles that are kept. environments: different ones that are kept. Raises ConfigError.
    """

    sessions: int | None = None
    cpu_seconds: float | None = None
    bytes: int | None = None
    stored: int = DEFAULT_BYTES
    environments: int | None = None
    period: float = 3600.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.default is None:
                continue
            kinds = (int, float) if each.name in ("cpu_seconds", "period") else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 1 << 62:
                what = "number" if float in kinds else "whole number"
                raise ConfigError(f"quota {each.name}={value!r} is not a positive {what}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who uses an executor. operator: sees the sessions and figures of all tenants. Raises ConfigError."""

    name: str = DEFAULT
    tokens: tuple[str, ...] = field(default=(), repr=False)
    quota: Quota = Quota()
    operator: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"tenant {self.name[:80]!r}: a name is up to 64 letters, digits, '.', '_' and '-', the first no sign"
            )
        for token in self.tokens:
            if not token:
                raise ConfigError(f"tenant {self.name!r} has an empty token")
            check_token(token)


def exhausted(tenant: str, name: str, value: object, remedy: str) -> Denied:
    """The refusal for a quota: names it, its value, what the tenant can do, and who can change it."""
    return Denied(
        f"quota {name}={value} of tenant {tenant!r} is used up: {remedy}, or ask whoever runs this executor to raise "
        f"{name!r} in its configuration ([tenants.{tenant}] or [quota])"
    )


def read_tokens(text: str, source: str) -> dict[str, tuple[str, ...]]:
    """Tokens by tenant from a token file: one ``tenant token`` per line, or a token alone, which is the tenant "default"'s.

    Several lines of one tenant are several tokens, all valid; empty lines and those that begin with # say nothing. Raises
    ConfigError that names the line of ``source`` and shows no token.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name = words[0] if len(words) == 2 else DEFAULT
        if len(words) > 2 or not NAME.fullmatch(name):
            raise ConfigError(f"{source}, line {number}: write a tenant's name, a space and its token")
        try:
            check_token(words[-1])
        except ConfigError as error:
            raise ConfigError(f"{source}, line {number}: {error}") from None
        if any(words[-1] in tokens for tokens in found.values()):
            raise ConfigError(f"{source}, line {number}: this token stands in the file already")
        found[name] = (*found.get(name, ()), words[-1])
    if not found:
        raise ConfigError(f"{source} holds no token")
    return found


def check_tenants(tenants: Iterable[Tenant]) -> None:
    """Raises ConfigError when a name or a token belongs to two of them."""
    names: set[str] = set()
    tokens: set[str] = set()
    for tenant in tenants:
        if tenant.name in names:
            raise ConfigError(f"there are two tenants called {tenant.name!r}")
        if tokens.intersection(tenant.tokens):
            raise ConfigError(f"a token of tenant {tenant.name!r} is another one's too")
        names.add(tenant.name)
        tokens.update(tenant.tokens)
