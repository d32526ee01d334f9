"""Outgoing: one live stream to any number of viewers. Each quality is encoded once, and only while somebody looks at it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import av

from avlab.core.clock import Clock, monotonic
from avlab.core.item import Item
from avlab.media.rtc.encoder import Coded
from avlab.media.rtc.view_encoding import PictureEncoding, SoundEncoding, captured
from avlab.media.rtc.view_time import PICTURE_TICKS, SOUND_TICKS, StreamTime

RUNGS = 3
"""Qualities: the source's size, half and a quarter of it in each direction."""


class Viewer:
    """One viewer's end of the stream: ``take(coded)`` is called in an encoder's thread and must not block.

    A viewer gets pictures from a key picture on; ``ask_key()`` brings the next one. Nothing is encoded for a viewer that is not
    ``active``, and while none is ``ready`` pictures are left out before they are encoded, which costs no key picture.
    ``limit``: bits per second that the viewer can take, None for no limit. ``sound``: whether it wants any.
    """

    def __init__(self, hub: Outgoing, take: Callable[[Coded], None], rung: int, form: str) -> None:
        self._hub, self._take, self._form = hub, take, form
        self.rung = min(max(rung, 0), RUNGS - 1)
        self.limit: int | None = None
        self.ready: Callable[[], bool] = lambda: True
        self.origins: Callable[[], dict[str, int | None]] = dict
        self.active = self.sound = True
        self._needs_key = True

    @property
    def lane(self) -> str:
        """The encoder that it looks at."""
        return f"{self._form} {self.rung}"

    def offer(self, coded: Coded) -> None:
        """Hand it on, unless the viewer could not decode it."""
        if coded.kind == "video":
            if self._needs_key and not coded.key:
                return
            self._needs_key = False
        self._take(coded)

    def ask_key(self) -> None:
        """Go on with a key picture: after a loss, at the start, after a pause."""
        self._needs_key = True
        self._hub.key(self.lane)

    def change(self, *, rung: int | None = None, active: bool | None = None) -> None:
        """Another quality, or pause and go on."""
        if (rung, active) in ((None, None), (self.rung, self.active)):
            return
        self.rung = self.rung if rung is None else min(max(rung, 0), RUNGS - 1)
        self.active = self.active if active is None else active
        if self.active:
            self._hub.look(self)
        self._hub.tidy()

    def close(self) -> None:
        """Take no more. Idempotent."""
        self._hub.leave(self)


