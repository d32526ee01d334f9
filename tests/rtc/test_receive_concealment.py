"""Lost sound is made up: by the Opus decoder, or by repetition."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import given
from hypothesis import strategies as st

from avlab.media.rtc.concealment import Repetition, opus_duration, opus_lost
from avlab.media.rtc.decoding import WAITING, Decoding, duration
from avlab.media.rtc.jitter import Encoded

OPUS = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=96)
PCMU = RTCRtpCodecParameters(mimeType="audio/PCMU", clockRate=8000, channels=1, payloadType=0)


def tone(rate: int, seconds: float, hertz: float = 440) -> np.ndarray:
    return (10000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def encoded(codec: str, rate: int, channels: int, size: int) -> list[bytes]:
    """One second of a tone in packets of ``size`` samples."""
    encoder = av.CodecContext.create(codec, "w")
    layout = "stereo" if channels == 2 else "mono"
    encoder.format, encoder.layout, encoder.sample_rate, encoder.time_base = "s16", layout, rate, Fraction(1, rate)
    packets = []
    for at in range(0, rate, size):
        block = np.repeat(tone(rate, 1)[at : at + size], channels)[None]
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def decoded(codec: RTCRtpCodecParameters, jobs: list[Encoded]) -> tuple[list, Decoding]:
    frames, all_there = [], threading.Event()

    def deliver(frame, _):
        frames.append(frame)
        if len(frames) == len(jobs):
            all_there.set()

    decoding = Decoding("test", codec.clockRate, deliver, all_there.set)
    try:
        for job in jobs:
            assert decoding.put(job)
        assert all_there.wait(10)
    finally:
        decoding.close()
    return frames, decoding


@pytest.mark.parametrize(
    ("codec", "name", "channels", "size"),
    [(OPUS, "libopus", 2, 960), (PCMU, "pcm_mulaw", 1, 160)],
    ids=["opus", "pcmu"],
)
def test_what_is_lost_is_made_up_in_its_place_and_fades(codec, name, channels, size):
    packets = encoded(name, codec.clockRate, channels, size)
    lost = range(20, 30)
    jobs = [
        Encoded(number * size, None if number in lost else packet, 0.0, size, codec)
        for number, packet in enumerate(packets[:40])
    ]
    frames, _ = decoded(codec, jobs)
    assert [frame.pts for frame in frames] == [job.ticks for job in jobs]
    assert {frame.samples for frame in frames} == {size}
    assert all(frame.time_base == Fraction(1, codec.clockRate) for frame in frames)
    level = [float(np.abs(frame.to_ndarray().astype(float)).mean()) for frame in frames]
    assert 0.7 * level[19] < level[20] < 1.3 * level[19]  # 20 ms are hardly heard
    assert level[29] < 0.4 * level[19]  # 200 ms are silence, or nearly
    assert 0.7 * level[19] < level[39] < 1.3 * level[19]


def test_an_empty_opus_packet_lasts_as_long_as_those_before():
    for first in range(256):
        packet = bytes([first, 2]) + b"x" * 10
        assert opus_duration(opus_lost(packet)) * {0: 1, 1: 2, 2: 2, 3: 2}[first & 3] == opus_duration(packet)
    with pytest.raises(ValueError, match="at least one byte"):
        duration(OPUS, b"")
    with pytest.raises(ValueError, match="second byte"):
        duration(OPUS, b"\x03")
    assert duration(PCMU, b"x" * 160) == 160


@pytest.mark.parametrize(
    ("codec", "payload"), [(OPUS, b"\x03\x00"), (OPUS, b"\x1b\x3f"), (PCMU, b"")], ids=["none", "too much", "pcmu"]
)
def test_a_packet_that_lasts_no_time_or_longer_than_any_can_is_refused(codec, payload):
    with pytest.raises(ValueError, match=r"up to 5760|without sound"):
        duration(codec, payload)


def picture(width: int, height: int) -> bytes:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 30)
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
    return b"".join(map(bytes, encoder.encode(av.VideoFrame(width, height, "yuv420p"))))


def test_a_picture_that_claims_to_be_larger_than_any_screen_gets_no_memory(monkeypatch):
    monkeypatch.setattr("avlab.media.rtc.decoding.MOST_PIXELS", 64 * 48)
    h264 = RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=97)
    failed, came = threading.Event(), threading.Event()
    decoding = Decoding("test", 90000, lambda frame, _: came.set(), failed.set)
    try:
        decoding.put(Encoded(0, picture(80, 64), 0.0, codec=h264))
        assert failed.wait(5)
        assert not came.is_set()
        decoding.put(Encoded(3000, picture(64, 48), 0.0, codec=h264))
        assert came.wait(5)
    finally:
        decoding.close()


@given(hertz=st.floats(70, 400), cut=st.integers(400, 2000))
def test_repetition_goes_on_without_a_click(hertz, cut):
    rate = 8000
    sound = tone(rate, 1, hertz)[:, None]
    repetition = Repetition(rate)
    for at in range(cut, cut + 1600, 160):
        repetition.heard(sound[at : at + 160])
    made = repetition.lost(160)
    joined = np.concatenate([sound[cut + 1440 : cut + 1600], made])[:, 0].astype(int)
    steepest = int(np.abs(np.diff(sound[:, 0].astype(int))).max())
    assert np.abs(np.diff(joined)).max() <= 2.5 * steepest
    made = np.concatenate([repetition.lost(160) for _ in range(3)])
    assert np.abs(made[-160:]).max() == 0


def test_before_anything_was_heard_there_is_silence():
    assert not Repetition(8000).lost(160).any()


def test_a_picture_that_does_not_decode_is_told_and_the_next_one_is_decoded():
    vp8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p", Fraction(1, 30)
    encoder.options = {"lag-in-frames": "0", "deadline": "realtime"}
    (good,) = encoder.encode(av.VideoFrame(64, 48, "yuv420p"))
    failed, came = threading.Event(), threading.Event()
    decoding = Decoding("test", 90000, lambda frame, _: came.set(), failed.set)
    try:
        decoding.put(Encoded(0, b"\xff" * 50, 0.0, codec=vp8))
        assert failed.wait(5)
        decoding.put(Encoded(3000, bytes(good), 0.0, codec=vp8))
        assert came.wait(5)
    finally:
        decoding.close()
    assert decoding.errors == 1


def test_a_decoder_that_is_too_slow_refuses_more():
    held, waits = threading.Event(), threading.Event()

    def slow(frame, _):
        waits.set()
        held.wait(10)

    decoding = Decoding("test", 8000, slow, waits.set)
    jobs = [Encoded(number * 160, b"\xff" * 160, 0.0, 160, PCMU) for number in range(WAITING + 2)]
    try:
        assert decoding.put(jobs[0])
        assert waits.wait(5)
        taken = [decoding.put(job) for job in jobs[1:]]
    finally:
        held.set()
        decoding.close()
    assert taken == [True] * WAITING + [False]
