"""What a peer takes from the other side: which candidates, how large a description; and which servers it may ask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from aiortc import RTCIceServer

from avlab.core.errors import ConfigError, MediaError

MAX_DESCRIPTION = 128 << 10
"""Largest description (SDP) that is read, in characters."""
MAX_CANDIDATES = 64
"""Most candidates of one remote description or peer: each costs this side packets to an address the other side names."""
MAX_SECTIONS = 16
"""Most media sections of one remote description: each costs this side a transport and its sockets."""
_METADATA = [
    ip_network(text)
    for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
]
_TRANSLATED = ip_network("64:ff9b::/96")  # NAT64 (RFC 6052): the last 32 bits are an IPv4 address
_CANDIDATE = re.compile(r"a=candidate:(.*)", re.IGNORECASE)
_VIDEO_CODEC = re.compile(r"a=rtpmap:(\d+) (VP8|VP9|H264|AV1)/90000", re.IGNORECASE)


def allowed(address: str, *, loopback: bool) -> bool:
    """Whether packets may be sent to an address that a remote peer has named.

    Never: names (``.local`` and others), metadata services of clouds, multicast, unspecified and broadcast addresses.
    Only with ``loopback``: loopback and link-local addresses. IPv4 addresses inside IPv6 ones are judged as what they are.
    """
    try:
        ip = _plain(ip_address(address))
    except ValueError:
        return False
    if ip.is_multicast or ip.is_unspecified or ip == IPv4Address("255.255.255.255"):
        return False
    if any(ip in network for network in _METADATA):
        return False
    return loopback or not (ip.is_loopback or ip.is_link_local)


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _TRANSLATED:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip


def usable(candidate: str, *, loopback: bool) -> bool:
    """Whether the text of a candidate (what follows ``candidate:``) is one for UDP to an address that is `allowed`."""
    words = candidate.split()
    return (
        len(words) >= 8
        and words[2].lower() == "udp"
        and words[5].isdecimal()
        and 0 < int(words[5]) < 65536
        and allowed(words[4].partition("%")[0], loopback=loopback)
    )


def clean(sdp: str, *, loopback: bool) -> str:
    """A remote description without the candidates that are not `usable`. Raises MediaError when it is none, or too large.

    Where one was dropped, more may come (a browser that hides its addresses still reaches us, and is then known): the end
    of its candidates is not announced.
    """
    if isinstance(sdp, str) and len(sdp) > MAX_DESCRIPTION:
        raise MediaError(f"the other peer's description has {len(sdp)} characters, {MAX_DESCRIPTION} are allowed")
    if not isinstance(sdp, str) or not sdp.startswith("v=0") or "\nm=" not in sdp:
        raise MediaError("the other peer's description is no SDP: copy the whole text, from its first line to its last")
    if (sections := sdp.count("\nm=")) > MAX_SECTIONS:
        raise MediaError(f"the other peer's description has {sections} media sections, {MAX_SECTIONS} are allowed")
    lines, dropped, seen = [], False, 0
    for line in sdp.replace("\r\n", "\n").split("\n"):
        if match := _CANDIDATE.match(line):
            seen += 1
            if seen > MAX_CANDIDATES:
                raise MediaError(f"the other peer's description has more than {MAX_CANDIDATES} candidates")
            if not usable(match[1], loopback=loopback):
                dropped = True
                continue
        lines.append(line)
    if dropped:
        lines = [line for line in lines if line != "a=end-of-candidates"]
    return "\r\n".join(lines)


def with_bitrate(sdp: str, start: int, minimum: int) -> str:
    """A description that asks a Chromium at the other end to start sending video at ``start`` and to keep ``minimum`` kbit/s.

    Without it a camera's 720p arrives as 480x270 for the first seconds.
    """
    lines = sdp.split("\r\n")
    wish = f"x-google-start-bitrate={start};x-google-min-bitrate={minimum}"
    written = {match[1] for line in lines if (match := re.match(r"a=fmtp:(\d+) ", line))}
    result = []
    codecs = {match[1] for line in lines if (match := _VIDEO_CODEC.match(line))}
    for line in lines:
        if (match := re.match(r"a=fmtp:(\d+) ", line)) and match[1] in codecs:
            line = f"{line};{wish}"
        result.append(line)
        if (match := _VIDEO_CODEC.match(line)) and match[1] not in written:
            result.append(f"a=fmtp:{match[1]} {wish}")
    return "\r\n".join(result)


def servers(ice_servers: Sequence[Mapping[str, Any]]) -> list[RTCIceServer]:
    """STUN and TURN servers in the browser's notation (``urls``, ``username``, ``credential``); none for none.

    Always a list: without one, aiortc would ask a public STUN server. Raises ConfigError for what is no server.
    """
    result = []
    for server in ice_servers:
        urls = server.get("urls") if isinstance(server, Mapping) else None
        listed = [urls] if isinstance(urls, str) else list(urls or ())
        if not listed or not all(isinstance(url, str) and re.match(r"(stun|turn)s?:[^\s]+$", url) for url in listed):
            raise ConfigError(
                f"ice_servers: {server!r} is no server: write {{'urls': 'turn:host:3478', 'username': …, 'credential': …}}"
            )
        result.append(RTCIceServer(listed, server.get("username"), server.get("credential")))
    return result
