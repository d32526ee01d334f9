"""One contender of `live_delay.py`: serves a page that shows its stream. ``python delay_sender.py avlab|packets|vp8``.

``avlab`` is what a notebook has, the live view and its side with the media; the others are aiortc alone, which is given packets of
x264 or frames that it encodes by itself. All send the same `TestSource`; page and sender talk over one WebSocket.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from avlab_kernel.live.widget import VIEW, module

import avlab
from avlab.core.item import Item
from avlab.flow.graph import Pipeline
from avlab.media.rtc.live import Live

PAGE = Path(__file__).with_name("delay_page.html").read_text(encoding="utf-8")
CLOCK = Fraction(1, 90_000)
painted: dict[int, float] = {}


def note(item: Item) -> None:
    """When a picture was painted, in milliseconds of the clock that the page has too."""
    if item.track == "video":
        painted[item.seq] = time.time() * 1000


class Sent:
    """Messages to the page, from any thread."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self.writer = asyncio.create_task(self._write(socket))

    def __call__(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (message, buffers))

    async def _write(self, socket: web.WebSocketResponse) -> None:
        while True:
            message, buffers = await self._queue.get()
            await socket.send_str(json.dumps({**message, "buffers": len(buffers)}))
            for each in buffers:
                await socket.send_bytes(each)


async def serve_avlab(socket: web.WebSocketResponse) -> None:
    sent = Sent(socket)
    live = Live(sent)

    def put(item: Item) -> None:
        note(item)
        live.put(item)

    live.begin()
    run = Pipeline([avlab.TestSource(realtime=True)]).start(put)
    async for message in socket:
        live.receive(json.loads(message.data))
    sent.writer.cancel()
    await asyncio.to_thread(run.cancel)
    await asyncio.to_thread(live.close)


class Track(MediaStreamTrack):
    """What the source has made last, for aiortc to send."""

    def __init__(self, kind: str, packets: bool) -> None:
        self.kind = kind
        super().__init__()
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Item](3)
        self._encoder = encoder() if packets and kind == "video" else None

    def put(self, item: Item) -> None:
        self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: Item) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(item)

    async def recv(self) -> Any:
        item = await self._queue.get()
        if self._encoder is None:
            return item.value
        item.value.pts, item.value.time_base = int(item.time / CLOCK), CLOCK
        (packet,) = await self._loop.run_in_executor(None, self._encoder.encode, item.value)
        packet.pts, packet.time_base = item.value.pts, CLOCK
        return packet


def encoder() -> Any:
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.bit_rate = 1280, 720, "yuv420p", 2_500_000
    context.time_base, context.framerate, context.gop_size, context.profile = CLOCK, Fraction(30), 60, "Baseline"
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "level": "31"}
    return context


def feed(tracks: dict[str, Track], ended: threading.Event) -> None:
    source = avlab.TestSource(realtime=True)
    items: Iterator[Item] = source.items()
    for item in items:
        if ended.is_set():
            return
        note(item)
        tracks[item.track].put(item)


async def serve_alone(socket: web.WebSocketResponse, packets: bool) -> None:
    offer = json.loads((await socket.receive()).data)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks = {kind: Track(kind, packets) for kind in ("video", "audio")}
    await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
    for track in tracks.values():
        connection.addTrack(track)
    await connection.setLocalDescription(await connection.createAnswer())
    ended = threading.Event()
    feeder = threading.Thread(target=feed, args=(tracks, ended))
    feeder.start()
    await socket.send_str(json.dumps({"sdp": connection.localDescription.sdp, "buffers": 0}))
    await socket.receive()
    ended.set()
    await asyncio.to_thread(feeder.join)
    await connection.close()


async def main(contender: str) -> None:
    async def meet(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await (serve_avlab(socket) if contender == "avlab" else serve_alone(socket, contender == "packets"))
        return socket

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE.replace("CONTENDER", contender), content_type="text/html")

    async def view(request: web.Request) -> web.Response:
        return web.Response(text=module(*VIEW), content_type="text/javascript")

    async def told(request: web.Request) -> web.Response:
        return web.json_response(painted)

    app = web.Application()
    routes = [web.get(at, what) for at, what in {"/": page, "/view.js": view, "/meet": meet, "/painted": told}.items()]
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the bench ends
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
