"""Receiver: remote tracks as items, on one line of time, through loss, jitter, drift and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from avlab.core.channel import ChannelClosed, Policy, Sender, open_channel
from avlab.core.channel import Receiver as Outlet
from avlab.core.clock import Clock, monotonic
from avlab.core.errors import ConfigError
from avlab.core.item import Item
from avlab.media.rtc.delay import in_step
from avlab.media.rtc.lane import Lane, TrackStatistics
from avlab.media.rtc.tap import Tap
from avlab.media.rtc.timeline import Origin, Timeline, align

Mode = Literal["low-latency", "lips"]
KEPT = {"video": 5, "audio": 50}
"""Items of a track that wait for a slow consumer; older ones are dropped and counted."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Figures by track name. ``skew`` in seconds, of what was delivered last: how much earlier sound is delivered than the
    picture of the same moment (negative: later); None without both. ``dropped``: items the consumer was too slow for.
    ``connections``: how many have brought anything."""

    tracks: dict[str, TrackStatistics]
    skew: float | None
    dropped: int
    connections: int


class Receiver:
    """Items of the remote tracks of an aiortc connection; make it, `attach` and `close` it on the connection's loop.

    Values are av.VideoFrame and av.AudioFrame, in size and format as they come: both may change at any time. Tracks are named
    ``video``, ``audio``, then ``video2``, ``audio2`` … in the order of the description. pts increase on each track, and what
    was captured at one moment has one time on all of them, as the sender's reports say; sound lost for up to 0.2 s is
    concealed. The first stamp of an item is its arrival.

    sync: ``"low-latency"`` gives each track as soon as it can be played; ``"lips"`` holds back the one that is earlier, so that
    sound is delivered at most 45 ms before and 125 ms after its picture (ITU-R BT.1359-1). May be changed while it runs.
    lasting: stay open when the connection's tracks have ended, until `close`: another connection can be attached, whose tracks
    carry on the ones before. Raises ConfigError for an unknown ``sync`` and MediaError for an aiortc that is not known.
    """

    def __init__(
        self, connection: Any = None, *, sync: Mode = "low-latency", lasting: bool = False, clock: Clock = monotonic
    ) -> None:
        if sync not in get_args(Mode):
            raise ConfigError(f"sync is {sync!r}: it can be {' or '.join(map(repr, get_args(Mode)))}")
        self.sync: Mode = sync
        self._lasting, self._clock, self._origin = lasting, clock, Origin()
        self._lanes: dict[str, Lane] = {}
        channel: tuple[Sender[Item], Outlet[Item]] = open_channel(256, Policy.LATEST, _keep)
        self._sender, self._receiver = channel
        self._running: dict[Lane, asyncio.Task[None]] = {}
        self._live: set[asyncio.Task[None]] = set()
        self._counted: dict[str, int] = {}
        self._connection: Any = None
        self._taps: list[Tap] = []
        self._connections, self._brought = 0, False
        if connection is not None:
            self.attach(connection)

    def attach(self, connection: Any) -> None:
        """Take the remote tracks of a connection, those it has and those to come; the former connection is let go.

        What else feeds a track (`lane`) goes on to do so until the connection's first packet of it.
        """
        self.detach()
        self._counted, self._connection, self._brought = {}, connection, False
        for receiver in connection.getReceivers():
            if receiver.track is not None:
                self._take(receiver)
        connection.on("track", self._track)

    def detach(self) -> None:
        """Let go of the connection; the tracks stay."""
        if self._connection is not None and self._track in self._connection.listeners("track"):
            self._connection.remove_listener("track", self._track)
        self._connection = None
        for task in self._live:
            task.cancel()
        self._live = set()
        for tap in self._taps:
            tap.remove()
        for lane in self._lanes.values():
            if lane.feeder in self._taps:
                lane.feeder = None
        self._taps = []

    def _track(self, track: Any) -> None:
        self._take(next(each for each in self._connection.getReceivers() if each.track is track))

    def _take(self, receiver: Any) -> None:
        kind = receiver.track.kind
        count = self._counted[kind] = self._counted.get(kind, 0) + 1
        lane = self.lane(kind if count == 1 else f"{kind}{count}", kind)
        fed = False

        def packet(packet: Any, codec: Any) -> None:
            nonlocal fed
            if not fed:
                fed, lane.feeder = True, tap
                self._connections += not self._brought
                self._brought = True
            lane.packet(packet, codec)

        tap = Tap(receiver, packet, lane.report)
        self._taps.append(tap)
        ended = asyncio.create_task(tap.ended(), name=f"avlab:end of {lane.name}")
        self._live.add(ended)
        ended.add_done_callback(lambda task: self._ended(task, lane))

    def lane(self, name: str, kind: str) -> Lane:
        """A track by its name, made when it is first asked for."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(
                name, kind, self._origin, self._clock, self._sender.send, self._align, self._pace
            )
            running = self._running[lane] = asyncio.create_task(lane.run(), name=f"avlab:{name}")
            running.add_done_callback(lambda _: self._drained(lane))
        return lane

    def _ended(self, task: asyncio.Task[None], lane: Lane) -> None:
        self._live.discard(task)
        if not task.cancelled() and not self._lasting:
            lane.end()

    def _drained(self, lane: Lane) -> None:
        self._running.pop(lane, None)
        if not self._running:
            self._sender.close()

    def _align(self) -> None:
        """Bring the times of the tracks in step by the sender's reports; sound leads."""
        by_line: dict[Timeline, Lane] = {}
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.kind):
            if lane.timeline is not None and lane.timeline.capture is not None:
                by_line[lane.timeline] = lane
        if by_line:
            leader, *others = by_line
            for line, seconds in align(leader, others).items():
                by_line[line].move(seconds)

    def _pace(self) -> None:
        """Say how long sound and picture are to be held back."""
        sound, picture = (lane.buffer if (lane := self._lanes.get(kind)) else None for kind in ("audio", "video"))
        if sound is None or picture is None:
            return
        if self.sync == "lips" and sound.delay.value is not None and picture.delay.value is not None:
            sound.hold, picture.hold = in_step(sound.delay.value, picture.delay.value)
        else:
            sound.hold = picture.hold = None

    async def items(self) -> AsyncIterator[Item]:
        """The items in order of delivery, for one consumer, on any loop; ends with `close` or with the tracks."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self._receiver.listen(lambda: _tell(loop, arrived))
        try:
            while True:
                arrived.clear()
                try:
                    item = self._receiver.receive(0)
                except TimeoutError:
                    await arrived.wait()
                except ChannelClosed:
                    return
                else:
                    yield item
        finally:
            self._receiver.listen(None)

    def __iter__(self) -> Iterator[Item]:
        """`items` for a thread that is not the connection's own."""
        return iter(self._receiver)

    def statistics(self) -> ReceiverStatistics:
        """Figures so far; may be called from any thread."""
        tracks = {name: lane.statistics() for name, lane in list(self._lanes.items())}
        sound, picture = (tracks[kind].lateness if kind in tracks else None for kind in ("audio", "video"))
        skew = None if sound is None or picture is None else picture - sound
        return ReceiverStatistics(tracks, skew, self._receiver.statistics().dropped, self._connections)

    async def close(self) -> None:
        """End the items and the decoders; the connection stays open. Idempotent."""
        tasks = [*self._live, *self._running.values()]
        self.detach()
        self._sender.close()
        self._running = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            lane.close()


def _keep(item: Item) -> tuple[str, int]:
    return item.track, KEPT["video" if item.track.startswith("video") else "audio"]


def _tell(loop: asyncio.AbstractEventLoop, arrived: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(arrived.set)
    except RuntimeError:  # the consumer's loop has ended
        return
