"""aiortc alone as the sender to Chromium, and a page that only plays: what `WebRTCSink` and the served page are to be compared with."""

import asyncio
import time
from contextlib import ExitStack, contextmanager

import av
from aiortc import MediaStreamTrack
from fault_lab import FPS, SIZE, TAP, Detour, Lab, Telling, View

import avlab
from avlab.testing.between import PeerRelay

ASKS = """async () => {
  const video = Object.assign(document.createElement("video"), { id: "video", autoplay: true, playsInline: true });
  document.body.replaceChildren(video);
  const pc = (window.pc = new RTCPeerConnection({ iceServers: [] }));
  for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
  pc.ontrack = ({ streams: [stream] }) => { video.srcObject = stream; };
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}"""
HEARD = "async (sdp) => await window.pc.setRemoteDescription({ type: 'answer', sdp })"


class Track(MediaStreamTrack):
    """Frames of one kind, the newest when aiortc is slow."""

    def __init__(self, kind: str, depth: int) -> None:
        super().__init__()
        self.kind, self._frames = kind, asyncio.Queue(depth)

    def put(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """One more."""
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def recv(self) -> av.VideoFrame | av.AudioFrame:
        """As aiortc asks for it."""
        return await self._frames.get()


class Sender(View):
    """aiortc → network → a page."""

    def __init__(self, lab: Lab, relay: PeerRelay) -> None:
        self._lab, self._relay = lab, relay
        self.page = lab.page()
        self.page.goto(lab.server.url)
        answer = lab.runtime.run(self._answer(self.page.evaluate(ASKS)))
        self.page.evaluate(HEARD, answer)
        self.page.evaluate(TAP)

    async def _answer(self, sdp: str) -> str:
        self._peer = Detour(loopback=True)
        self._peer.relay = self._relay
        self._tracks = {"video": Track("video", 2), "audio": Track("audio", 10)}
        for track in self._tracks.values():
            self._peer.connection.addTrack(track)
        answer = await self._peer.answer(sdp)
        self._sending = asyncio.create_task(self._send())
        return answer

    async def _send(self) -> None:
        source = avlab.TestSource(size=SIZE, rate=FPS, realtime=True) >> Telling()
        async for item in source.stream():
            self._tracks[item.track].put(item.value)

    def close(self) -> None:
        """End the page and the connection."""
        self.page.context.close()
        self._lab.runtime.run(self._close())

    async def _close(self) -> None:
        self._sending.cancel()
        await self._peer.close()
        await asyncio.gather(self._sending, return_exceptions=True)


@contextmanager
def sent(lab: Lab, *, seed: int = 1):
    """A page behind a network, and aiortc alone that sends to it: the view, the relay."""
    with ExitStack() as stack:
        relay = stack.enter_context(PeerRelay(seed=seed))
        view = Sender(lab, relay)
        stack.callback(view.close)
        end = time.monotonic() + 20
        while not view.ready():
            assert time.monotonic() < end, relay.statistics()
            view.wait(0.1)
        yield view, relay
