"""Candidates and servers that try to get past the policy."""

import pytest

from avlab.core.errors import ConfigError, MediaError
from avlab.media.rtc.policy import MAX_SECTIONS, allowed, clean, servers, usable

HEAD = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
EVIL = "a=candidate:1 1 udp 1 169.254.169.254 80 typ host"
LINE_ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1", "240.0.0.1", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "::ffff:255.255.255.255",  # this host, everybody
        "169.254.169.123", "169.254.170.23", "169.254.0.23", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe",  # clouds
        "fe80::a9fe:a9fe%eth0", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
        "2001:0:5601:5601::5601:5601", "fe80::5efe:a9fe:a9fe", "2001:db8::200:5efe:a9fe:a9fe",  # inside IPv6
        "2001:db8::1%eth0", "10.0.0.1%eth0", "0x7f.1", "2130706433", "127.1", "010.0.0.1", "１０.0.0.1", "localhost",
    ],
)  # fmt: skip
def test_disguised_addresses_are_refused_even_where_loopback_is_allowed(address):
    assert not allowed(address, loopback=True)
    assert not usable(f"1 1 udp 1 {address} 5000 typ host", loopback=True)


@pytest.mark.parametrize("address", ["::127.0.0.1", "2001:0:7f00:1::1", "fe80::5efe:7f00:1", "fe80::1%eth0"])
def test_loopback_inside_ipv6_is_loopback(address):
    assert not allowed(address, loopback=False)


@pytest.mark.parametrize("port", ["0", "00", "-1", "65536", "99999999999999999999", "٥٠٠٠", "5000.0", "+5000", "53", "123", "1023"])
def test_a_port_is_a_plain_number_and_no_system_service(port):
    assert usable("1 1 udp 1 10.0.0.1 1024 typ host", loopback=False)
    assert not usable(f"1 1 udp 1 10.0.0.1 {port} typ host", loopback=True)


@pytest.mark.parametrize("kind", ["tcp", "TCP", "ssltcp", "tls", "udp6", "ｕｄｐ", "1"])
def test_candidates_are_for_udp(kind):
    assert not usable(f"1 1 {kind} 1 10.0.0.1 5000 typ host tcptype passive", loopback=True)


@pytest.mark.parametrize("end", LINE_ENDS)
def test_no_kind_of_line_end_hides_a_candidate_or_a_section(end):
    text = clean(f"{HEAD}a=mid:0{end}{EVIL}{end}a=x:y\r\n", loopback=True)
    assert "169.254.169.254" not in text
    assert text.splitlines() == [*HEAD.splitlines(), "a=mid:0", "a=x:y"]
    with pytest.raises(MediaError, match="sections"):
        clean(HEAD + end + f"m=audio 9 UDP/TLS/RTP/SAVPF 0{end}" * (MAX_SECTIONS + 1), loopback=True)


def test_errors_about_servers_do_not_tell_credentials():
    for wrong in ({"urls": "http://x", "credential": "hunter2"}, {"username": "hunter2"}, "turn:hunter2"):
        with pytest.raises(ConfigError) as caught:
            servers([wrong])
        assert "hunter2" not in str(caught.value)
    for none in ({"urls": "turn:x"}, "turn:x", 5):
        with pytest.raises(ConfigError, match="list"):
            servers(none)