class Outgoing:
    """Takes av.VideoFrame, av.AudioFrame and av.Packet (H.264 or Opus) items and gives coded ones to its viewers.

    ``put`` never blocks: pictures that the encoders cannot keep up with are dropped and counted; sound is encoded at once (0.2 ms
    of work per 20 ms). bit_rate: bits per second of pictures
    of 1280x720; other sizes get their share. All methods may be called from any thread.
    """

    def __init__(self, *, bit_rate: int = 2_500_000, clock: Clock = monotonic) -> None:
        self.bit_rate, self.clock = bit_rate, clock
        self._lock = threading.Lock()
        self._viewers: list[Viewer] = []
        self._lanes: dict[str, PictureEncoding] = {}
        self._sound: SoundEncoding | None = None
        self._time = StreamTime(clock)
        self._last: Item | None = None
        self.size = 0, 0
        """Of the newest picture."""
        self.tracks_seen: set[str] = set()
        """Which of ``video`` and ``audio`` have come."""
        self.counts: Counter[str] = Counter()
        """video, audio: items that came; encoded, bytes: pictures and bytes that the encoders made; dropped; bad."""
        self.level = 0.0
        """Root mean square of the newest sound, 0 to 1, while somebody listens."""
        self.problem = ""
        """Why the newest item that could not be shown could not, or empty."""

    def put(self, item: Item) -> None:
        """One more picture or block of sound; never blocks."""
        value = item.value
        if not carries(value):
            self.counts["bad"] += 1
            self.problem = f"a live stream cannot carry a {type(value).__qualname__}: send frames or packets"
            return
        kind = "audio" if isinstance(value, av.AudioFrame) or _is_sound(item) else "video"
        self.counts[kind] += 1
        self.tracks_seen.add(kind)
        if kind == "video" and isinstance(value, av.VideoFrame):
            self.size, self._last = (value.width, value.height), item
        if not self._lanes and not isinstance(value, av.Packet):
            return
        time = self._time.place(kind, item)
        if time is None:
            self.counts["dropped"] += 1
        elif isinstance(value, av.Packet):
            self._coded(item, kind, time)
        else:
            for lane in self._wanted(kind):
                lane.send(item, time)

    def _wanted(self, kind: str) -> list[PictureEncoding | SoundEncoding]:
        with self._lock:
            names = {viewer.lane for viewer in self._viewers if viewer.active}
            if kind == "audio":
                return [self._sound] if self._sound is not None and names else []
            return [lane for name, lane in self._lanes.items() if name in names]

    def _coded(self, item: Item, kind: str, time: int) -> None:
        ticks = SOUND_TICKS if kind == "audio" else PICTURE_TICKS
        key = kind == "audio" or bool(item.value.is_keyframe)
        self.give(
            Coded(kind, bytes(item.value), time // ticks, key, captured(item, self.clock), own=item.time), None
        )

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._lanes)

    @property
    def newest(self) -> Item | None:
        """The newest picture."""
        return self._last

    def time_of(self, item: Item) -> int | None:
        """The item's time on the stream's own timeline, in `TICKS`, or None while it has none."""
        return self._time.look_up(item)

    def restart(self) -> None:
        """What comes next belongs to a new run: its times may begin anywhere."""
        self._time.restart()

    def viewer(self, take: Callable[[Coded], None], rung: int = 0, form: str = "h264") -> Viewer:
        """One more viewer, of ``h264`` or ``jpeg`` pictures. It gets the newest one at once, also when no further one comes."""
        viewer = Viewer(self, take, rung, form)
        with self._lock:
            self._viewers.append(viewer)
        self.look(viewer)
        return viewer

    def look(self, viewer: Viewer) -> None:
        """A viewer begins to look at its rung."""
        with self._lock:
            lane = self._lanes.get(viewer.lane)
            if lane is None:
                lane = self._lanes[viewer.lane] = PictureEncoding(self, viewer.lane)
            if self._sound is None:
                self._sound = SoundEncoding(self)
        viewer._needs_key = lane.key = True
        last = self._last
        if last is not None:
            time = self._time.again()
            if time is not None:
                lane.send(last, time)

    def leave(self, viewer: Viewer) -> None:
        """A viewer is closed."""
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
        self.tidy()

    def tidy(self) -> None:
        """End the encoders that nobody looks at."""
        with self._lock:
            used = {each.lane for each in self._viewers if each.active}
            idle = [self._lanes.pop(name) for name in list(self._lanes) if name not in used]
            self._sound = self._sound if used else None
        for lane in idle:
            lane.close()

    def key(self, name: str) -> None:
        """The next picture of this encoder shall be a key picture."""
        with self._lock:
            lane = self._lanes.get(name)
        if lane is not None:
            lane.key = True

    def give(self, coded: Coded, lane: str | None) -> None:
        """Hand what an encoder made to who looks at it; None: to all."""
        with self._lock:
            viewers = [viewer for viewer in self._viewers if viewer.active and lane in (None, viewer.lane)]
        self.counts["encoded"] += coded.kind == "video"
        self.counts["bytes"] += len(coded.data)
        for viewer in viewers:
            viewer.offer(coded)

    def heard(self) -> bool:
        """Whether any viewer wants sound."""
        with self._lock:
            return any(viewer.active and viewer.sound for viewer in self._viewers)

    def ready(self, lane: str) -> bool:
        """Whether any viewer of this encoder can take a picture now."""
        with self._lock:
            viewers = [viewer for viewer in self._viewers if viewer.active and viewer.lane == lane]
        answers = [viewer.ready() for viewer in viewers]  # each is asked, for each will be given the picture
        return any(answers)

    def rate(self, rung: int) -> int:
        """Bits per second for a rung: what its size wants, what its viewers can take."""
        width, height = self.size
        share = min(max(width * height / (1280 * 720), 0.05), 2.25) / 3**rung
        wanted = max(self.bit_rate * share, 100_000)
        with self._lock:
            limits = [
                viewer.limit for viewer in self._viewers if viewer.active and viewer.rung == rung and viewer.limit
            ]
        return int(max(min([wanted, *limits]), wanted / 5))

    def statistics(self) -> dict[str, Any]:
        """The counts, and how many viewers and encoders there are."""
        with self._lock:
            viewers, rungs = len(self._viewers), len(self._lanes)
            waiting = sum(lane.dropped for lane in self._lanes.values())
        counts = {name: self.counts[name] for name in ("video", "audio", "encoded", "bytes", "bad")}
        return {**counts, "dropped": self.counts["dropped"] + waiting, "viewers": viewers, "rungs": rungs}

    def close(self) -> None:
        """End all encoders; viewers get nothing more. Idempotent."""
        with self._lock:
            lanes = list(self._lanes.values())
            self._lanes, self._sound, self._viewers, self._last = {}, None, [], None
        for lane in lanes:
            lane.close()


def carries(value: object) -> bool:
    """Whether a live stream can carry such a value."""
    return isinstance(value, av.VideoFrame | av.AudioFrame | av.Packet)


def _is_sound(item: Item) -> bool:
    return isinstance(item.value, av.Packet) and item.track.startswith("audio")
