"""Live media between Python and Chromium through bad networks: ``python tests/rtc/fault_figures.py [seconds]`` prints two tables.

First a WebRTCSink, a relay with one fault after the other, the served page as a view; then a page's camera, the same relay, and our
receiver or aiortc alone. Numbers are read from pixels and sound tells its own time; nothing is asked for counters. Columns: see
`Figures`.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fault_camera import OURS, STOCK, devices, filmed
from fault_lab import Figures, Lab, outage, phase, viewed

NETWORKS: Mapping[str, dict[str, float]] = {
    "clean": {},
    "1 %": {"loss": 0.01},
    "5 %": {"loss": 0.05},
    "10 %": {"loss": 0.1},
    "±50 ms": {"jitter": 0.05},
}
HEAD = "pictures | frozen | audio | gap ms | made up"


def cells(found: Figures) -> str:
    """What both tables show."""
    return (
        f"{found.pictures:.1%} | {found.frozen:.1%} | {found.audio:.1%} | {found.gap * 1e3:.0f} | {found.made_up:.1%}"
    )


def shown(lab: Lab, seconds: float) -> None:
    """From Python to Chromium."""
    with viewed(lab) as (view, relay):
        spans = {name: phase(view, relay, faults, seconds) for name, faults in NETWORKS.items()}
        healed = outage(view, relay, 10.0, 8.0)
        record = view.record()
    print(f"| network | {HEAD} | skew ms |\n" + "|---" * 7 + "|")
    for name, span in spans.items():
        found = record.figures(*span)
        print(f"| {name} | {cells(found)} | {found.skew * 1e3:+.0f} |")
    print(f"media back {record.back(healed):.2f} s after 10 s without a network", flush=True)


def taken(lab: Lab, seconds: float) -> None:
    """From Chromium to Python."""
    found: dict[str, dict[str, Figures]] = {name: {} for name in NETWORKS}
    for receiver in (OURS, STOCK):
        with filmed(lab, receiver) as (camera, relay):
            spans = {name: phase(camera, relay, faults, seconds) for name, faults in NETWORKS.items()}
            record = camera.record()
        for name, span in spans.items():
            found[name][receiver] = record.figures(*span)
    print(f"\n| network | receiver | {HEAD} |\n" + "|---" * 7 + "|")
    for name, each in found.items():
        for receiver, figures in each.items():
            print(f"| {name} | {receiver} | {cells(figures)} |")


def main() -> None:
    """Print the tables."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(*devices(Path(folder)))
        try:
            shown(lab, seconds)
            taken(lab, seconds)
        finally:
            lab.close()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
