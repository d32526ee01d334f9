"""WebRTCSource and WebRTCSink: live pictures and sound from and to other peers, as ends of a pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import av

from avlab.core.errors import ConfigError, MediaError
from avlab.core.item import Item
from avlab.core.node import Node
from avlab.media.rtc.manager import WebRTCManager
from avlab.media.rtc.partner import Partner


class WebRTCSource(Node):
    """Pictures and sound of one other peer: items of av.VideoFrame and av.AudioFrame on tracks ``video`` and ``audio``.

    url: an invitation to a room of a signalling server (the source joins it), or give a ``manager``, or a ``partner`` of one.
    role: take the first partner of this role (``camera``, ``script``), or any. wait: seconds for it to come.
    The stream goes on when its connection is renewed and ends when the partner has gone.
    Raises ConfigError without a place to look, TimedOut when nobody comes.
    """

    url: str = ""
    manager: Any = None
    partner: Any = None
    role: str = ""
    wait: float = 60.0

    _own: WebRTCManager | None = None

    @property
    def produces(self) -> tuple[type, ...]:
        """Types of the values that will come."""
        return av.VideoFrame, av.AudioFrame

    def tracks(self) -> dict[str, type]:
        """Name of each track and the type of its values."""
        return {"video": av.VideoFrame, "audio": av.AudioFrame}

    def open(self) -> None:
        """Join the room, if it is ours to join."""
        if not (self.url or self.manager or self.partner):
            raise ConfigError("WebRTCSource needs url= (an invitation), manager= or partner=")
        _fits("WebRTCSource", "manager", self.manager, WebRTCManager)
        _fits("WebRTCSource", "partner", self.partner, Partner)
        if self.manager is None and self.partner is None:
            self._own = WebRTCManager(self.url)

    async def items(self) -> AsyncIterator[Item]:
        """The items as they come."""
        partner: Partner = self.partner
        if partner is None:
            manager: WebRTCManager = self.manager or self._own
            partner = await manager.await_partner(self.wait, self.role)
        async for item in partner.media():
            yield item

    def close(self) -> None:
        """Leave the room that was joined."""
        own, self._own = self._own, None
        if own is not None:
            own.close()


class WebRTCSink(Node):
    """Shows pictures and sound to every peer of a room, or to the partners of a ``manager``; what it takes flows on.

    url: an invitation to a room of a signalling server. Each quality is encoded once, however many look.
    Never waits for a viewer: what cannot be encoded in time is dropped and counted. Raises ConfigError without a place to go.
    """

    url: str = ""
    manager: Any = None

    _own: WebRTCManager | None = None

    def open(self) -> None:
        """Join the room, if it is ours to join; times may begin anywhere."""
        if not (self.url or self.manager):
            raise ConfigError("WebRTCSink needs url= (an invitation) or manager=")
        _fits("WebRTCSink", "manager", self.manager, WebRTCManager)
        if self.manager is None:
            self._own = WebRTCManager(self.url)
        manager: Any = self.manager or self._own
        if manager.outgoing is None:
            raise MediaError("WebRTCSink: the manager was made with media=False")
        self._outgoing = manager.outgoing
        self._outgoing.restart()

    def process(self, item: Item) -> Item:
        """Show one more picture or block of sound."""
        if isinstance(item.value, av.VideoFrame | av.AudioFrame | av.Packet):
            self._outgoing.put(item)
        return item

    def close(self) -> None:
        """Leave the room that was joined."""
        own, self._own = self._own, None
        if own is not None:
            own.close()


def _fits(node: str, name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"{name} of {node} is a {type(value).__name__}: it is a {kind.__name__}")
