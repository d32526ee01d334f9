"""The lowest rung of the transport ladder: coded pictures and sound as messages, with acknowledgement and back-pressure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from avlab.core.clock import Clock
from avlab.media.rtc.encoder import Coded
from avlab.media.rtc.outgoing import Outgoing, Viewer

Send = Callable[[dict[str, Any], list[bytes]], None]
"""Sends one message (JSON values) with buffers to all views; may be called from any thread."""

FLYING = 3
"""Pictures that may be on their way to a view without having been shown."""

TOGETHER = 2
"""Blocks of sound in one message."""


class MessagePath:
    """Pictures as messages to one view, and sound when the view wants it.

    While `FLYING` pictures are not acknowledged, no further one is sent. Where others look at the same encoder and go on, this
    view begins anew with a key picture.
    """

    def __init__(self, hub: Outgoing, send: Send, view: str, form: str, rung: int, clock: Clock) -> None:
        self._send, self._view, self._clock = send, view, clock
        self._lock = threading.Lock()
        self._flying: dict[int, int] = {}
        self._number, self._blocked = 0, False
        self._heard: list[Coded] = []
        self._ways: deque[float] = deque(maxlen=60)
        self.sound = False
        self.dropped = 0
        self.viewer: Viewer = hub.viewer(self._take, rung, form)
        self.viewer.ready = self._ready

    def _ready(self) -> bool:
        return len(self._flying) < FLYING

    def _take(self, coded: Coded) -> None:
        if coded.kind == "audio":
            self._hear(coded)
            return
        now = self._clock()
        with self._lock:
            if not coded.key and (self._blocked or len(self._flying) >= FLYING):
                self._blocked = True
                self.dropped += 1
                return
            self._blocked = False
            self._number += 1
            number = self._number
            self._flying[number] = now
        message = {
            "type": "picture", "view": self._view, "n": number, "key": coded.key, "pts": coded.pts,
            "form": coded.form, "size": coded.size, "age": (now - coded.captured) / 1e6,
        }  # fmt: skip
        self._send(message, [coded.data])

    def _hear(self, coded: Coded) -> None:
        if not self.sound:
            self._heard.clear()
            return
        self._heard.append(coded)
        if len(self._heard) >= TOGETHER:
            times = [each.pts for each in self._heard]
            self._send({"type": "sound", "view": self._view, "pts": times}, [each.data for each in self._heard])
            self._heard.clear()

    def acknowledge(self, number: int, spent: float) -> None:
        """A view has shown this picture, ``spent`` milliseconds after it had come."""
        with self._lock:
            sent = self._flying.pop(number, None)
            for older in [each for each in self._flying if each < number]:
                del self._flying[older]
            if sent is not None:
                self._ways.append(max(0.0, ((self._clock() - sent) / 1e6 - spent) / 2))
            free = self._blocked and not self._flying
        if free:
            self.viewer.ask_key()

    def restart(self) -> None:
        """The view cannot decode on: forget what it has not acknowledged and begin anew."""
        with self._lock:
            self._flying.clear()
        self.viewer.ask_key()

    @property
    def way(self) -> float | None:
        """Milliseconds that a message takes one way, about; None before the first was acknowledged."""
        ways = sorted(self._ways)
        return ways[len(ways) // 2] if ways else None

    def close(self) -> None:
        """Send no more."""
        self.viewer.close()
