"""The encoders of a live stream: each size of the pictures on a thread of its own, the sound where it comes."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Protocol

from avlab.core.channel import ChannelClosed, Policy, Receiver, open_channel
from avlab.core.clock import Clock
from avlab.core.errors import AvlabError
from avlab.core.item import Item
from avlab.media.rtc.encoder import Coded, PictureEncoder, SoundEncoder, StillEncoder
from avlab.media.rtc.view_time import PICTURE_TICKS, SOUND_TICKS

_WAITING = 2
"""Pictures that may wait for their encoder: beside a busy cell one is late now and then, and the next one is not."""


class Hub(Protocol):
    """What an encoder serves: says whether and at how many bits per second it shall encode, takes the result and its figures."""

    clock: Clock
    counts: Counter[str]
    level: float
    problem: str

    def ready(self, lane: str) -> bool: ...
    def heard(self) -> bool: ...
    def rate(self, rung: int) -> int: ...
    def give(self, coded: Coded, lane: str | None) -> None: ...


class PictureEncoding:
    """Pictures of one size and form, on a thread of its own; it takes what is newest, up to `_WAITING` of them."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub, self._name = hub, name
        self.key = False
        receiver: Receiver[tuple[Item, int]]
        self._sender, receiver = open_channel(_WAITING, Policy.DROP_OLDEST)
        work = self._stills if name.startswith("jpeg") else self._pictures
        self._thread = threading.Thread(target=work, args=(receiver,), name=f"avlab:encode {name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """What it could not keep up with."""
        return int(self._sender.statistics().dropped)

    def send(self, item: Item, time: int) -> None:
        """One more picture with its time on the stream's timeline; never blocks."""
        try:
            self._sender.send((item, time))
        except ChannelClosed:  # nobody looks any more
            return

    def close(self) -> None:
        """End the thread."""
        self._hub.counts["dropped"] += self.dropped
        self._sender.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)

    def _pictures(self, receiver: Receiver[tuple[Item, int]]) -> None:
        hub, rung = self._hub, int(self._name[-1])
        encoder = PictureEncoder(rung, hub.rate(rung))
        for item, time in receiver:
            if not hub.ready(self._name):
                hub.counts["dropped"] += 1
                continue
            rate = hub.rate(rung)
            if not 0.75 < rate / encoder.bit_rate < 1.5:
                encoder = PictureEncoder(rung, rate)
            key, self.key = self.key, False
            pts = time // PICTURE_TICKS
            try:
                data, is_key, size = encoder.encode(item.value, pts, key)
            except (AvlabError, ValueError) as error:
                _note(hub, error)
                continue
            hub.give(Coded("video", data, pts, is_key, captured(item, hub.clock), size, item.time), self._name)

    def _stills(self, receiver: Receiver[tuple[Item, int]]) -> None:
        hub, encoder = self._hub, StillEncoder(int(self._name[-1]))
        for item, time in receiver:
            if not hub.ready(self._name):
                hub.counts["dropped"] += 1
                continue
            try:
                data, size = encoder.encode(item.value)
            except (AvlabError, ValueError) as error:
                _note(hub, error)
                continue
            pts, since = time // PICTURE_TICKS, captured(item, hub.clock)
            hub.give(Coded("video", data, pts, True, since, size, item.time, "jpeg"), self._name)


class SoundEncoding:
    """The sound, encoded by who brings it: 20 ms of it cost less than handing them to another thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self._encoder, self._lock = hub, SoundEncoder(), threading.Lock()

    def send(self, item: Item, time: int) -> None:
        """One more block of sound with its time on the stream's timeline."""
        hub = self._hub
        with self._lock:
            try:
                for data, pts in self._encoder.encode(item.value, time // SOUND_TICKS, hub.heard()):
                    since = captured(item, hub.clock)
                    hub.give(Coded("audio", data, pts, True, since, own=item.time, form="opus"), None)
            except (AvlabError, ValueError) as error:
                _note(hub, error)
            hub.level = self._encoder.level


def _note(hub: Hub, error: Exception) -> None:
    hub.counts["bad"] += 1
    hub.problem = str(error)


def captured(item: Item, clock: Clock) -> int:
    """When the source made it, in nanoseconds of this machine; now for items that were never stamped."""
    return item.stamps[0].ns if item.stamps else clock()
