"""Where the time goes, and what went wrong, as live views show it."""

from __future__ import annotations

from typing import Any

from avlab.flow.run import Run
from avlab.flow.statistics import Statistics

_LONGEST = 300  # characters of an error


def facts(run: Run) -> dict[str, Any]:
    """For status messages: `hops`, and why the run failed, empty if it did not."""
    error = run.error
    lines = [] if error is None else str(error).strip().splitlines()
    failed = "" if error is None else ": ".join([type(error).__name__, *lines[:1]])[:_LONGEST]
    return {**hops(run.statistics()), "failed": failed}


def hops(statistics: Statistics) -> dict[str, Any]:
    """For status messages: one row per node with its parts (milliseconds), tiers of remote nodes, and who sets the pace."""
    rows = [
        {
            "node": hop.node, "p50": hop.p50, "p95": hop.p95, "load": hop.load, "drops": hop.dropped,
            "parts": [[name, p50, p95] for name, (p50, p95) in hop.parts.items()],
        }
        for hop in statistics.hops
    ]  # fmt: skip
    tiers = {hop.node: hop.tier for hop in statistics.hops if hop.tier}
    return {"hops": rows, "bottleneck": statistics.bottleneck, "tiers": tiers}
