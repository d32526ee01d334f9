"""What an executor says of itself, and of the sessions and quotas of a tenant; and the bytes of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from google.protobuf.message import DecodeError

import avlab._pb as pb
from avlab.core.errors import CodecError
from avlab.core.headers import MAX_ENTRIES
from avlab.core.scrub import cell
from avlab.core.wire import MAX_HEADER

MAX_TIERS = 64
MAX_STATUS = 1 << 22
"""Bytes of a report that a caller reads."""
_MOST = 1e18


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session. age: seconds; inputs, outputs: items; received (from the caller), sent: bytes of payload; memory: bytes."""

    tenant: str = ""
    session: str = ""
    name: str = ""
    tier: str = ""
    age: float = 0.0
    inputs: int = 0
    outputs: int = 0
    received: int = 0
    sent: int = 0
    memory: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """One quota of a tenant. most: None for no bound. renewed: seconds until ``used`` begins at 0 again, None for what is in
    use now."""

    tenant: str = ""
    name: str = ""
    used: float = 0.0
    most: float | None = None
    renewed: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What the caller's tenant has in use; for an operator, what all tenants have. uptime: seconds."""

    tenant: str = ""
    operator: bool = False
    uptime: float = 0.0
    tier: str = ""
    sessions: tuple[SessionStatus, ...] = ()
    quotas: tuple[QuotaStatus, ...] = ()


def encode_description(values: Mapping[str, Any], tiers: Iterable[tuple[str, bool, str]]) -> bytes:
    """Description: the reply of Describe, from its scalar fields and (name, available, reason) per tier."""
    proto = pb.Description(**values)
    proto.tiers.extend(pb.TierReport(name=n, available=a, reason=r) for n, a, r in tiers)
    data: bytes = proto.SerializeToString()
    return data


def decode_description(data: bytes) -> tuple[dict[str, Any], list[tuple[str, bool, str]]]:
    """The reverse of `encode_description`; texts are bounded and `scrubbed`, on one line. Raises CodecError."""
    if len(data) > MAX_HEADER:
        raise CodecError(f"a Description of {len(data)} bytes exceeds the limit of {MAX_HEADER} bytes")
    try:
        proto = pb.Description.FromString(data)
    except DecodeError as error:
        raise CodecError(f"a malformed Description: {error}") from None
    if len(proto.tiers) > MAX_TIERS or max(len(proto.nodes), len(proto.pythons)) > MAX_ENTRIES:
        raise CodecError(f"a Description of {len(proto.tiers)} tiers and {len(proto.nodes)} nodes is none")
    values = {field.name: getattr(proto, field.name) for field in proto.DESCRIPTOR.fields if field.name != "tiers"}
    values = {name: cell(value) if isinstance(value, str) else value for name, value in values.items()}
    values["nodes"], values["pythons"] = list(map(cell, proto.nodes)), list(map(cell, proto.pythons))
    return values, [(cell(t.name), t.available, cell(t.reason, 4000)) for t in proto.tiers]


def label(session: str) -> str:
    """The name of a session that may be shown: its own name lets whoever knows it resume the session."""
    return hashlib.sha256(session.encode()).hexdigest()[:12]


def encode_status(status: Status) -> bytes:
    """StatusReport: the reply of Status."""
    values = {f.name: getattr(status, f.name) for f in fields(status) if f.name not in ("sessions", "quotas")}
    proto = pb.StatusReport(**values)
    proto.sessions.extend(pb.SessionStatus(**asdict(session)) for session in status.sessions)
    proto.quotas.extend(pb.QuotaStatus(**asdict(quota)) for quota in status.quotas)
    data: bytes = proto.SerializeToString()
    return data


def decode_status(data: bytes) -> Status:
    """The reverse of `encode_status`. Raises CodecError."""
    if len(data) > MAX_STATUS:
        raise CodecError(f"a status of {len(data)} bytes exceeds the limit of {MAX_STATUS} bytes")
    try:
        proto = pb.StatusReport.FromString(data)
    except DecodeError as error:
        raise CodecError(f"a malformed StatusReport: {error}") from None
    if max(len(proto.sessions), len(proto.quotas)) > MAX_ENTRIES:
        raise CodecError(f"a StatusReport of {len(proto.sessions)} sessions and {len(proto.quotas)} quotas is none")
    sessions = tuple(
        SessionStatus(**{f.name: getattr(s, f.name) for f in fields(SessionStatus)}) for s in proto.sessions
    )
    quotas = tuple(
        QuotaStatus(
            q.tenant,
            q.name,
            q.used,
            q.most if q.HasField("most") else None,
            q.renewed if q.HasField("renewed") else None,
        )
        for q in proto.quotas
    )
    numbers = [proto.uptime, *(n for s in sessions for n in (s.age, s.cpu_seconds))]
    numbers += [n for q in quotas for n in (q.used, q.most, q.renewed) if n is not None]
    if not all(-_MOST <= number <= _MOST for number in numbers):
        raise CodecError("a number in a StatusReport that cannot be")
    return Status(proto.tenant, proto.operator, proto.uptime, proto.tier, sessions, quotas)
