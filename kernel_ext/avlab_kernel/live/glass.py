"""What a measurement from glass to glass says, reckoned from what was painted here and read back in the browser."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avlab.core.errors import MediaError

_SLACK = 5.0  # milliseconds by which a beep may seem to be heard before it was made


@dataclass(frozen=True, slots=True)
class Painted:
    """What the source made, on the kernel's clock in milliseconds: pictures by number, beeps by the second of the stream."""

    rate: float
    pictures: Mapping[int, float]
    beeps: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class GlassToGlass:
    """Figures from the painted picture to the presented one, and of the sound that goes with it.

    path: ``direct`` or ``messages``, and reason: the view's sentence about it. delay: milliseconds from the painted picture to
    the presented one, (p50, p95), right to within ``accuracy``, by which the two clocks may be apart. skew: milliseconds, (the
    middle one, the one furthest from it), positive when sound is early; None when fewer than one beep was heard, see ``deaf``.
    painted: pictures that the source made in these ``seconds``; seen: those of them that the browser presented; lost: the others;
    repeated: times that a picture was presented once more. fps: seen per second. beeps: made, heard.
    """

    path: str
    reason: str
    seconds: float
    delay: tuple[float, float]
    accuracy: float
    skew: tuple[float, float] | None
    painted: int
    seen: int
    lost: int
    repeated: int
    fps: float
    beeps: tuple[int, int]
    deaf: str = ""

    def _rows(self) -> list[tuple[str, str]]:
        skew = self.deaf or "no beep was heard"
        if self.skew is not None:
            middle, far = self.skew
            skew = f"{middle:+.0f} ms, furthest {far:+.0f} ms (sound {'early' if middle > 0 else 'late'})"
        return [
            ("path", f"{self.path}: {self.reason}" if self.reason else self.path),
            ("delay", f"{self.delay[0]:.0f} ms, p95 {self.delay[1]:.0f} ms (± {self.accuracy:.0f} ms)"),
            ("sound and picture", skew),
            ("pictures", f"{self.painted} painted, {self.seen} seen, {self.lost} lost, {self.repeated} repeated"),
            ("rate", f"{self.fps:.1f} pictures per second for {self.seconds:g} s"),
            ("beeps", f"{self.beeps[1]} of {self.beeps[0]} heard"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<18}{value}" for name, value in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows())
        return f"<table>{''.join(rows)}</table>"


def reckon(painted: Painted, report: Mapping[str, Any], seconds: float) -> GlassToGlass:
    """The figures. report: the browser's ``began``, ``pings`` (sent, the kernel's time, answered), ``readings`` (number or -1,
    time) and ``beeps`` (time), in milliseconds of its clock. Raises MediaError when no clock or no picture could be read."""
    offset, accuracy = clock_offset(report["pings"])
    began = report["began"] + offset
    window = {n: at for n, at in painted.pictures.items() if began <= at < began + seconds * 1000}
    shown: dict[int, float] = {}
    repeated, before = 0, -1
    for number, time in report["readings"]:
        repeated += number == before and number in window
        before = number
        if number in painted.pictures:
            shown.setdefault(number, time + offset)
    delays = sorted(shown[n] - at for n, at in window.items() if n in shown)
    if not delays:
        raise MediaError(
            "the browser has read no picture's number back: keep the view in sight and its page in front while it measures"
        )
    beeps = {k: at for k, at in painted.beeps.items() if began <= at < began + seconds * 1000}
    skews = _skews(painted.rate, beeps, shown, [each + offset for each in report["beeps"]], accuracy)
    middle = _share(sorted(skews), 0.5) if skews else 0.0
    return GlassToGlass(
        path=report["path"],
        reason=report["sentence"],
        seconds=seconds,
        delay=(_share(delays, 0.5), _share(delays, 0.95)),
        accuracy=accuracy,
        skew=(middle, max(skews, key=lambda skew: abs(skew - middle))) if skews else None,
        painted=len(window),
        seen=len(delays),
        lost=len(window) - len(delays),
        repeated=repeated,
        fps=len(delays) / seconds,
        beeps=(len(beeps), len(skews)),
        deaf="" if skews else report.get("deaf", ""),
    )


def clock_offset(pings: Sequence[Sequence[float]]) -> tuple[float, float]:
    """What to add to the browser's clock to get the kernel's, and by how much it may be wrong: from the fastest round trip.
    Raises MediaError without any."""
    if not pings:
        raise MediaError("the kernel's and the browser's clock could not be compared: no message came back in a second")
    sent, at, answered = min(pings, key=lambda ping: ping[2] - ping[0])
    return at - (sent + answered) / 2, (answered - sent) / 2


def _skews(
    rate: float, beeps: Mapping[int, float], shown: Mapping[int, float], heard: list[float], accuracy: float
) -> list[float]:
    """By how many milliseconds each beep was heard before the picture that belongs to it was seen."""
    skews: dict[int, float] = {}
    for time in heard:
        made = [k for k, at in beeps.items() if at - accuracy - _SLACK <= time < at + 1000]
        second = max(made, default=None)
        if second is None or second in skews:
            continue
        belongs = second * rate
        near = min(shown, key=lambda n: abs(n - belongs))
        if abs(near - belongs) < rate / 4:  # where that very picture was lost, its neighbour tells as well
            skews[second] = shown[near] - (near - belongs) / rate * 1000 - time
    return list(skews.values())


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
