"""Rooms: who may come in, who is there, and who hears what. No input or output of its own: the server brings both."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError, Denied

ROLES = ("script", "camera", "view")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most of everything. ``message``: bytes; ``rate`` and ``burst``: messages per second and at once, per member; ``waiting`` and
    ``waiting_bytes``: what a member may leave unread."""

    rooms: int = 64
    members: int = 16
    connections: int = 512
    invitations: int = 1024
    message: int = 256 << 10
    rate: float = 50.0
    burst: int = 200
    waiting: int = 256
    waiting_bytes: int = 4 << 20
    join_seconds: float = 10.0
    invitation_seconds: float = 600.0
    away_seconds: float = 60.0


@dataclass(eq=False)
class Member:
    """One who is in a room. ``deliver`` takes a message (JSON) for it and says whether it could; None while it is away.

    ``waiting``: what came for it meanwhile, the newest of it.
    """

    id: str
    room: str
    role: str
    deliver: Callable[[str], bool] | None = None
    entered: bool = False
    away_since: int | None = None
    waiting: deque[str] = field(default_factory=deque)
    _tokens: float = 0.0
    _filled: int = field(default=0)
    _returned_by: bytes | None = None  # the key it came back with, until it is heard: its welcome may have been lost


class Rooms:
    """Members by room, and the tokens that let somebody in.

    A token is for one room and for one use; what is kept of it is its hash, compared in constant time. Who was let in
    gets a key, for one use as well, with which a lost connection is taken up again under the same name.
    """

    def __init__(self, bounds: Bounds, clock: Clock = monotonic) -> None:
        self.bounds, self._clock = bounds, clock
        self._rooms: dict[str, dict[str, Member]] = {}
        self._invitations: dict[bytes, tuple[str, int]] = {}
        self._keys: dict[bytes, Member] = {}

    @property
    def count(self) -> tuple[int, int]:
        """Rooms and members."""
        return len(self._rooms), sum(map(len, self._rooms.values()))

    def invite(self, room: str) -> str:
        """A token for a room. Raises ConfigError for a name that cannot be, Denied when too many are out."""
        if not isinstance(room, str) or not _NAME.fullmatch(room):
            raise ConfigError(f"{room!r} is no name for a room: 1 to 64 letters, digits, dots, dashes or underscores")
        now = self._clock()
        self._invitations = {k: v for k, v in self._invitations.items() if v[1] > now}
        if len(self._invitations) >= self.bounds.invitations:
            raise Denied(f"{self.bounds.invitations} invitations are unused: wait until some have expired")
        token = secrets.token_urlsafe(24)
        self._invitations[_digest(token)] = (room, now + int(self.bounds.invitation_seconds * _SECOND))
        return token

    def admit(self, room: str, token: str, role: str) -> Member:
        """Let somebody in; the token is spent. Raises Denied."""
        now = self._clock()
        found = _find(self._invitations, token)
        invited = self._invitations.pop(found) if found else None
        if invited is None or invited[0] != room or invited[1] <= now:
            raise Denied("the invitation is unknown, used or too old: ask for a new one")
        if role not in ROLES:
            raise Denied(f"the role must be one of {', '.join(ROLES)}")
        self.sweep()
        if room not in self._rooms and len(self._rooms) >= self.bounds.rooms:
            raise Denied(f"all {self.bounds.rooms} rooms are in use: try again later")
        members = self._rooms.setdefault(room, {})
        if len(members) >= self.bounds.members:
            raise Denied(f"the room is full ({self.bounds.members} members)")
        member = Member(secrets.token_hex(6), room, role, _tokens=self.bounds.burst, _filled=now)
        members[member.id] = member
        return member

    def key(self, member: Member) -> str:
        """A new key for taking up the connection; earlier ones end, the one just used with the member's next message."""
        self._forget_keys(member, but=member._returned_by)
        key = secrets.token_urlsafe(24)
        self._keys[_digest(key)] = member
        return key

    def resume(self, key: str) -> Member:
        """Who a key belongs to; it is spent once the member is heard. Raises Denied."""
        self.sweep()
        found = _find(self._keys, key)
        if found is None:
            raise Denied("the connection cannot be taken up again: join with a new invitation")
        member = self._keys[found]
        member._returned_by = found
        return member

    def others(self, member: Member) -> list[Member]:
        """Everybody else in the room."""
        return [other for other in self._rooms.get(member.room, {}).values() if other is not member]

    def enter(self, member: Member, deliver: Callable[[str], bool]) -> None:
        """The member is there (again) and hears; the others hear that it joined."""
        again, member.entered = member.entered, True
        member.deliver, member.away_since = deliver, None
        if not again:
            self._tell(member, {"joined": member.id, "role": member.role})
        while member.waiting:
            deliver(member.waiting.popleft())

    def route(self, member: Member, message: Any) -> None:
        """Pass ``{"to": id, "data": …}`` on as ``{"from": id, "data": …}``. Raises Denied for anything else, and too much of it."""
        if member._returned_by is not None:
            self._keys.pop(member._returned_by, None)
            member._returned_by = None
        now = self._clock()
        gained = (now - member._filled) / _SECOND * self.bounds.rate
        member._tokens, member._filled = min(self.bounds.burst, member._tokens + gained) - 1, now
        if member._tokens < 0:
            raise Denied(f"more than {self.bounds.rate:g} messages per second")
        if not isinstance(message, dict) or not isinstance(message.get("to"), str) or "data" not in message:
            raise Denied('a message is {"to": member, "data": …}')
        other = self._rooms.get(member.room, {}).get(message["to"])
        if other is None:
            return  # it has just left, and that is on its way
        try:
            self._post(other, {"from": member.id, "data": message["data"]})
        except RecursionError:  # it could just be read
            raise Denied("a message is nested too deeply") from None

    def away(self, member: Member) -> None:
        """The member's connection is lost; it has `Bounds.away_seconds` to come back."""
        member.deliver, member.away_since = None, self._clock()

    def leave(self, member: Member) -> None:
        """The member has gone; the others hear it. Idempotent."""
        members = self._rooms.get(member.room, {})
        if members.pop(member.id, None) is None:
            return
        member.deliver = None
        self._forget_keys(member)
        self._tell(member, {"left": member.id})
        if not members:
            self._rooms.pop(member.room, None)

    def sweep(self) -> None:
        """Members that were away too long leave."""
        oldest = self._clock() - int(self.bounds.away_seconds * _SECOND)
        for members in list(self._rooms.values()):
            for member in list(members.values()):
                if member.away_since is not None and member.away_since <= oldest:
                    self.leave(member)

    def _tell(self, member: Member, message: dict[str, Any]) -> None:
        for other in self.others(member):
            self._post(other, message)

    def _post(self, member: Member, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        if member.deliver is not None and not member.deliver(text):
            self.away(member)
        if member.away_since is not None:
            member.waiting.append(text)
            while self.full(len(member.waiting), sum(map(len, member.waiting))):
                member.waiting.popleft()

    def full(self, count: int, size: int) -> bool:
        """Whether so many messages of so many bytes are more than may wait for a member."""
        return count > self.bounds.waiting or size > self.bounds.waiting_bytes

    def _forget_keys(self, member: Member, but: bytes | None = None) -> None:
        self._keys = {digest: owner for digest, owner in self._keys.items() if owner is not member or digest == but}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _find(table: dict[bytes, Any], token: Any) -> bytes | None:
    """The entry of a token; looks at all of them, and at each for the same time."""
    wanted = _digest(token) if isinstance(token, str) else b""
    found = [digest for digest in table if hmac.compare_digest(digest, wanted)]
    return found[0] if found else None
