"""Views: the side of a live view that has the media. It talks to the browser's side in messages, over whatever carries them.

The picture comes as messages at once; a direct connection is tried beside them and takes over when it stands. Messages
from the browser (``receive``): hello, offer, candidate, path, ack, key, set, figures, record, stop, bye. To it: welcome, answer,
refused, ice, picture, sound, status, again.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from avlab.core.clock import Clock, monotonic
from avlab.core.errors import AvlabError, ConfigError, MediaError
from avlab.media.rtc.outgoing import Outgoing
from avlab.media.rtc.turn import IceServers, current
from avlab.media.rtc.view_messages import MessagePath, Send
from avlab.media.runtime import MediaRuntime

if TYPE_CHECKING:
    from avlab.media.rtc.view_direct import DirectPath

STATUS = 0.5
"""Seconds between two status messages."""
SILENCE = 60.0
"""Seconds after which a view that says nothing and has no connection counts as gone."""
MOST = 16
"""Views of one stream at a time."""
_DIRECT = "avlab.media.rtc.view_direct"
_LOADING = 5.0  # seconds that a candidate waits for the connection that it is for


class Views:
    """All views of one `Outgoing`. ``send`` carries messages to the browsers, `receive` takes theirs; neither blocks.

    ice_servers: STUN and TURN servers in the browser's notation, or a function that gives them anew for each attempt, for both
    sides; none by default. sync: with ``low-latency`` the
    browser's side lets pictures wait for sound only while it is heard, with ``lips`` it always holds the earlier of the two
    back. facts: what the owner adds to the status messages. act: called on the media loop with ``stop`` or ``record`` and its message.
    """

    def __init__(
        self,
        hub: Outgoing,
        send: Send,
        *,
        ice_servers: IceServers = (),
        sync: str = "low-latency",
        facts: Callable[[], dict[str, Any]] = dict,
        act: Callable[[str, Mapping[str, Any]], None] = lambda kind, message: None,
        runtime: MediaRuntime | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self.hub, self._send, self._servers, self._sync = hub, send, ice_servers, sync
        self._facts, self._act, self._clock = facts, act, clock
        self._runtime = runtime or MediaRuntime.default()
        self._views: dict[str, View] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[ModuleType] | None = None
        self.closed = False

    def receive(self, message: Mapping[str, Any]) -> None:
        """A message of a browser's side; may be called from any thread. What is no message of ours is ignored."""
        if not self.closed and isinstance(message.get("type"), str):
            self._runtime.post(self._received(message))

    async def _received(self, message: Mapping[str, Any]) -> None:
        kind, name = message["type"], message.get("view")
        if self.closed:
            return
        if kind in ("stop", "record"):
            self._act(kind, message)
            return
        if not isinstance(name, str):
            return
        view = self._views.get(name)
        if kind == "hello":
            await self._welcome(name, message)
        elif view is None:
            if kind != "bye":
                self._send({"type": "again", "view": name}, [])
        elif kind == "bye":
            await self._leave(name)
        else:
            await view.receive(kind, message)

    async def _welcome(self, name: str, message: Mapping[str, Any]) -> None:
        await self._leave(name)
        try:
            ice = await current(self._servers)
        except AvlabError as error:
            self._send({"type": "refused", "view": name, "reason": str(error), "final": True}, [])
            return
        await self._leave(name)  # it may have said hello again meanwhile
        if self.closed:
            return
        if len(self._views) >= MOST:
            text = f"{MOST} views of this stream are open: close one"
            self._send({"type": "refused", "view": name, "reason": text, "final": True}, [])
            return
        self._views[name] = View(self, name, message, ice)
        if self._loading is None:  # takes as long as a dozen pictures, which go as messages meanwhile
            self._loading = asyncio.create_task(asyncio.to_thread(importlib.import_module, _DIRECT))
        Swift.hold(self)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())

    async def direct_path(self, rung: int) -> DirectPath:
        """A new direct path. Raises ConfigError where WebRTC is not installed."""
        assert self._loading is not None
        try:
            module = await asyncio.shield(self._loading)
        except ImportError as error:
            raise ConfigError(f"a direct path needs {error.name}: pip install 'avlab[rtc]'") from None
        made: DirectPath = module.DirectPath(self.hub, self._servers, rung, self._clock)
        return made

    async def _leave(self, name: str) -> None:
        view = self._views.pop(name, None)
        if view is not None:
            await view.close()
        if not self._views:
            Swift.drop(self)

    async def _tick(self) -> None:
        """Status to all views, until there are none, or until there can be no status any more: then no view stays either."""
        try:
            while self._views:
                now = self._clock()
                for name, view in list(self._views.items()):
                    if (now - view.heard) / 1e9 > SILENCE and not view.connected:
                        await self._leave(name)
                self._send(self.status(), [])
                await asyncio.sleep(STATUS)
        except Exception as error:  # noqa: BLE001  told: a view without figures, end and drops would look alive
            text = f"The live view has failed: {type(error).__name__}: {error}"
            for name in list(self._views):
                self._send({"type": "refused", "view": name, "reason": text, "final": True}, [])
                await self._leave(name)
        finally:
            self._ticking = None

    def status(self) -> dict[str, Any]:
        """What all views show: counts of the hub, level, and per view what only this side knows."""
        hub = self.hub
        views = {name: view.figures() for name, view in list(self._views.items())}
        return {
            "type": "status", **hub.statistics(), "level": hub.level, "size": hub.size, "problem": hub.problem,
            "tracks": sorted(hub.tracks_seen), "views": views, **self._facts(),
        }  # fmt: skip

    def reports(self) -> list[dict[str, Any]]:
        """What each open view has last told about itself."""
        return [{"view": name, **view.report} for name, view in list(self._views.items())]

    @property
    def open(self) -> bool:
        """Whether any view is open."""
        return bool(self._views)

    def announce(self) -> None:
        """Tell the views how things stand, without waiting for the next tick; any thread."""
        if self._views and not self.closed:
            self._send(self.status(), [])

    def close(self) -> None:
        """End all views and tell them. Idempotent; takes at most a second."""
        if not self.closed:
            self.closed = True
            self._runtime.run(self._close(), 2.0)

    async def _close(self) -> None:
        for task in (self._ticking, self._loading):
            if task is not None:
                task.cancel()
        if self._views:
            self._send({**self.status(), "ended": True}, [])
        await asyncio.gather(*[self._leave(name) for name in list(self._views)])


