"""What a peer takes from the other side."""

import pytest

from avlab.core.errors import ConfigError, MediaError
from avlab.media.rtc.policy import MAX_CANDIDATES, allowed, clean, servers, usable, with_bitrate


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "169.254.1.1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_loopback_and_link_local_need_permission(address):
    assert not allowed(address, loopback=False)
    assert allowed(address, loopback=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "::ffff:169.254.169.254",
        "224.0.0.251", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "abc.local", "example.org", "", "1.2.3",
    ],
)  # fmt: skip
def test_metadata_services_names_and_many_receivers_are_never_addressed(address):
    assert not allowed(address, loopback=False)
    assert not allowed(address, loopback=True)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.1.5", "172.20.0.2", "203.0.113.9", "2001:db8::1", "fd00::2"])
def test_ordinary_addresses_are_allowed(address):
    assert allowed(address, loopback=False)


def test_candidates_are_for_udp_and_a_real_port():
    assert usable("1 1 udp 2130706431 10.0.0.1 5000 typ host", loopback=False)
    for bad in (
        "1 1 tcp 1 10.0.0.1 9 typ host",
        "1 1 udp 1 10.0.0.1 0 typ host",
        "1 1 udp 1 10.0.0.1 x typ host",
        "1 1 udp",
    ):
        assert not usable(bad, loopback=True)


OFFER = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{}a=end-of-candidates\r\na=mid:0\r\n"


def test_refused_candidates_leave_the_description_and_it_stays_open():
    kept = "a=candidate:1 1 udp 1 10.0.0.1 5000 typ host\r\n"
    hidden = "a=candidate:2 1 udp 1 0f3c-11.local 5000 typ host\r\n"
    assert clean(OFFER.format(kept), loopback=False) == OFFER.format(kept)
    text = clean(OFFER.format(kept + hidden), loopback=False)
    assert kept in text and ".local" not in text and "end-of-candidates" not in text


def test_a_description_has_bounds():
    with pytest.raises(MediaError, match="candidates"):
        clean(OFFER.format("a=candidate:1 1 udp 1 10.0.0.1 5 typ host\r\n" * (MAX_CANDIDATES + 1)), loopback=True)
    with pytest.raises(MediaError, match="sections"):
        clean("v=0\r\n" + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 17, loopback=True)
    with pytest.raises(MediaError, match="characters"):
        clean("v=0" + " " * 200_000, loopback=True)


def test_a_browser_is_asked_for_full_size_with_every_video_codec():
    text = with_bitrate(
        "a=rtpmap:96 opus/48000/2\r\na=rtpmap:97 VP8/90000\r\na=rtpmap:98 rtx/90000\r\na=fmtp:98 apt=97\r\n"
        "a=rtpmap:99 H264/90000\r\na=fmtp:99 packetization-mode=1\r\n",
        2500,
        1000,
    )
    wish = "x-google-start-bitrate=2500;x-google-min-bitrate=1000"
    assert f"a=rtpmap:97 VP8/90000\r\na=fmtp:97 {wish}\r\n" in text
    assert f"a=fmtp:99 packetization-mode=1;{wish}\r\n" in text
    assert text.count(wish) == 2


def test_servers_are_always_a_list():
    assert servers(()) == []
    server = {"urls": "turn:host:3478", "username": "u", "credential": "c"}
    assert servers([server]) == [server]
    for wrong in ({}, {"urls": []}, {"urls": "http://host"}, "turn:host"):
        with pytest.raises(ConfigError, match="ice_servers"):
            servers([wrong])
