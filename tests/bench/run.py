"""``make bench``: avlab beside its peers, measured in one run; a table of ratios with targets and verdicts.

Contenders take turns in short rounds, so that what disturbs the machine disturbs all of them; figures are medians of rounds.
A missed target is a result, not an error: the exit code is 1 only when a part of avlab could not be measured.
"""

import argparse
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import table
from echo import PAYLOADS
from processes import Broken, Missing, Process, adopt_orphans, end_all

from avlab.core.clock import monotonic

PEERS = {
    "avlab-local": "avlab_local",
    "avlab-grpc": "avlab_grpc",
    "ray": "ray_actor",
    "dask": "dask_actor",
    "ipyparallel": "ipyparallel_view",
    "zeromq": "zeromq",
    "grpc-bytes": "grpc_bytes",
    "shared-memory": "shared_memory",
}
WITH_OBJECTS = ("avlab-local", "avlab-grpc", "ray", "dask")
# Part: its measures and contenders, how often it is run in a full and in a quick benchmark.
PARTS = {
    "cold": ({"first result, cold": ["avlab-local"]}, 7, 2),
    "hop": ({"pipeline hop": ["local"]}, 1, 1),
    "cell": ({"cell again": ["avlab-local"], "its first result": ["avlab-local"]}, 1, 1),
    "worker": ({"idle worker": ["avlab-local"]}, 1, 1),
    "import": ({"import avlab": ["local"]}, 10, 5),
    "job": ({"file to file": ["local", "avlab-local"]}, 1, 1),
}
START_SECONDS, ASK_SECONDS, PART_SECONDS = 60, 20, 60


class Bench:
    """One run: what it found so far."""

    def __init__(self, quick: bool, rounds: int, seconds: float) -> None:
        self.quick, self.rounds, self.seconds = quick, rounds, seconds
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.absent: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self.about: dict[str, str] = {}
        self.measures: list[tuple[str, list[str]]] = []
        self.end = monotonic() + (55 if quick else 290) * 1e9

    @property
    def late(self) -> bool:
        """Whether no further round shall begin."""
        return monotonic() > self.end

    def lost(self, name: str, error: Exception) -> None:
        self.absent[name] = "not installed" if isinstance(error, Missing) else "failed"
        self.why[name] = f"{error} is not installed" if isinstance(error, Missing) else str(error)

    def part(self, name: str) -> None:
        """A measurement in fresh processes of its own."""
        measures, often, quickly = PARTS[name]
        self.measures += measures.items()
        for number in range(quickly if self.quick else often):
            say(f"{name} {number + 1}")
            try:
                with Process("parts.py", name) as process:
                    figures = process.answer(PART_SECONDS)
            except (Missing, Broken) as error:
                self.why[name] = str(error)
                return
            for key, value in figures.items():
                measure = key if key in measures else next(iter(measures))
                self.values[measure, measures[measure][0] if key in measures else key].append(value)

    def compete(self, names: list[str], echo: bool, first: bool) -> None:
        """Rounds of all contenders, side by side."""
        with ExitStack() as stack:
            say("starting " + ", ".join(names))
            # Peers leave files behind; avlab runs as it would anywhere.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
            stack.callback(end_all)
            alive = {
                name: stack.enter_context(
                    Process("host.py", PEERS[name], folder=None if name in table.AVLAB else folder)
                )
                for name in names
            }
            for name in names:
                try:
                    self.about[name] = alive[name].answer(START_SECONDS)
                except (Missing, Broken) as error:
                    self.lost(name, error)
                    del alive[name]
            for payload in PAYLOADS if echo else ():
                self._turns(alive, 1, "check", payload)
            for payload in PAYLOADS if echo else ():
                for kind, command in (("round trip", "round_trip"), ("pipelined", "pipelined")):
                    self.measures.append((f"{kind}, {payload}", names))
                    self._turns(alive, self.rounds, command, payload, self.seconds, measure=f"{kind}, {payload}")
            if first:
                able = [name for name in names if name in WITH_OBJECTS]
                self.measures.append(("first result", able))
                some = {name: alive[name] for name in able if name in alive}
                self._turns(some, self.rounds, "first", measure="first result")

    def _turns(self, alive: dict[str, Process], rounds: int, *command: object, measure: str = "") -> None:
        for number in range(rounds):
            if measure and number and self.late:
                return
            say(f"{measure or 'warm-up'} {number + 1}")
            for name in list(alive):
                try:
                    value = alive[name].ask(*command, seconds=ASK_SECONDS)
                except Broken as error:
                    self.lost(name, error)
                    del alive[name]
                    continue
                if measure:
                    self.values[measure, name].append(value)

    def figures(self) -> dict[tuple[str, str], float]:
        return {key: statistics.median(values) for key, values in self.values.items()}

    @property
    def broken(self) -> bool:
        """Whether a part of avlab could not be measured."""
        return any(name in PARTS or name in table.AVLAB for name in self.why)


def say(what: str) -> None:
    """Progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def chosen(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Contenders and parts that shall be measured."""
    only = set(options.only) - set(options.without)
    peers = [name for name in PEERS if name in only]
    if not peers and only & {"echo", "first"}:
        peers = [name for name in PEERS if name not in options.without]
    return peers, [name for name in (*PARTS, "echo", "first") if name in only]


def main() -> int:
    names = [*PEERS, "echo", "first", *PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds: at most 90 s")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--without", nargs="+", choices=names, default=[], metavar="NAME", help="the same names")
    parser.add_argument("--rounds", type=int, help="turns of each contender (default 9, quick 3)")
    parser.add_argument("--seconds", type=float, help="length of one turn (default 0.25, quick 0.1)")
    parser.add_argument("--json", type=Path, help="write the rows and all single figures there")
    options = parser.parse_args()
    bench = Bench(
        options.quick,
        options.rounds or (3 if options.quick else 9),
        options.seconds or (0.1 if options.quick else 0.25),
    )
    peers, parts = chosen(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    try:
        if peers:
            bench.compete(peers, "echo" in parts or "first" not in parts, "first" in parts)
        for part in parts:
            if part in PARTS:
                bench.part(part)
    finally:
        say("")
        end_all()
    rows = list(table.rows(bench.measures, bench.figures(), bench.absent))
    print(table.shown(rows))
    bench.about["machine"] = f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}"
    print("\n" + "\n".join(f"{name}: {text}" for name, text in (*bench.about.items(), *bench.why.items())))
    print("ratio: measured, divided by the figure of the contender under `to` (or by the target)")
    if options.json:
        options.json.write_text(table.as_json(rows, bench.values, bench.about))
    return int(bench.broken)


if __name__ == "__main__":
    sys.exit(main())