class View:
    """One browser's view: its messages, its connection."""

    def __init__(self, views: Views, name: str, message: Mapping[str, Any], ice: list[dict[str, Any]]) -> None:
        self._all, self._name = views, name
        self.heard = views._clock()
        self.report: dict[str, Any] = {}
        self._direct: DirectPath | None = None
        self._answering = asyncio.Event()  # candidates may come before there is a connection that takes them
        self._no_relay = ""
        self._shown = True
        self._chosen = False  # the direct path, by the browser
        self._closed = False
        form = "h264" if message.get("h264") else "jpeg"
        self._rung = _rung(message.get("width"), views.hub.size[0])
        self._messages = MessagePath(views.hub, views._send, name, form, self._rung, views._clock)
        hello = {"type": "welcome", "view": name, "ice": ice, "sync": views._sync, "size": views.hub.size}
        views._send(hello, [])

    @property
    def connected(self) -> bool:
        """Whether a direct connection stands."""
        return self._direct is not None and self._direct.connected

    async def receive(self, kind: str, message: Mapping[str, Any]) -> None:
        """A message of this view."""
        self.heard = self._all._clock()
        if kind == "ack":
            self._messages.acknowledge(int(message.get("n", 0)), float(message.get("spent", 0.0)))
        elif kind == "figures":
            self.report = {key: value for key, value in message.items() if key not in ("type", "view")}
        elif kind == "key":
            self._messages.restart()
        elif kind == "set":
            self._set(message)
        elif kind == "offer":
            await self._answer(str(message.get("sdp", "")))
        elif kind == "candidate":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answering.wait(), _LOADING)
            if self._direct is not None:
                with suppress(MediaError):  # the others may do; if none does, the view says that there is no path
                    await self._direct.peer.add_candidate(message.get("candidate"))
        elif kind == "path":
            await self._go(str(message.get("path", "")))

    def _set(self, message: Mapping[str, Any]) -> None:
        self._shown = bool(message.get("shown", self._shown))
        viewer = self._messages.viewer
        viewer.sound = bool(message.get("sound", viewer.sound))
        if "width" in message:
            self._rung = _rung(message["width"], self._all.hub.size[0])
        self._apply()

    def _apply(self) -> None:
        """Each of the two paths carries pictures only while they are looked at."""
        self._messages.viewer.change(rung=self._rung, active=self._shown and not self._chosen)
        if self._direct is not None:
            self._direct.viewer.change(rung=self._rung, active=self._shown)

    async def _answer(self, sdp: str) -> None:
        await self._take(None)
        try:
            direct = await self._all.direct_path(self._rung)
        except ConfigError as error:
            self._refuse(error)
            return
        if self._closed:  # meanwhile
            await direct.close()
            return
        await self._take(direct)
        try:
            answer = await direct.answer(sdp)
        except AvlabError as error:
            if self._direct is direct:
                self._refuse(error)
                await self._take(None)
            return
        self._all._send({"type": "answer", "view": self._name, "sdp": answer}, [])
        self._apply()

    def _refuse(self, error: AvlabError) -> None:
        self._all._send({"type": "refused", "view": self._name, "reason": str(error)}, [])

    async def _go(self, path: str) -> None:
        self._chosen = path == "direct" and self.connected
        if path == "messages":
            await self._take(None)
            # The browser tries again after a while; by then the credentials of its relays may have run out.
            with suppress(AvlabError):  # its next offer is refused with the reason
                self._all._send({"type": "ice", "view": self._name, "ice": await current(self._all._servers)}, [])
        self._apply()

    async def _take(self, direct: DirectPath | None) -> None:
        """Another direct path, or none, in the place of the one there is."""
        before, self._direct = self._direct, direct
        if direct is not None:
            self._answering.set()
        if before is not None:
            self._no_relay = before.peer.no_relay
            await before.close()

    def figures(self) -> dict[str, Any]:
        """What this side knows about the view: its path in a sentence, milliseconds before and on the way."""
        nothing: dict[str, Any] = {"path": "", "reason": "", "no_relay": self._no_relay, "age": None, "origins": {}}
        direct = self._direct.figures() if self._direct is not None else nothing
        return {
            **direct,
            "path": direct["path"] if self._chosen else "",
            "way": self._messages.way,
            "dropped": self._messages.dropped,
            "rung": self._rung,
        }

    async def close(self) -> None:
        """End it, within half a second."""
        self._closed = True
        self._messages.close()
        await self._take(None)


class Swift:
    """While somebody looks, threads take turns more often: a busy cell then leaves the media its share of the interpreter."""

    _holders: ClassVar[set[int]] = set()
    _before: ClassVar[float] = 0.005

    @classmethod
    def hold(cls, holder: object) -> None:
        """Begin for a holder, on the media loop."""
        if not cls._holders:
            cls._before = sys.getswitchinterval()
            sys.setswitchinterval(min(0.0005, cls._before))
        cls._holders.add(id(holder))

    @classmethod
    def drop(cls, holder: object) -> None:
        """End for a holder."""
        if id(holder) in cls._holders:
            cls._holders.remove(id(holder))
            if not cls._holders:
                sys.setswitchinterval(cls._before)


def _rung(wanted: Any, width: int) -> int:
    """The lowest rung whose pictures are as wide as the view (in pixels of the screen)."""
    if not isinstance(wanted, int | float) or wanted <= 0 or not width:
        return 0
    return 0 if wanted > width * 0.51 else 1 if wanted > width * 0.26 else 2
