"""Live media from Python to Chromium through bad networks: ``python tests/rtc/fault_figures.py [seconds]`` prints a table.

A WebRTCSink, a relay with one fault after the other, the served page as a view. Numbers are read from pixels and sound tells
its own time; nothing is asked for counters. Columns: see `Figures`.
"""

import os
import sys

from fault_lab import Figures, Lab, outage, phase, viewed

NETWORKS = {
    "clean": {},
    "1 %": {"loss": 0.01},
    "5 %": {"loss": 0.05},
    "10 %": {"loss": 0.1},
    "±50 ms": {"jitter": 0.05},
}


def row(network: str, found: Figures) -> str:
    """One line of the table."""
    cells = [
        f"{found.pictures:.1%}", f"{found.frozen:.1%}", f"{found.audio:.1%}", f"{found.gap * 1e3:.0f}",
        f"{found.made_up:.1%}", f"{found.skew * 1e3:+.0f}",
    ]  # fmt: skip
    return f"| {network} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    lab = Lab()
    try:
        with viewed(lab) as (view, relay):
            spans = {name: phase(view, relay, faults, seconds) for name, faults in NETWORKS.items()}
            healed = outage(view, relay, 10.0, 8.0)
            record = view.record()
    finally:
        lab.close()
    print("| network | pictures | frozen | audio | gap ms | made up | skew ms |\n|---|---|---|---|---|---|---|")
    for name, span in spans.items():
        print(row(name, record.figures(*span)))
    print(f"media back {record.back(healed):.2f} s after 10 s without a network")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
