"""RemoteExecutorConfig: where a node runs, and under which limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from avlab.core.errors import ConfigError
from avlab.remote.limits import Limits, check_tier
from avlab.remote.requirements import check_minor, normal

DEFAULT_PORT = 7411
MAX_GRACE = 600
"""Longest that an executor keeps a session whose caller is out of reach, in seconds."""
_LATER = {"ray": "the Ray backend"}


@dataclass(frozen=True, slots=True)
class TLS:
    """Paths of PEM files. ca: authorities that vouch for the executor (default: the system's). certificate, key: what this side
    shows to an executor that asks for it (mTLS); both or none. Raises ConfigError.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("tls: a certificate and its key come together")


@dataclass(frozen=True, slots=True)
class RemoteExecutorConfig:
    """Where a remote node runs.

    host, port: the executor's address (protocol "grpc"); without a host the embedded executor is used ("local"). For protocol
    "datachannel" host is the name that `avlab.connect(partner)` gave to the partner of a WebRTCManager; for "docker" the name of one
    of several containers, or None.
    auth: bearer token. tls: True for the system's authorities, a path to a PEM file of authorities, or a `TLS` (also as a
    mapping), which can hold a certificate of one's own; a token is never sent without TLS to a host that is not loopback.
    limits: a `Limits` or its fields as a mapping. tier: the lowest acceptable isolation tier. timeout: seconds to connect, and for an
    executor to answer at all.
    grace: seconds that a session outlives its connection (gRPC and DataChannels; 0: it ends with it). delivery: "reliable" (every item, in
    order), "live" (the newest items, what is too old is dropped and counted), or "": live behind a live source, else reliable.
    pip: requirements such as "scipy>=1.14", which the executor installs into an environment for the session. python: the minor
    version of Python that the session shall run with, such as "3.12".
    Raises ConfigError.
    """

    host: str | None = None
    port: int = DEFAULT_PORT
    protocol: str = ""
    auth: str | None = field(default=None, repr=False)
    tls: bool | str | TLS | Mapping[str, str] = False
    limits: Limits | Mapping[str, Any] = field(default_factory=Limits)
    tier: str | None = None
    pip: Sequence[str] = ()
    python: str = ""
    timeout: float = 10.0
    grace: float = 30.0
    delivery: str = ""

    def __post_init__(self) -> None:
        for name in ("host", "protocol", "auth", "tier", "python", "delivery"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, str):  # not shown: it may be a secret
                raise ConfigError(f"{name}= is text, not of type {type(given).__name__}")
        if isinstance(self.limits, Mapping):
            object.__setattr__(self, "limits", make_limits(self.limits))
        if not isinstance(self.limits, Limits):
            raise ConfigError(f"limits={self.limits!r}: give an avlab.Limits or a mapping such as {{'memory': '512M'}}")
        object.__setattr__(self, "pip", tuple(map(str, normal(self.pip))))
        if self.python:
            check_minor(self.python)
        object.__setattr__(self, "tls", _tls(self.tls))
        if not self.protocol:
            object.__setattr__(self, "protocol", "grpc" if self.host else "local")
        if self.protocol in _LATER:
            raise ConfigError(
                f"{self.protocol}: needs {_LATER[self.protocol]}, which this version does not have: use 'local:', 'docker:' or 'grpc://host:port'"
            )
        if self.protocol not in ("local", "grpc", "docker", "inproc", "datachannel"):
            raise ConfigError(
                f"unknown protocol {self.protocol!r}: use 'local:', 'docker:', 'grpc://host:port' or 'grpcs://host:port'"
            )
        if self.protocol == "grpc" and not self.host:
            raise ConfigError("protocol 'grpc' needs a host: write for example grpc://127.0.0.1:7411")
        if type(self.port) is not int or not 0 < self.port < 65536:
            raise ConfigError(f"port {self.port!r} is not a number between 1 and 65535")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < 1e6:
            raise ConfigError(f"timeout={self.timeout!r} is not a number of seconds between 0 and 10**6")
        if isinstance(self.grace, bool) or not isinstance(self.grace, int | float) or not 0 <= self.grace <= MAX_GRACE:
            raise ConfigError(f"grace={self.grace!r} is not a number of seconds between 0 and {MAX_GRACE}")
        check_delivery(self.delivery)
        check_tier(self.tier)
        check_token(self.auth or "")

    @classmethod
    def from_url(cls, url: str, **fields: Any) -> RemoteExecutorConfig:
        """A config from "local:", "docker:", "grpc://host:port" or "grpcs://host:port" (TLS); ``fields`` add the rest."""
        if not isinstance(url, str):
            raise ConfigError(
                f"URL {url!r} is no text: use 'local:', 'docker:', 'grpc://host:port' or 'grpcs://host:port'"
            )
        if "@" in url:  # not shown: what stands before it is a secret
            raise ConfigError("a URL holds no credentials: write grpcs://host:port, and give the token as auth=")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ConfigError(f"URL {url!r} is none: {error}") from None
        scheme = parts.scheme
        if scheme in ("local", "inproc") and not parts.netloc and not parts.path:
            return cls(protocol=scheme, **fields)
        if scheme == "datachannel" and parts.path and not parts.netloc:
            return cls(host=parts.path, protocol=scheme, **fields)
        if scheme == "docker" and not parts.netloc:
            return cls(host=parts.path or None, protocol=scheme, **fields)
        if scheme in ("grpc", "grpcs"):
            try:
                port = parts.port or DEFAULT_PORT
            except ValueError:
                raise ConfigError(f"URL {url!r}: the port is not a number between 0 and 65535") from None
            if not parts.hostname or parts.path.strip("/"):
                raise ConfigError(f"URL {url!r}: write {scheme}://host:port")
            if scheme == "grpcs":
                fields.setdefault("tls", True)
            return cls(host=parts.hostname, port=port, protocol="grpc", **fields)
        if scheme in _LATER:
            return cls(protocol=scheme, **fields)
        raise ConfigError(
            f"URL {url!r} is not understood: use 'local:', 'docker:', 'grpc://host:port' or 'grpcs://host:port'"
        )

    @property
    def url(self) -> str:
        """The address as a URL, without credentials."""
        if self.protocol in ("datachannel", "docker"):
            return f"{self.protocol}:{self.host or ''}"
        if self.protocol != "grpc":
            return f"{self.protocol}:"
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{'grpcs' if self.tls else 'grpc'}://{host}:{self.port}"

    def with_limits(self, given: Mapping[str, Any]) -> RemoteExecutorConfig:
        """A copy whose limits (and tier, pip and python) are overridden by ``given``."""
        changed = dict(given)
        others = {name: changed.pop(name) for name in ("tier", "pip", "python") if name in changed}
        assert isinstance(self.limits, Limits)  # __post_init__ has made it so
        return replace(self, **others, limits=make_limits({**self.limits.given(), **changed}))


def _tls(given: object) -> bool | TLS:
    """``tls=`` as it is kept. Raises ConfigError."""
    if isinstance(given, TLS) or given is False or given is True:
        return given
    if isinstance(given, str | os.PathLike):
        return TLS(ca=os.fspath(given))
    if isinstance(given, Mapping) and set(given) <= set(TLS.__dataclass_fields__):
        return TLS(**{name: os.fspath(path) for name, path in given.items()})
    raise ConfigError(
        f"tls={given!r}: give True, the path of a PEM file of authorities, or avlab.TLS(ca=…, certificate=…, key=…)"
    )


def check_delivery(delivery: str) -> None:
    """Raises ConfigError for what is no way of delivery."""
    if delivery not in ("", "reliable", "live"):
        raise ConfigError(f"delivery={delivery!r}: use 'reliable' or 'live'")


def check_token(token: str) -> None:
    """Raises ConfigError, which does not show it, for a token that cannot travel in a header."""
    if not (token.isascii() and token.isprintable() and token == token.strip()):
        raise ConfigError("the token (auth=) must be printable ASCII without space or line break around it")


def make_limits(given: Mapping[str, Any]) -> Limits:
    """Limits from names and values. Raises ConfigError naming an unknown one."""
    known = Limits.__dataclass_fields__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(f"unknown limit {unknown[0]!r}; there are: tier, pip, python, {', '.join(known)}")
    return Limits(**{name: value for name, value in given.items() if value is not None})
