"""Figures, the targets that they are held to, and the one table of ratios."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

FRAMES = ("720p RGB", "1080p RGB")
AVLAB = ("avlab-local", "avlab-grpc")
Figures = Mapping[tuple[str, str], float]
"""(measure, contender) → figure, in the measure's unit."""


@dataclass(frozen=True)
class Target:
    """What a contender's figure shall be: a ratio to another contender's, or absolute (``to`` is empty)."""

    measure: str
    contender: str
    to: str
    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = (
    Target("round trip, 3.8 kB", "avlab-local", "ray", 0.1),
    Target("round trip, 3.8 kB", "avlab-grpc", "ray", 0.4),
    Target("round trip, 720p RGB", "avlab-local", "ray", 0.25),
    Target("round trip, 720p RGB", "avlab-local", "shared-memory", 1.4),
    Target("round trip, 1080p RGB", "avlab-local", "ray", 0.35),
    *(Target(f"round trip, {frame}", "avlab-grpc", "grpc-bytes", 1.3) for frame in FRAMES),
    Target("pipelined, 3.8 kB", "avlab-local", "ray", 8, True),
    Target("pipelined, 3.8 kB", "avlab-grpc", "ray", 2.5, True),
    *(Target(f"pipelined, {frame}", "avlab-local", "shared-memory", 0.7, True) for frame in FRAMES),
    *(Target(f"pipelined, {frame}", "avlab-grpc", "grpc-bytes", 0.75, True) for frame in FRAMES),
    Target("first result", "avlab-local", "", 20),
    Target("first result, cold", "avlab-local", "", 500),
    Target("pipeline hop", "local", "", 5),
    Target("cell again", "avlab-local", "", 50),
    Target("idle worker", "avlab-local", "", 45),
    Target("import avlab", "local", "", 150),
)

UNITS = {
    "pipelined": "/s",
    "pipeline hop": "µs",
    "idle worker": "MB",
    "file to file": "fps",
}
MILLISECONDS = "ms"


@dataclass(frozen=True)
class Row:
    """One line: the ratio is the contender's figure divided by that of ``to`` ("target" for absolute targets)."""

    measure: str
    contender: str
    measured: str
    ratio: str = ""
    to: str = ""
    target: str = ""
    verdict: str = ""


def unit(measure: str) -> str:
    return UNITS.get(measure) or UNITS.get(measure.partition(",")[0], MILLISECONDS)


def number(value: float) -> str:
    """Three figures."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def rows(measures: list[tuple[str, list[str]]], figures: Figures, absent: Mapping[str, str]) -> Iterator[Row]:
    """A row per contender and measure, and per target if it has more than one.

    measures: each with its contenders. absent: contender → why it has no figures ("not installed", "failed").
    """
    for measure, contenders in measures:
        for contender in contenders:
            value = figures.get((measure, contender))
            if value is None:
                yield Row(measure, contender, absent.get(contender, "failed"))
                continue
            measured = f"{number(value)} {unit(measure)}"
            targets = [t for t in TARGETS if (t.measure, t.contender) == (measure, contender)]
            for target in targets:
                yield _held(target, measured, value, figures)
            if not targets:
                base = "local" if "local" in contenders else "avlab-local"
                other = figures.get((measure, base)) if base != contender else None
                yield Row(measure, contender, measured, number(value / other) if other else "", base if other else "")


def _held(target: Target, measured: str, value: float, figures: Figures) -> Row:
    """The row of a figure that has a target."""
    limit = f"{'≥' if target.at_least else '≤'} {target.limit:g}"
    if not target.to:
        limit, to, ratio = f"{limit} {unit(target.measure)}", "target", value / target.limit
        met = target.met(value)
    elif (other := figures.get((target.measure, target.to))) is None:
        return Row(target.measure, target.contender, measured, "", target.to, limit, f"no {target.to}")
    else:
        to, ratio = target.to, value / other
        met = target.met(ratio)
    return Row(target.measure, target.contender, measured, number(ratio), to, limit, "met" if met else "not met")


def shown(lines: list[Row]) -> str:
    """The table; a measure is named once."""
    cells = [tuple(name for name in Row.__dataclass_fields__), *(tuple(asdict(row).values()) for row in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text, before = [], ""
    for line in cells:
        first, *rest = (
            cell.rjust(width) if at in (2, 3) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join([first if line[0] != before else " " * len(first), *rest]).rstrip())
        before = line[0]
    return "\n".join([text[0], "─" * max(map(len, text)), *text[1:]])


def as_json(lines: list[Row], rounds: Mapping[tuple[str, str], list[float]], about: Mapping[str, str]) -> str:
    """The same rows, with every single figure behind them."""
    single = [{"measure": measure, "contender": who, "values": values} for (measure, who), values in rounds.items()]
    return json.dumps({"about": about, "rows": [asdict(row) for row in lines], "rounds": single}, indent=1)
