"""Meters and progress."""

import io
import itertools
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.clock import FakeClock
from avlab.core.errors import TimedOut
from avlab.core.node import Node
from avlab.flow.graph import Pipeline
from avlab.flow.meter import Meter
from avlab.flow.progress import Hook, TerminalLine, display, line


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Pass(Node):
    def process(self, value: int) -> int:
        return value


@given(st.lists(st.integers(0, 10**13), min_size=1), st.floats(0.01, 1))
def test_quantiles_are_right_to_within_an_eighth(times, fraction):
    meter = Meter()
    for time in times:
        meter.observe(time)
    exact = sorted(times)[max(0, -(-int(len(times) * fraction * 1000) // 1000) - 1)]
    found = meter.quantile(fraction) * 1e6
    near = [t for t in times if abs(t - found) <= max(1, t / 8)]
    assert near
    assert found <= max(times) * 9 / 8
    assert meter.quantile(1.0) * 1e6 >= max(times) * 7 / 8
    assert meter.quantile(0.01) * 1e6 <= exact * 9 / 8 + 1 or fraction < 0.02
    assert meter.busy == sum(times)


def test_no_quantile_of_nothing():
    assert Meter().quantile(0.5) is None


def test_a_line_with_and_without_a_total():
    clock = FakeClock()
    run = Pipeline([range(4), Pass()], clock=clock).start()
    run.wait()
    clock.advance(2)
    statistics = run.statistics()
    assert line(statistics, 4).startswith("█" * 24 + " 100%  4/4")
    assert line(statistics, 8).startswith("█" * 12 + "·" * 12 + "  50%  4/8")
    assert line(statistics, None).startswith("4 items")


def test_the_terminal_line_is_redrawn_and_ended():
    stream = io.StringIO()
    shown = TerminalLine(stream)
    shown.show("long text")
    shown.show("short")
    shown.close()
    assert stream.getvalue() == "\rlong text\rshort    \n"


def test_progress_is_shown_on_terminals_only_unless_asked(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert display(None) is None
    assert isinstance(display(True), TerminalLine)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(display(None), TerminalLine)
    assert display(False) is None


def test_a_run_shows_its_progress(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Pipeline([range(10), Pass()]).run()
    assert "100%  10/10" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    before = terminal.getvalue()
    Pipeline([range(10), Pass()]).run(progress=False)
    assert terminal.getvalue() == before


def test_a_notebook_brings_its_own_display(monkeypatch):
    class Cell:
        lines, closed = [], 0

        def show(self, text):
            self.lines.append(text)

        def close(self):
            Cell.closed += 1

    monkeypatch.setattr(Hook, "display", Cell)
    with pytest.raises(ValueError, match="no"):
        Pipeline([range(3), type("Bad", (Pass,), {"process": _fail})()]).run()
    Pipeline([range(3), Pass()]).run()
    assert Cell.closed == 2
    assert "3/3" in Cell.lines[-1]


def _fail(self, value: int) -> int:
    raise ValueError("no")


def test_a_slow_display_does_not_make_a_timeout_longer(monkeypatch):
    lines = []

    class Slow:
        def show(self, line: str) -> None:
            lines.append(line)
            threading.Event().wait(0.3)

        def close(self) -> None: ...

    monkeypatch.setattr(Hook, "display", Slow)
    with pytest.raises(TimedOut):
        Pipeline([itertools.count(), Pass()]).run(timeout=1.0)
    assert len(lines) < 5  # each after another fifth of a second, if only the waiting counted
