"""What tests run and ask in a real browser."""

import shutil
import wave
from pathlib import Path

import numpy as np

import avlab

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
FAKE_DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
TONE = (8000 * np.sin(np.arange(96000) * 2 * np.pi * 440 / 48000)).astype("<i2")
# The number that TestSource draws into a picture, read from the pixels that are shown; -1 when there is none.
NUMBER = """(element) => {
  const [width, height] = [element.videoWidth || element.width, element.videoHeight || element.height];
  if (!width || !height) return -1;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, Math.ceil(height / 12)];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(element, 0, 0);
  const row = context.getImageData(0, Math.floor(height / 24), width, 1).data;
  const marks = Array.from({ length: 24 }, (_, i) => (row[4 * Math.floor(((2 * i + 1) * width) / 48)] > 128 ? 1 : 0));
  const bits = marks.slice(2, 22);
  if (!marks[0] || marks[1] || bits.reduce((a, b) => a + b) % 4 !== 2 * marks[22] + marks[23]) return -1;
  return bits.reduce((number, bit) => 2 * number + bit, 0);
}"""
# For the beginning of a page: keeps its connections for `GOT`, and counts what it decodes by itself.
KEEP = """
window.kept = [];
window.decoded = { h264: 0, jpeg: 0 };
if (window.RTCPeerConnection) {
  const All = RTCPeerConnection;
  window.RTCPeerConnection = class extends All { constructor(...given) { super(...given); kept.push(this); } };
}
if (window.VideoDecoder) {
  const decode = VideoDecoder.prototype.decode;
  VideoDecoder.prototype.decode = function (chunk) {
    decoded.h264++;
    return decode.call(this, chunk);
  };
}
const bitmap = window.createImageBitmap;
window.createImageBitmap = (blob, ...rest) => {
  if (blob.type === 'image/jpeg') decoded.jpeg++;
  return bitmap(blob, ...rest);
};
"""
# What getStats() says of the newest connection: the types of the selected pair's candidates, how the relay is reached, what came.
GOT = """async () => {
  const connection = window.kept.at(-1);
  const nothing = { state: 'none', local: '', remote: '', relay: '', bytes: 0, video: 0, came: 0, pictures: 0, sound: 0, ...window.decoded };
  if (!connection) return nothing;
  const reports = await connection.getStats();
  const all = [...reports.values()];
  const pair = reports.get(all.find((each) => each.type === 'transport')?.selectedCandidatePairId) ?? {};
  const [local, remote] = [pair.localCandidateId, pair.remoteCandidateId].map((id) => reports.get(id) ?? {});
  const inbound = (kind) => all.find((each) => each.type === 'inbound-rtp' && each.kind === kind) ?? {};
  return {
    ...nothing, state: connection.connectionState, local: local.candidateType ?? '', remote: remote.candidateType ?? '',
    relay: local.relayProtocol ?? '', bytes: pair.bytesReceived ?? 0, video: inbound('video').bytesReceived ?? 0,
    came: inbound('video').framesReceived ?? 0, pictures: inbound('video').framesDecoded ?? 0, sound: inbound('audio').packetsReceived ?? 0,
  };
}"""


def chromium() -> str:
    """The browser's program. Its absence fails the test."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium on PATH: make test installs Debian's package chromium"
    return program


def numbered(
    folder: Path,
    sound: np.ndarray = TONE,
    size: tuple[int, int] = (1280, 720),
    rate: int = 30,
    seconds: int = 2,
) -> list[str]:
    """Flags of a browser whose camera shows TestSource's numbers and whose microphone hears a sound (48 kHz, int16), over and over."""
    pictures, heard = folder / "numbers.y4m", folder / "sound.wav"
    with pictures.open("wb") as file:
        file.write(f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for item in avlab.TestSource(size=size, rate=rate, audio=False, duration=seconds).items():
            file.write(b"FRAME\n" + item.value.to_ndarray().tobytes())
    with wave.open(str(heard), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(sound.tobytes())
    return [f"--use-file-for-fake-video-capture={pictures}", f"--use-file-for-fake-audio-capture={heard}"]
