"""The served page in Chromium as a view behind a network with faults, and what came through: numbers read from pixels and sound
that tells its own time. Nothing here asks avlab or the browser for counters."""

import base64
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from pages import FLAGS, chromium
from playwright.sync_api import sync_playwright
from telling_sound import RATE, Heard, middle, second, wrapped

import avlab
from avlab.media.rtc.peer import Peer
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.server import SignalConfig, SignalServer
from avlab.testing.between import PeerRelay

SIZE, FPS = (320, 180), 30
SETTLE = 1.5  # seconds from new faults to the first judgement
FROZEN = 0.1  # seconds from picture to picture that nobody minds
AWAKE = [
    "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", "--disable-background-timer-throttling",
]  # fmt: skip
# What a view shows and plays, as it is shown and played.
TAP = Path(__file__).with_name("view_tap.js").read_text()


@dataclass
class Record:
    """What came: (when, number) of each picture; what was heard, and how much later than its times say in a stretch of time."""

    pictures: list[tuple[float, int]]
    sound: Heard
    moved: Callable[[float, float], float] = lambda begin, end: 0.0

    def figures(self, begin: float, end: float) -> "Figures":
        """Of one stretch of time."""
        shown = [each for each in self.pictures if begin <= each[0] < end]
        edges = [begin, *(at for at, _ in shown), end]
        frozen = sum(max(0.0, b - a - FROZEN) for a, b in pairwise(edges))
        heard = self.sound.between(begin, end)
        return Figures(
            pictures=len({number for _, number in shown}) / ((end - begin) * FPS),
            frozen=frozen / (end - begin),
            audio=float(1 - heard.silent.mean()) * min(1.0, len(heard.times) * 0.01 / (end - begin) + 0.02),
            gap=heard.longest_silence(),
            made_up=heard.made_up(),
            skew=self._skew(begin, end),
            late=self._late(begin, end)[0],
        )

    def _late(self, begin: float, end: float) -> tuple[float, float]:
        """How much later than their places in the stream sound and pictures come: seconds, but for whole ones."""
        pictures = np.array([at - number / FPS for at, number in self.pictures if begin <= at < end]) % 1.0
        sound = self.sound.between(begin, end).lateness()
        sound = sound[~np.isnan(sound)]
        if not len(pictures) or not len(sound):
            return float("nan"), float("nan")
        return middle(sound) + self.moved(begin, end), middle(pictures)

    def _skew(self, begin: float, end: float) -> tuple[float, float]:
        """How much earlier sound comes than its picture (ITU-R BT.1359-1's sign): what 95 % of the seconds lie between."""
        pairs = np.array([self._late(at, at + 1) for at in np.arange(begin, end - 0.99)])
        known = pairs[~np.isnan(pairs).any(axis=1)]
        if not len(known):
            return float("nan"), float("nan")
        late, early = np.percentile(wrapped(known[:, 1] - known[:, 0]), [2.5, 97.5])
        return float(late), float(early)

    def back(self, after: float) -> float:
        """Seconds from a moment until pictures and sound both come again."""
        picture = next((at for at, _ in self.pictures if at > after), float("inf"))
        sound = self.sound.times[(self.sound.times > after) & ~self.sound.silent]
        return max(picture, sound[0] if len(sound) else float("inf")) - after


@dataclass(frozen=True)
class Figures:
    """``pictures``: distinct ones of those sent; ``frozen``: time in pauses beyond 0.1 s; ``audio``: time with sound; ``gap``: longest
    silence, seconds; ``made_up``: share of sound that was concealed or is out of place; ``skew``: sound before picture, negative after it,
    seconds, what 95 % of them lie between; ``late``: of sound, up to a constant."""

    pictures: float
    frozen: float
    audio: float
    gap: float
    made_up: float
    skew: tuple[float, float]
    late: float


