"""The direct path of one view: a WebRTC connection that gets the stream. Only who is asked for one loads aiortc with it."""

from __future__ import annotations

from collections import deque
from typing import Any

from avlab.core.clock import Clock
from avlab.media.rtc.encoder import Coded
from avlab.media.rtc.outgoing import Outgoing
from avlab.media.rtc.peer import Peer
from avlab.media.rtc.turn import IceServers
from avlab.media.rtc.view_track import attach


class DirectPath:
    """One connection to one browser; make it on the media loop."""

    def __init__(self, hub: Outgoing, ice_servers: IceServers, rung: int, clock: Clock) -> None:
        self._clock, self._ages = clock, deque[float](maxlen=60)
        self.peer = Peer(ice_servers=ice_servers)
        self.viewer = attach(hub, self.peer.connection, rung=rung, seen=self._seen)

    async def answer(self, sdp: str) -> str:
        """The answer to a browser's offer. Raises AvlabError for one that cannot be used."""
        return apart(await self.peer.answer(sdp))

    def _seen(self, coded: Coded) -> None:
        if coded.kind == "video":
            self._ages.append((self._clock() - coded.captured) / 1e6)

    @property
    def connected(self) -> bool:
        """Whether it stands."""
        return self.peer.state == "connected"

    def figures(self) -> dict[str, Any]:
        """Path and reason in words, median milliseconds from the source until a picture is sent, RTP timestamps of pts 0."""
        ages = sorted(self._ages)
        return {
            "path": self.peer.path,
            "reason": self.peer.reason,
            "no_relay": self.peer.no_relay,
            "age": ages[len(ages) // 2] if ages else None,
            "origins": self.viewer.origins(),
        }

    async def close(self) -> None:
        """End it, within half a second."""
        self.viewer.close()
        await self.peer.close()


def apart(sdp: str) -> str:
    """A description whose sound is a stream of its own: browsers then do not delay pictures to the sound or the other way."""
    head, *parts = sdp.split("\r\nm=")
    return "\r\nm=".join([head, *(_own_stream(part) if part.startswith("audio") else part for part in parts)])


def _own_stream(part: str) -> str:
    lines = []
    for line in part.split("\r\n"):
        if line.startswith("a=msid:"):
            line = "a=msid:avlab-sound " + line.rpartition(" ")[2]
        elif line.startswith("a=ssrc:") and " cname:" in line:
            line = line.partition(" cname:")[0] + " cname:avlab-sound"
        lines.append(line)
    return "\r\n".join(lines)
