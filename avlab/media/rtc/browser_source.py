"""BrowserSource: the media side of a camera, microphone or screen that a person shares in a browser.

It talks to the browser's side in messages, over whatever carries them. From the browser: hello, path, picture, sound, offer,
candidate, here, stop, bye. To it: welcome, ice, ack, key, path, answer, refused, again, over, status. Pictures and sound come as
messages at once, after ``path``; the browser also makes an offer, and a connection takes over when it brings something. Whatever
comes takes the place of what came before, and the items go on where they were.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, MediaError
from avlab.core.item import Item
from avlab.media.chain import option_text
from avlab.media.graph import FilterGraph
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.receive import Mode, Receiver, ReceiverStatistics
from avlab.media.rtc.reconnect import LOST, STALLED, Silence
from avlab.media.rtc.source_messages import MessageInlet
from avlab.media.rtc.turn import IceServers, current
from avlab.media.rtc.view import Swift
from avlab.media.runtime import MediaRuntime

Send = Callable[[dict[str, Any]], None]

BEAT = 0.5
"""Seconds between two status messages while a pipeline wants items."""
REMOVED = 3.0
"""Seconds after which a source whose last view was taken off the page ends."""
AGAIN = 3.0
"""Seconds between two requests for a new connection."""
MOST = 16
"""Views at a time."""


class BrowserSource:
    """What a browser captures, as items of av.VideoFrame (track ``video``) and av.AudioFrame (``audio``).

    send: carries a message to all views in all browsers, from any thread; `receive` takes theirs. ask: what the browser is to
    capture; the tracks of its ``tracks`` are taken, and sound is brought into its ``form`` (options of FFmpeg's aformat). patience: seconds for which a browser that has gone silent may come back
    before the source gives up. left: called on the media loop when the last view was taken off the page and nothing runs.
    """

    def __init__(
        self,
        send: Send,
        ask: Mapping[str, Any],
        *,
        ice_servers: IceServers = (),
        sync: Mode = "low-latency",
        patience: float = 60.0,
        left: Callable[[], None] = lambda: None,
        runtime: MediaRuntime | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self.name = uuid.uuid4().hex
        self._send, self._ask, self._left = send, dict(ask), left
        self._servers, self._sync, self._patience = ice_servers, sync, patience
        self._runtime, self._clock = runtime or MediaRuntime.default(), clock
        self._views: set[str] = set()
        self.seen = False
        """Whether a browser has ever shown it."""
        self._seen, self._cancelled = threading.Event(), False
        self._tasks: set[asyncio.Task[None]] = set()
        self._clear()

    def _clear(self) -> None:
        self._bit_rate = bit_rate(self._ask.get("size"), self._ask.get("rate") or 30)
        self._receiver: Receiver | None = None
        self._peer: Peer | None = None
        self._inlet: MessageInlet | None = None
        self._offered, self._ticking = asyncio.Lock(), None
        self._view, self._error = "", None
        self._run: Any = None
        self._heard = 0
        self.counts = dict.fromkeys(self._ask["tracks"], 0)
        self.size = (0, 0)
        self._recent: deque[int] = deque(maxlen=120)
        self._alive = self._asked = self._clock()
        self._silence = Silence(self._alive / 1e9)
        self._figures: ReceiverStatistics | None = None

    _ticking: asyncio.Task[None] | None
    _error: MediaError | None

    # Any thread.

    def receive(self, message: Mapping[str, Any], buffers: Sequence[Any] = ()) -> None:
        """A message of a browser's side, with buffers of bytes. What is no message of ours is ignored."""
        if isinstance(message.get("type"), str) and isinstance(message.get("view"), str):
            self._runtime.post(self._received(message["type"], message["view"], message, buffers))

    @property
    def attached(self) -> bool:
        """Whether a browser shows the source."""
        return bool(self._views)

    @property
    def wanted(self) -> bool:
        """Whether a pipeline wants items."""
        return self._receiver is not None and not self._cancelled

    def begin(self, ask: Mapping[str, Any]) -> None:
        """A pipeline wants items, of what it asks for now."""
        self._seen, self._ask, self._cancelled = threading.Event(), dict(ask), False
        self._runtime.run(self._begin(), 2.0)

    def wait(self, seconds: float) -> bool:
        """Wait until a browser shows the source; False when none did in time, or when the source was ended."""
        self._seen.wait(seconds)
        return self.attached

    def items(self) -> Iterator[Item]:
        """The items, for one thread, until `end`, the stop button, or until the view was taken off the page.

        Raises MediaError when the browser was silent for ``patience`` seconds.
        """
        form = self._ask.get("form")
        graph = FilterGraph([("aformat", option_text(form))]) if form else None
        for item in self._receiver or ():
            if item.track in self.counts:
                self._note(item)
                yield from (item,) if graph is None else _through(graph, item)
        if self._error is not None:
            raise self._error

    def _note(self, item: Item) -> None:
        self.counts[item.track] += 1
        if isinstance(item.value, av.VideoFrame):
            self.size = item.value.width, item.value.height
            self._recent.append(self._clock())

    def cancel(self) -> None:
        """Let `items` and `wait` end soon, without waiting for it."""
        self._cancelled = True
        self._seen.set()
        self._runtime.post(self._end(""))

    def end(self) -> None:
        """The pipeline has ended: the browser lets go of its devices. Idempotent; takes at most two seconds."""
        self._seen.set()
        self._runtime.run(self._end("The pipeline has ended."), 2.0)

    def statistics(self) -> dict[str, Any]:
        """State, path and reason in words, what has come, pictures per second, connections after the first, the receiver's
        figures."""
        receiver, peer = self._receiver, self._peer
        figures = receiver.statistics() if receiver is not None else self._figures
        return {
            "state": self._state, "path": self._path, "reason": peer.reason if peer is not None else "",
            "size": self.size, "fps": self.fps, **self.counts, "dropped": figures.dropped if figures is not None else 0,
            "reconnects": max(0, figures.connections - 1) if figures is not None else 0, "receiver": figures,
        }  # fmt: skip

    @property
    def fps(self) -> float:
        """Pictures per second of the last second."""
        now = self._clock()
        return float(sum(now - came < 1e9 for came in list(self._recent)))

    # The media loop.

    async def _received(self, kind: str, view: str, message: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        self._alive = self._clock()
        self._heard += view == self._view
        if kind == "hello":
            await self._hello(view)
        elif kind == "bye":
            self._bye(view, bool(message.get("removed")))
        elif view not in self._views:
            self._send({"type": "again", "view": view, "hello": True})
        elif kind in ("picture", "sound"):
            self._take(view, message, buffers)
        elif kind == "path":
            await self._carry(view, message.get("run"))
        elif kind == "offer":
            await self._offer(view, message.get("n"), str(message.get("sdp", "")))
        elif kind == "candidate" and self._peer is not None and view == self._view:
            await self._candidate(message.get("candidate"))
        elif kind == "stop" and view == self._view:
            await self._end("Stopped.")

    async def _hello(self, view: str) -> None:
        try:
            ice = await current(self._servers)
        except AvlabError as error:
            self._send({"type": "refused", "view": view, "reason": str(error)})
            return
        if view not in self._views and len(self._views) >= MOST:
            self._send({"type": "refused", "view": view, "reason": f"{MOST} views of it are open: close one."})
            return
        self._views.add(view)
        self.seen = True
        self._seen.set()
        start = self._bit_rate[0] * 1000
        rates = {"messages": start, "direct": start * 8 // 5}
        welcome = {"source": self.name, "ice": ice, "ask": self._ask, "bit_rate": rates}
        self._send({**self._status(), "type": "welcome", "view": view, **welcome})

    def _bye(self, view: str, removed: bool) -> None:
        self._views.discard(view)
        if removed and not self._views:
            self._spawn(self._removed())

    async def _removed(self) -> None:
        await asyncio.sleep(REMOVED)  # the same output may be drawn again
        if not self._views:
            await self._end("")
            self._left()

    async def _candidate(self, candidate: Any) -> None:
        try:
            assert self._peer is not None
            await self._peer.add_candidate(candidate if isinstance(candidate, Mapping) else None)
        except MediaError as error:
            self._send({"type": "refused", "view": self._view, "reason": str(error)})

    def _take(self, view: str, message: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        inlet = self._inlet
        if inlet is None or view != self._view or message.get("run") != self._run:
            return
        inlet.take(message, buffers)
        if not inlet.feeding:
            self._inlet = None
            self._send({"type": "path", "view": view, "path": "direct"})

    async def _carry(self, view: str, run: Any) -> None:
        """A view begins to send messages, in the place of whatever came before."""
        async with self._offered:
            if self._receiver is None:
                self._over("No pipeline takes it now.", view)
                return
            peer, self._peer, self._run = self._peer, None, run
            self._take_over(view)
            self._receiver.detach()
            answer = {"view": view, "run": run}
            self._inlet = MessageInlet(self._receiver, self._ask["tracks"], lambda said: self._send({**said, **answer}))
            if peer is not None:
                await peer.close()

    def _take_over(self, view: str) -> None:
        former, self._view = self._view, view
        self._silence, self._asked = Silence(self._clock() / 1e9), self._clock()
        if former not in ("", view):
            self._inlet = None
            self._over("Another view has taken over.", former)

    async def _offer(self, view: str, number: Any, sdp: str) -> None:
        async with self._offered:
            receiver = self._receiver
            if receiver is None:
                self._over("No pipeline takes it now.", view)
                return
            peer = Peer(ice_servers=self._servers, bitrate=self._bit_rate)
            try:
                answer = await peer.answer(sdp)
            except AvlabError as error:
                await peer.close()
                self._send({"type": "refused", "view": view, "n": number, "reason": str(error)})
                return
            if receiver is not self._receiver:  # ended meanwhile
                await peer.close()
                return
            old, self._peer = self._peer, peer
            receiver.attach(peer.connection)
            self._send({"type": "answer", "view": view, "n": number, "sdp": answer})
            self._take_over(view)
            if old is not None:
                await old.close()
        if callable(self._servers):  # by the next time, these credentials may have run out
            with suppress(AvlabError):
                self._send({"type": "ice", "view": view, "ice": await current(self._servers)})

    async def _begin(self) -> None:
        await self._end("")
        self._clear()
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(sync=self._sync, lasting=True, clock=self._clock)
        self._alive = self._clock()
        if self._views:
            self._seen.set()
        Swift.hold(self)
        self._ticking = asyncio.create_task(self._tick(), name="avlab:browser source")

    async def _tick(self) -> None:
        """Watch the connection and tell the views, until the source ends."""
        try:
            while self._receiver is not None:
                self._send(self._status())
                await asyncio.sleep(BEAT)
                self._watch()
        except Exception as error:  # noqa: BLE001  told: unwatched, a source would wait for its browser for ever
            what = f"{type(error).__name__}: {error}"
            self._error = MediaError(f"the source cannot watch its connection any more: {what}")
            self._error.__cause__ = error
            await self._end(f"The source has failed: {what}")

    def _watch(self) -> None:
        now = self._clock()
        peer = self._peer
        if not self._view and self._views:
            self._alive = now  # it may take a person any time to press Start
        elif self._view:
            quiet = self._quiet
            if quiet < STALLED:
                self._alive = now
            lost = quiet >= LOST or (self._inlet is None and peer is not None and peer.state in ("failed", "closed"))
            if lost and now - self._asked >= AGAIN * 1e9:
                self._asked = now
                self._send({"type": "again", "view": self._view})
        if (now - self._alive) / 1e9 > self._patience:
            self._error = MediaError(
                f"nothing has come from the browser for {self._patience:g} s: open the notebook again and start the pipeline"
                " anew, or wait longer with patience="
            )
            self._spawn(self._end("The browser was silent for too long."))

    @property
    def _state(self) -> str:
        if self._receiver is None:
            return "idle"
        if not self._view:
            return "waiting"
        peer = self._peer
        if not self._path:
            return "connecting" if peer is None or peer.state in ("new", "connecting") else "lost"
        return "live" if self._quiet < STALLED else "stalled"

    @property
    def _path(self) -> str:
        if self._inlet is not None and self._inlet.count:
            return "messages"
        return self._peer.path if self._peer is not None and self._peer.state == "connected" else ""

    @property
    def _quiet(self) -> float:
        """Seconds for which nothing has come from the view that captures: with messages, each one counts."""
        heard = (self._peer.packets if self._peer is not None else 0) + (self._heard if self._inlet is not None else 0)
        return self._silence.seen(self._clock() / 1e9, heard)

    def _status(self) -> dict[str, Any]:
        status = self.statistics()
        del status["receiver"]
        return {"type": "status", "wanted": self._receiver is not None, "capturing": self._view, **status}

    async def _end(self, reason: str) -> None:
        receiver, peer, ticking = self._receiver, self._peer, self._ticking
        self._receiver = self._peer = self._ticking = self._inlet = None
        if receiver is None:
            return
        with suppress(Exception):  # they may be what failed
            self._figures = receiver.statistics()
        Swift.drop(self)
        self._over(reason or "The pipeline has ended.")
        if self._loop is not asyncio.get_running_loop():
            return  # the runtime was closed, and what ran on it has ended with its loop
        if ticking is not None and ticking is not asyncio.current_task():
            ticking.cancel()
        await receiver.close()
        if peer is not None:
            await peer.close()

    def _over(self, reason: str, view: str | None = None) -> None:
        """Tell one view, or all, to let go of the device."""
        facts: dict[str, Any] = {"wanted": self._receiver is not None}
        with suppress(Exception):  # a status may be what failed
            facts = self._status()
        self._send({**facts, "type": "over", "reason": reason, **({"view": view} if view else {})})

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _through(graph: FilterGraph, item: Item) -> Iterator[Item]:
    for frame in graph.push(item.value):
        yield Item(frame, frame.pts, Fraction(frame.time_base), item.track, item.seq, item.stamps)


def bit_rate(size: Any, rate: float) -> tuple[int, int]:
    """kbit/s at which a browser is asked to start sending pictures of this size, and not to go below: 2500 and 1000 for 720p30."""
    width, height = size or (1920, 1080)
    start = min(12_000, max(400, round(2500 * width * height * rate / (1280 * 720 * 30))))
    return start, start * 2 // 5
