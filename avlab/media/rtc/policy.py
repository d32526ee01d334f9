"""What a peer takes from the other side: which candidates, how large a description; and which servers it may ask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from avlab.core.errors import ConfigError, MediaError

MAX_DESCRIPTION = 128 << 10
"""Largest description (SDP) that is read, in characters."""
MAX_CANDIDATES = 64
"""Most candidates of one remote description or peer: each costs this side packets to an address the other side names."""
MAX_SECTIONS = 16
"""Most media sections of one remote description: each costs this side a transport and its sockets."""
MAX_COMPARISONS = 200_000
"""Most that a remote description may make its parser compare: every codec of a section with every line about codecs, and every
source with those before it. A browser's section with all its codecs takes 7,000."""
_FIRST_PORT = 1024  # below are services of systems (name servers, time servers) that answer whoever knocks; peers are never there
_NEVER = [
    ip_network(text)
    for text in (
        "0.0.0.0/8", "240.0.0.0/4",  # this host, reserved and broadcast
        "169.254.0.23", "169.254.42.42", "169.254.169.0/24", "169.254.170.0/24", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "fd00:ec2::/32", "fd20:ce::254", "fe80::a9fe:a9fe",  # metadata services of clouds
    )
]  # fmt: skip
# NAT64 (RFC 6052, RFC 8215) and IPv4-compatible addresses (RFC 4291): the last 32 bits are an IPv4 address.
_TRANSLATED = [ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("::/96")]
_ISATAP = (0x5EFE, 0x2005EFE)  # RFC 5214: bits 32 to 63 from the right; the last 32 bits are an IPv4 address
_CANDIDATE = re.compile(r"a=candidate:(.*)", re.IGNORECASE)
_VIDEO_CODEC = re.compile(r"a=rtpmap:(\d+) (VP8|VP9|H264|AV1)/90000", re.IGNORECASE)
_SECTION = re.compile(r"^m=", re.MULTILINE)
_SENT = re.compile(r"\A(?!video)|^a=rtpmap:\d+ H264/90000", re.IGNORECASE | re.MULTILINE)


def room(offer: str) -> frozenset[str]:
    """What an offer has sections for: ``audio``, ``application`` (DataChannels), ``video`` (with H.264: nothing else is sent)."""
    sections = _SECTION.split(offer)[1:] if isinstance(offer, str) else []
    return frozenset(section.split(" ", 1)[0] for section in sections if _SENT.search(section))


def allowed(address: str, *, loopback: bool) -> bool:
    """Whether packets may be sent to an address that a remote peer has named.

    Never: names (``.local`` and others), metadata services of clouds, multicast, unspecified, reserved and broadcast addresses.
    Only with ``loopback``: loopback and link-local addresses. IPv4 addresses inside IPv6 ones are judged as what they are.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if "%" in address and not ip.is_link_local:  # a scope has no meaning elsewhere
        return False
    return all(_fit(each, loopback) for each in (ip, *_inside(ip)))


def _fit(ip: IPv4Address | IPv6Address, loopback: bool) -> bool:
    if ip.is_multicast or ip.is_unspecified or any(ip in network for network in _NEVER):
        return False
    return loopback or not (ip.is_loopback or ip.is_link_local)


def _inside(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may end up at."""
    if isinstance(ip, IPv4Address) or ip.is_loopback:
        return []
    number = int(ip)
    found = [each for each in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if each is not None]
    if any(ip in network for network in _TRANSLATED) or number >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(IPv4Address(number & 0xFFFFFFFF))
    return found


def usable(candidate: str, *, loopback: bool) -> bool:
    """Whether the text of a candidate (what follows ``candidate:``) is one for UDP to an address that is `allowed` and a port above
    those of system services."""
    words = candidate.split()
    return (
        len(words) >= 8
        and words[2].lower() == "udp"
        and words[5].isascii()
        and words[5].isdecimal()
        and len(words[5]) <= 5
        and _FIRST_PORT <= int(words[5]) < 65536
        and allowed(words[4], loopback=loopback)
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
    given = sdp.splitlines()  # as aiortc does: other line ends must hide nothing
    if (sections := sum(line.startswith("m=") for line in given)) > MAX_SECTIONS:
        raise MediaError(f"the other peer's description has {sections} media sections, {MAX_SECTIONS} are allowed")
    if (work := _comparisons(given)) > MAX_COMPARISONS:
        raise MediaError(f"the other peer's description has too many codecs or sources: {work} comparisons, {MAX_COMPARISONS} are allowed")
    lines, dropped, seen = [], False, 0
    for line in given:
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
    return "\r\n".join(lines) + "\r\n"


def _comparisons(lines: Sequence[str]) -> int:
    codecs = about = sources = total = 0
    for line in (*lines, "m="):
        if line.startswith("m="):
            total += codecs * about + sources * sources
            codecs = about = sources = 0
        codecs += line.startswith("a=rtpmap:")
        about += line.startswith(("a=fmtp:", "a=rtcp-fb:"))
        sources += line.startswith("a=ssrc:")
    return total


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


def servers(ice_servers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """STUN and TURN servers in the browser's notation (``urls``, ``username``, ``credential``), checked; none for none.

    Raises ConfigError for what is no server.
    """
    result = []
    if isinstance(ice_servers, str | Mapping) or not isinstance(ice_servers, Iterable):
        raise ConfigError("ice_servers is a list of servers, each {'urls': …, 'username': …, 'credential': …}")
    for server in ice_servers:
        urls = server.get("urls") if isinstance(server, Mapping) else None
        listed = [urls] if isinstance(urls, str) else list(urls or ())
        if not listed or not all(isinstance(url, str) and re.match(r"(stun|turn)s?:[^\s]+$", url) for url in listed):
            # The credential is not for messages and logs.
            what = f"urls {urls!r}" if isinstance(server, Mapping) else f"a {type(server).__name__}"
            raise ConfigError(
                f"ice_servers: {what} is no server: write {{'urls': 'turn:host:3478', 'username': …, 'credential': …}}"
            )
        result.append(dict(server))
    return result
