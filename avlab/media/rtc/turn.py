"""TURN: which relays and STUN servers are used, and credentials that do not last.

``ice_servers`` is, everywhere, a list in the browser's notation (``urls``, ``username``, ``credential``), or a function that
gives one anew for each connection; empty, it is what the environment names. Nothing is ever asked that nobody has named.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from avlab.core.errors import AvlabError, ConfigError
from avlab.media.rtc.policy import servers

Servers = Sequence[Mapping[str, Any]]
IceServers = Servers | Callable[[], Servers]

SERVERS = "AVLAB_ICE_SERVERS"
"""Environment variable: URLs separated by spaces, or a JSON list in the browser's notation."""
SECRET, USERNAME, CREDENTIAL = "AVLAB_TURN_SECRET", "AVLAB_TURN_USERNAME", "AVLAB_TURN_CREDENTIAL"
"""Environment variables for URLs without credentials: the secret shared with the server, or one user's name and password."""
LIFETIME = 3600.0
"""Seconds that made credentials last. Renewed for each connection; those of a connection that stands need not last longer."""


def credentials(secret: str, name: str, expiry: int) -> tuple[str, str]:
    """Username and password that a TURN server with this shared secret takes until ``expiry`` (Unix time, seconds).

    Source: draft-uberti-behave-turn-rest-00, 2.2: ``expiry:name``, and base64 of HMAC-SHA1 of it under the secret.
    """
    username = f"{expiry}:{name}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


class ShortLived:
    """Servers with credentials made from a secret that is shared with the TURN server (coturn: ``use-auth-secret``).

    Give it as ``ice_servers``: each connection gets credentials of its own that last ``lifetime`` seconds, so none is ever
    begun with one that has run out. urls: ``turn:`` and ``turns:`` URLs, best first or not. name: what the server's log shows.
    Raises ConfigError for what is no URL.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        secret: str,
        *,
        name: str = "avlab",
        lifetime: float = LIFETIME,
        now: Callable[[], float] = time.time,  # the convention counts in Unix time, which both sides must share
    ) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        self._secret, self._name, self._lifetime, self._now = secret, name, lifetime, now
        servers([{"urls": self._urls}])
        if not secret:
            raise ConfigError("the secret shared with the TURN server is empty")

    def __call__(self) -> list[dict[str, Any]]:
        username, password = credentials(self._secret, self._name, int(self._now() + self._lifetime))
        return [{"urls": list(self._urls), "username": username, "credential": password}]

    def __repr__(self) -> str:
        return f"ShortLived({self._urls!r}, lifetime={self._lifetime:g})"


def from_environment(environment: Mapping[str, str] = os.environ) -> list[dict[str, Any]]:
    """The servers that the environment names, none by default. Raises ConfigError for what is malformed, without its text."""
    text = environment.get(SERVERS, "").strip()
    if not text:
        return []
    if text.startswith(("[", "{")):
        try:
            listed = json.loads(text)
        except ValueError:
            raise ConfigError(f"{SERVERS} is no JSON list of servers, nor URLs separated by spaces") from None
        listed = [listed] if isinstance(listed, dict) else listed
        return servers(listed)
    urls = text.split()
    servers([{"urls": urls}])
    stun = [{"urls": [url]} for url in urls if not is_turn(url)]
    turn = [url for url in urls if is_turn(url)]
    secret = environment.get(SECRET, "")
    if turn and secret:
        return [*stun, *ShortLived(turn, secret)()]
    known = {"username": environment.get(USERNAME), "credential": environment.get(CREDENTIAL)}
    return [*stun, *([{"urls": turn, **{k: v for k, v in known.items() if v}}] if turn else [])]


async def current(ice_servers: IceServers) -> list[dict[str, Any]]:
    """The servers as they are now: a function is called (on a thread of its own, it may ask a service), an empty list is
    replaced by what the environment names. Raises ConfigError for what is no server, or a function that fails."""
    if callable(ice_servers):
        try:
            ice_servers = await asyncio.to_thread(ice_servers)
        except AvlabError:
            raise
        except Exception as error:
            raise ConfigError(f"the function given as ice_servers= failed: {type(error).__name__}") from error
    return servers(ice_servers) or from_environment()


def tellable(ice_servers: IceServers, found: Servers) -> list[Mapping[str, Any]]:
    """Those of ``found`` that whoever was let into a room may learn: all that the script names itself, but of the environment's
    only those without credentials, or with such as end by themselves (their username begins with the time)."""
    if ice_servers:
        return list(found)
    return [each for each in found if "credential" not in each or re.match(r"\d{9,}(:|$)", str(each.get("username")))]


def is_turn(url: str) -> bool:
    """Whether a URL names a relay."""
    return bool(re.match(r"turns?:", url))


def way(url: str) -> str:
    """How a relay is reached: ``udp``, ``tcp`` or ``tls`` (RFC 7065: ``turns:`` is TLS, ``?transport=tcp`` is TCP)."""
    if url.startswith("turns:"):
        return "tls"
    return "tcp" if "transport=tcp" in url else "udp"
