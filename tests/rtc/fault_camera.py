"""Chromium as a camera behind a network with faults: what our receiver, or aiortc alone, makes of it.

The page paints pictures that carry their numbers and plays sound that tells its time; both begin at one moment.
"""

import asyncio
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from aiortc.mediastreams import MediaStreamError
from fault_lab import FPS, Detour, Lab, Record
from telling_sound import RATE, Heard

import avlab
from avlab.media.rtc.receive import Receiver
from avlab.media.sources.test import read_frame_number
from avlab.testing.between import PeerRelay

OURS, LIPS, STOCK = "avlab", "avlab, lips", "aiortc"
# `offer` is what all our pages use; aiortc alone gets the browser's own.
CALL = Path(__file__).with_name("telling_camera.js").read_text()
HEARD = "async (sdp) => await window.pc.setRemoteDescription({ type: 'answer', sdp })"


class Camera:
    """What comes from a page's camera: (when, seconds in the stream, frame) of each track."""

    def __init__(self, lab: Lab, relay: PeerRelay, receiver: str) -> None:
        self.seen: dict[str, list[tuple[float, float, object]]] = {"video": [], "audio": []}
        self.enough = threading.Event()
        self._lab, self._relay, self._ours = lab, relay, receiver != STOCK
        self._sync = "lips" if receiver == LIPS else "low-latency"
        self._tasks: list[asyncio.Task] = []
        self.page = lab.page()
        self.page.goto(lab.server.url)
        self.offer = self.page.evaluate(CALL, self._ours)
        self.page.evaluate(HEARD, lab.runtime.run(self._answer(self.offer)))

    async def _answer(self, sdp: str) -> str:
        self._peer = Detour(loopback=True)
        self._peer.relay = self._relay
        self._receiver = Receiver(self._peer.connection, sync=self._sync) if self._ours else None
        if not self._ours:
            self._peer.connection.on("track", lambda track: self._begin(self._read(track)))
        answer = await self._peer.answer(sdp)
        if self._receiver is not None:
            self._begin(self._take())
        return answer

    def _begin(self, work) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _note(self, kind: str, frame: object, at: float) -> None:
        self.seen[kind].append((time.monotonic(), at, frame))
        if len(self.seen["video"]) > FPS and len(self.seen["audio"]) > 50:
            self.enough.set()

    async def _take(self) -> None:
        async for item in self._receiver.items():
            self._note(item.track, item.value, item.time)

    async def _read(self, track) -> None:
        try:
            while True:
                frame = await track.recv()
                self._note(track.kind, frame, float(frame.pts * frame.time_base))
        except MediaStreamError:
            return

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.page.wait_for_timeout(seconds * 1000)

    def record(self) -> Record:
        """So far. Pictures count when they are delivered; sound that did not come is silence in its place."""
        pictures = []
        for at, _, frame in list(self.seen["video"]):
            try:
                pictures.append((at, read_frame_number(frame)))
            except avlab.MediaError:  # damaged on the way
                continue
        sound = list(self.seen["audio"])
        first = sound[0][1]
        samples = np.zeros(int((max(at for _, at, _ in sound) - first + 1) * RATE), np.float32)
        for _, at, frame in sound:
            block = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0] / 32768
            begin = round((at - first) * RATE)
            samples[begin : begin + len(block)] = block
        when, late = np.array([(when, when - at) for when, at, _ in sound]).T
        usual = float(np.median(late))

        def moved(begin: float, end: float) -> float:
            part = late[(when >= begin) & (when < end)]
            return float(np.median(part)) - usual if len(part) else 0.0

        return Record(pictures, Heard.of(samples, first + usual), moved)

    def close(self) -> None:
        """End the page and the connection."""
        self.page.context.close()
        self._lab.runtime.run(self._close())

    async def _close(self) -> None:
        if self._receiver is not None:
            await self._receiver.close()
        await self._peer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def filmed(lab: Lab, receiver: str = OURS, *, seed: int = 1):
    """A camera behind a network: the camera, the relay."""
    with PeerRelay(seed=seed) as relay:
        camera = Camera(lab, relay, receiver)
        try:
            for _ in range(200):
                if camera.enough.is_set():
                    break
                camera.wait(0.1)
            else:
                raise AssertionError({kind: len(seen) for kind, seen in camera.seen.items()}, relay.statistics())
            yield camera, relay
        finally:
            camera.close()
