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

FLYING, MOST = 3, 12
"""Pictures that may be on their way to a view without having been shown: always, and where the way is long."""

QUEUE = 0.1
"""Seconds that a picture may take beyond what the quickest one took, for more than `FLYING` to be on their way."""

TOGETHER = 2
"""Blocks of sound in one message."""


class Flight:
    """Numbers of what is on its way, and whether more may follow: as many as a long way wants, but no queue on a slow one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[int, int] = {}
        self._least = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def free(self) -> bool:
        """Whether one more may go."""
        if len(self._sent) < FLYING:
            return True
        oldest = next(iter(self._sent.values()))
        return len(self._sent) < MOST and self._least > 0 and (self._clock() - oldest) / 1e9 < self._least + QUEUE

    def went(self, number: int) -> None:
        """It is on its way; numbers increase."""
        self._sent[number] = self._clock()

    def came(self, number: int) -> float | None:
        """It has come, and all before it: seconds since it went, or None for what was not on its way."""
        sent = self._sent.get(number)
        for each in [each for each in self._sent if each <= number]:
            del self._sent[each]
        if sent is None:
            return None
        took = (self._clock() - sent) / 1e9
        self._least = min(self._least or took, took)
        return took

    def clear(self) -> None:
        """Nothing is on its way."""
        self._sent.clear()


class MessagePath:
    """Pictures as messages to one view, and sound when the view wants it.

    While its `Flight` is not free, no further picture is begun. Where others look at the same encoder and go on, this view begins
    anew with a key picture.
    """

    def __init__(self, hub: Outgoing, send: Send, view: str, form: str, rung: int, clock: Clock) -> None:
        self._send, self._view, self._clock = send, view, clock
        self._lock = threading.Lock()
        self._flight = Flight(clock)
        self._number, self._blocked, self._begun = 0, False, False
        self._heard: list[Coded] = []
        self._ways: deque[float] = deque(maxlen=60)
        self.dropped = 0
        self.viewer: Viewer = hub.viewer(self._take, rung, form)
        self.viewer.ready, self.viewer.sound = self._ready, False

    def _ready(self) -> bool:
        with self._lock:
            self._begun = self._flight.free and not self._blocked
            return self._begun

    def _take(self, coded: Coded) -> None:
        if coded.kind == "audio":
            self._hear(coded)
            return
        now = self._clock()
        with self._lock:
            begun, self._begun = self._begun, False
            if not coded.key and (self._blocked or not (begun or self._flight.free)):
                self._blocked = True
                self.dropped += 1
                return
            self._blocked = False
            self._number += 1
            number = self._number
            self._flight.went(number)
        message = {
            "type": "picture", "view": self._view, "n": number, "key": coded.key, "pts": coded.pts,
            "form": coded.form, "size": coded.size, "age": (now - coded.captured) / 1e6,
        }  # fmt: skip
        self._send(message, [coded.data])

    def _hear(self, coded: Coded) -> None:
        if not self.viewer.sound:
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
            took = self._flight.came(number)
            if took is not None:
                self._ways.append(max(0.0, (took * 1e3 - spent) / 2))
            again = self._blocked and not self._flight
            self._blocked &= not again
        if again:
            self.viewer.ask_key()

    def restart(self) -> None:
        """The view cannot decode on: forget what it has not acknowledged and begin anew."""
        with self._lock:
            self._flight.clear()
            self._blocked = False
        self.viewer.ask_key()

    @property
    def way(self) -> float | None:
        """Milliseconds that a message takes one way, about; None before the first was acknowledged."""
        ways = sorted(self._ways)
        return ways[len(ways) // 2] if ways else None

    def close(self) -> None:
        """Send no more."""
        self.viewer.close()
