"""Live media between Python and Chromium through bad networks: ``python tests/rtc/fault_figures.py [seconds [who…]]`` prints a table.

``sink``: a WebRTCSink, a relay with one fault after the other, the served page as a view; ``sink-aiortc``: aiortc alone, the same relay,
a page that only plays. ``low-latency``, ``lips``, ``aiortc``: a page that films, the relay, and our receiver or aiortc alone. Numbers are
read from pixels and sound tells its own time; nothing is asked for counters. Columns: see `Figures`; *later*: how much later than through
the clean network sound comes; *missed*: the aims that were.
"""

import os
import sys
from collections.abc import Mapping
from functools import partial

from fault_camera import LIPS, OURS, STOCK, filmed
from fault_lab import Figures, Lab, Record, outage, phase, viewed
from fault_sender import sent
from telling_sound import wrapped

WAYS = {
    "sink": viewed,
    "sink-aiortc": sent,
    "low-latency": partial(filmed, receiver=OURS),
    "lips": partial(filmed, receiver=LIPS),
    "aiortc": partial(filmed, receiver=STOCK),
}
NETWORKS: Mapping[str, dict[str, float]] = {
    "clean": {},
    "1 %": {"loss": 0.01},
    "5 %": {"loss": 0.05},
    "10 %": {"loss": 0.1},
    "±50 ms": {"jitter": 0.05},
}
HEAD = "who | pictures | frozen | audio | gap ms | made up | skew ms | later ms | missed |"
REST = 10.0  # seconds without faults before each network: buffers forget the one before
CUT, BACK = 10.0, 3.0  # seconds of an outage, and until media is to be back


def missed(name: str, found: Figures, later: float) -> str:
    """Which aims are missed."""
    late, early = found.skew
    aims = {
        "clean": {"audio": found.audio >= 0.999, "skew": late >= -0.045 and early <= 0.015},
        "1 %": {"audio": found.audio >= 0.99, "skew": late >= -0.125 and early <= 0.045, "frozen": found.frozen < 0.001},
        "5 %": {"gap": found.gap <= 0.06, "made up": found.made_up <= 0.04, "frozen": found.frozen <= 0.03},
        "10 %": {"made up": found.made_up <= 0.08, "frozen": found.frozen <= 0.08},
        "±50 ms": {"audio": found.audio >= 0.99, "later": later <= 0.15},
    }
    return ", ".join(aim for aim, met in aims[name].items() if not met) or "–"


def rows(record: Record, spans: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """The cells of each network."""
    found = {name: record.figures(*span) for name, span in spans.items()}
    calm, made = found["clean"].late, {}
    for name, each in found.items():
        later = float(wrapped(each.late - calm))
        late, early = (1e3 * skew for skew in each.skew)
        made[name] = (
            f"{each.pictures:.1%} | {each.frozen:.1%} | {each.audio:.1%} | {each.gap * 1e3:.0f} | {each.made_up:.1%} | "
            f"{late:+.0f} to {early:+.0f} | {later * 1e3:+.0f} | {missed(name, each, later)} |"
        )
    return made


def watched(subject, relay, seconds: float) -> tuple[dict[str, str], str]:
    """One way of the media through all networks, and an outage."""
    spans = {}
    for name, faults in NETWORKS.items():
        phase(subject, relay, {}, REST)
        spans[name] = phase(subject, relay, faults, seconds)
    healed = outage(subject, relay, CUT, 8.0)
    record = subject.record()
    back = record.back(healed)
    return rows(record, spans), f"media back {back:.2f} s after {CUT:g} s without a network{' (missed)' if back > BACK else ''}"


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    lab = Lab()
    print(f"| network | {HEAD}\n" + "|---" * 10 + "|")
    try:
        for way in sys.argv[2:] or WAYS:
            with WAYS[way](lab) as (subject, relay):
                cells, back = watched(subject, relay, seconds)
            print("\n".join(f"| {name} | {way} | {each}" for name, each in cells.items()), flush=True)
            print(f"{way}: {back}", file=sys.stderr)
    finally:
        lab.close()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
