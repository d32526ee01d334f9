"""What a measurement from glass to glass reckons from what was painted and what was read back."""

from typing import Any

import pytest
from avlab_kernel.live.glass import Painted, clock_offset, reckon

from avlab.core.errors import MediaError

AHEAD = 5000.0  # milliseconds by which the kernel's clock is ahead of the browser's
PINGS = [[100.0, 5130.0, 120.0], [200.0, 5202.0, 204.0], [300.0, 5390.0, 400.0]]


def painted(seconds: int = 4) -> Painted:
    return Painted(30, {n: 6000 + n * 1000 / 30 for n in range(seconds * 30)}, {k: 6000.0 + k * 1000 for k in range(seconds)})


def report(readings: list[list[float]], beeps: list[float] | None = None) -> dict[str, Any]:
    said = {"path": "direct", "sentence": "Connected directly.", "deaf": "no sound"}
    return {"began": 2000.0, "pings": PINGS, "readings": readings, "beeps": beeps or [], **said}


def presented(delay: float, numbers: range) -> list[list[float]]:
    return [[n, painted().pictures[n] + delay - AHEAD] for n in numbers]


def test_clocks_are_compared_by_the_fastest_round_trip() -> None:
    assert clock_offset(PINGS) == (AHEAD, 2.0)
    with pytest.raises(MediaError, match="could not be compared"):
        clock_offset([])


def test_every_picture_was_seen_after_the_same_time() -> None:
    glass = reckon(painted(), report(presented(40, range(30, 100))), 2)
    assert glass.delay == pytest.approx((40, 40))
    assert (glass.painted, glass.seen, glass.lost, glass.repeated) == (60, 60, 0, 0)
    assert glass.fps == 30
    assert glass.skew is None
    assert glass.beeps == (2, 0)
    assert "no sound" in str(glass)


def test_lost_repeated_and_unreadable_pictures() -> None:
    shown = presented(40, range(30, 60))
    shown[10:12] = []
    shown.insert(5, shown[4])
    shown.insert(20, [-1, shown[20][1]])
    glass = reckon(painted(), report(shown), 1)
    assert (glass.painted, glass.seen, glass.lost, glass.repeated) == (30, 28, 2, 1)
    with pytest.raises(MediaError, match="keep the view in sight"):
        reckon(painted(), report([[-1, 2000.0]]), 1)


def test_skew_is_positive_when_sound_is_early() -> None:
    second = painted().beeps[1] - AHEAD
    late = reckon(painted(), report(presented(40, range(30, 120)), [second + 70, second + 1090]), 2)
    assert late.skew == pytest.approx((-30, -50))
    assert late.beeps == (2, 2)
    assert "sound late" in str(late)
    early = reckon(painted(), report(presented(40, range(30, 120)), [second + 10]), 2)
    assert early.skew == pytest.approx((30, 30))


def test_a_beep_whose_picture_was_lost_is_compared_with_its_neighbour() -> None:
    shown = presented(40, range(33, 60))
    glass = reckon(painted(), report(shown, [painted().beeps[1] - AHEAD + 40]), 1)
    assert glass.skew == pytest.approx((0, 0), abs=0.001)
    html = glass._repr_html_()
    assert html.startswith("<table>") and "1 of 1 heard" in html and repr(glass) == str(glass)