class Telling:
    """Gives a TestSource's pictures sound that tells its own time; ``noise`` makes them hard to encode."""

    def __init__(self, noise: bool = False) -> None:
        self._dice = np.random.default_rng(1) if noise else None

    def process(self, item: avlab.Item) -> avlab.Item:
        """One item."""
        if item.track != "audio":
            if self._dice is not None:
                plane = item.value.planes[0]
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                rows[plane.height // 8 :] = self._dice.integers(96, 160, (plane.height - plane.height // 8, plane.line_size), np.uint8)
            return item
        at = item.pts % RATE
        frame = av.AudioFrame.from_ndarray(np.repeat(second()[at : at + 960], 2)[None], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, item.pts, Fraction(1, RATE)
        return avlab.Item(frame, item.pts, item.time_base, item.track, item.seq)


class Detour(Peer):
    """A peer whose packets all go through a relay: it tells the relay's addresses, and is told none of the other side's."""

    relay: PeerRelay

    async def answer(self, sdp: str) -> str:
        """As `Peer.answer`."""
        return self.relay.expose(await super().answer(self.relay.hide(sdp)))

    async def add_candidate(self, candidate: object) -> None:
        """The page's own addresses stay unknown."""


class Remote(avlab.WebRTCManager):
    """A manager that is reached through a relay alone."""

    relay: PeerRelay

    def _peer(self) -> Peer:
        peer = Detour(loopback=True)
        peer.relay = self.relay
        return peer


class Lab:
    """A signalling server and a browser."""

    def __init__(self) -> None:
        program = chromium()
        with ExitStack() as stack:
            self.runtime = MediaRuntime()
            stack.callback(MediaRuntime.default().close)
            stack.callback(self.runtime.close)
            self.server = stack.enter_context(SignalServer(SignalConfig(port=0), runtime=self.runtime))
            playwright = stack.enter_context(sync_playwright())
            self.browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *AWAKE])
            stack.callback(self.browser.close)
            self._stack = stack.pop_all()

    def page(self):
        """A page of its own."""
        page = self.browser.new_context(bypass_csp=True).new_page()
        page.set_default_timeout(30_000)
        return page

    def manager(self, room: str, relay: PeerRelay, **options) -> Remote:
        """Somebody in a room, behind a network."""
        manager = Remote(self.server.url, room=room, secret=self.server.secret, **options)
        manager.relay = relay
        return manager

    def close(self) -> None:
        """End all."""
        self._stack.close()


class View:
    """WebRTCSink → network → the page as view."""

    def __init__(self, lab: Lab, stack: ExitStack, relay: PeerRelay, noise: bool) -> None:
        manager = stack.enter_context(lab.manager("view", relay))
        source = avlab.TestSource(size=(640, 360) if noise else SIZE, rate=FPS, realtime=True)
        run = (source >> Telling(noise) >> avlab.WebRTCSink(manager=manager)).start()
        stack.callback(run.stop)
        self.outgoing = manager.outgoing
        self.page = lab.page()
        stack.callback(self.page.context.close)
        self.page.goto(manager.invite("view").url)
        self.page.get_by_test_id("avlab-view-start").click()
        self.page.evaluate(TAP)

    def ready(self) -> bool:
        """Whether pictures come."""
        return bool(self.page.evaluate(f"() => tap.pictures.length > {FPS} && tap.sound.length > 0"))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.page.wait_for_timeout(seconds * 1000)

    def record(self) -> Record:
        """So far, with our clock."""
        before = time.monotonic()
        found = self.page.evaluate("() => tap.give()")
        shift = (before + time.monotonic()) / 2 - found["now"] / 1000
        samples = np.frombuffer(base64.b64decode(found["samples"]), "<i2") / 32768
        pictures = [(at / 1000 + shift, int(number)) for at, number in found["pictures"]]
        return Record(pictures, Heard.of(samples, np.array(found["starts"]) / 1000 + shift))


@contextmanager
def viewed(lab: Lab, *, seed: int = 1, noise: bool = False):
    """A view behind a network, with pictures (that need all the bits they can get, with ``noise``) and sound: the view, the relay."""
    with ExitStack() as stack:
        relay = stack.enter_context(PeerRelay(seed=seed))
        view = View(lab, stack, relay, noise)
        for _ in range(200):
            if view.ready():
                break
            view.wait(0.1)
        else:
            raise AssertionError(view.page.get_by_test_id("avlab-status").inner_text(), relay.statistics())
        yield view, relay


def phase(view, relay: PeerRelay, faults: dict[str, float], seconds: float) -> tuple[float, float]:
    """Other faults for a while; from when to when they are to be judged."""
    relay.change(**faults)
    view.wait(SETTLE)
    begin = time.monotonic()
    view.wait(seconds)
    return begin, time.monotonic()


def outage(view, relay: PeerRelay, seconds: float, after: float) -> float:
    """Nothing passes for a while, then everything does; when it was healed."""
    relay.change()
    relay.cut()
    view.wait(seconds)
    relay.heal()
    healed = time.monotonic()
    view.wait(after)
    return healed
