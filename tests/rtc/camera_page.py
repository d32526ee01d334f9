"""A page that shows a camera, without a browser: an aiortc peer that speaks the widget's messages."""

import threading
from typing import Any

from lossy_pair import Beeps, Flashes, Start

from avlab.media.rtc.peer import Peer
from avlab.media.runtime import MediaRuntime


class Page:
    """One view. Give it to a node as its widget; it presses Start when `start` is called."""

    def __init__(self, runtime: MediaRuntime, name: str = "view") -> None:
        self.name, self._runtime = name, runtime
        self.receive: Any = None
        self.said: list[dict[str, Any]] = []
        self.peer: Peer | None = None
        self.closed = False
        self._number = 0
        self._changed = threading.Condition()

    def deliver(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        if message.get("view") in (None, self.name):
            with self._changed:
                self.said.append(message)
                self._changed.notify_all()

    def heard(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        return [m for m in self.said if m["type"] == kind and facts.items() <= m.items()]

    def await_said(self, kind: str, count: int = 1, seconds: float = 20, **facts: Any) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard(kind, **facts)) >= count, seconds), self.said[-5:]
        return self.heard(kind, **facts)[-1]

    def send(self, kind: str, **facts: Any) -> None:
        self.receive({"type": kind, "view": self.name, **facts})

    def show(self) -> None:
        self.send("hello")
        self.await_said("welcome")

    def start(self, size: tuple[int, int] = (320, 180), audio: bool = False) -> None:
        """Share pictures (and sound), over a connection that takes the place of the one before."""
        self._number += 1
        self.send("offer", n=self._number, sdp=self._runtime.run(self._offer(size, audio), 10))
        answer = self.await_said("answer", n=self._number)
        self.answer = answer["sdp"]
        self._runtime.run(self._accept(), 10)

    async def _offer(self, size: tuple[int, int], audio: bool) -> str:
        self.peer, clock = Peer(), Start()
        self.peer.connection.addTrack(Flashes(clock, size))
        if audio:
            self.peer.connection.addTrack(Beeps(clock))
        return await self.peer.offer()

    async def _accept(self) -> None:
        assert self.peer is not None
        await self.peer.accept(self.answer)

    def vanish(self) -> None:
        """What a lost network or a killed tab does: nothing is said."""
        peer, self.peer = self.peer, None
        if peer is not None:
            self._runtime.run(peer.close(), 5)

    def close(self) -> None:
        self.closed = True
