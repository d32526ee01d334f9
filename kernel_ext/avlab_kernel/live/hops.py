"""Where the time goes, as live views show it."""

from __future__ import annotations

from typing import Any

from avlab.flow.statistics import Statistics


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
