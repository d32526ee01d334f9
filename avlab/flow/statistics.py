"""What a run tells about itself: one row per node, and the result of a finished run."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avlab.core.channel import ChannelStatistics
from avlab.flow.meter import Meter, quantile
from avlab.flow.stage import Stage, Step


@dataclass(frozen=True, slots=True)
class Hop:
    """Counts of one node since its run began.

    received: items that entered it; passed: items of other types that flowed past; sent: results; dropped: items that the
    queue in front of its thread has dropped; busy: seconds in the node; p50, p95: milliseconds per item (of a remote node from
    entry to first result), None before the first; load: share of the elapsed time that it was busy (of a remote node: its user
    code); parts: name → (p50, p95) in milliseconds, ``waiting`` from the node before to this one's thread, and what a node
    reports of its inside; waiting and capacity: of that queue, None for nodes that share the
    thread of the one before; bytes and tier: what the node itself reports, None and "" for local ones.
    """

    node: str
    received: int
    passed: int
    sent: int
    dropped: int
    busy: float
    p50: float | None
    p95: float | None
    load: float
    parts: Mapping[str, tuple[float, float]]
    waiting: int | None
    capacity: int | None
    bytes: int | None
    tier: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """A run at one moment. elapsed: seconds; items: how many reached the end, per track; latency: milliseconds (p50, p95)
    from the source's hand to the end of the pipeline, None before the first."""

    hops: tuple[Hop, ...]
    elapsed: float
    items: Mapping[str, int]
    latency: tuple[float | None, float | None]

    def __getitem__(self, node: str) -> Hop:
        for hop in self.hops:
            if hop.node == node:
                return hop
        raise KeyError(f"no node {node!r} in this run; there are: {', '.join(hop.node for hop in self.hops)}")

    @property
    def bottleneck(self) -> str | None:
        """The node that sets the pace: the busiest of the thread that is busy for most of the time. None before the first item.

        A source that waits for its device or its clock counts as busy: then the pipeline keeps up.
        """
        threads: list[list[Hop]] = []
        for hop in self.hops:
            if hop.capacity is not None or not threads:
                threads.append([])
            threads[-1].append(hop)
        slowest = max(threads, key=lambda hops: sum(hop.load for hop in hops), default=[])
        first = max(slowest, key=lambda hop: hop.load, default=None)
        return first.node if first is not None and first.load else None

    def __str__(self) -> str:
        rows = [_HEAD, *(row for hop in self.hops for row in _rows(hop, self.elapsed))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
            for r in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), self._summary()])

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for hop in self.hops for cells in _rows(hop, self.elapsed))
        return f"<table>{row(_HEAD, 'th')}{body}</table><p>{html.escape(self._summary())}</p>"

    def _summary(self) -> str:
        total = sum(self.items.values())
        text = f"{total} items at the end in {self.elapsed:.2f} s"
        if self.latency[0] is not None:
            text += f", source to end {_number(self.latency[0])} / {_number(self.latency[1])} ms (p50 / p95)"
        if self.bottleneck is not None:
            text += f", {self.bottleneck} sets the pace"
        return text


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its statistics (also its text and HTML form), items per track that reached the end, and its nodes by
    name: ``result["Collect"]`` is the sink of that name."""

    statistics: Statistics
    nodes: Mapping[str, Any]

    @property
    def items(self) -> Mapping[str, int]:
        """How many items reached the end, per track."""
        return self.statistics.items

    def __getitem__(self, node: str) -> Any:
        if node not in self.nodes:
            raise KeyError(f"no node {node!r} in this run; there are: {', '.join(self.nodes)}")
        return self.nodes[node]

    def __str__(self) -> str:
        return str(self.statistics)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.statistics._repr_html_()


_REPORTED = ("bytes", "bytes_sent", "bytes_received", "tier", "dropped", "busy", "hops")
_HEAD = ("node", "in", "out", "past", "drops", "fps", "p50 ms", "p95 ms", "load", "queue", "bytes", "tier")


def statistics_of(stages: list[Stage], seconds: float) -> Statistics:
    """The statistics of these stages after so many seconds."""
    items: dict[str, int] = {}
    buckets: list[int] = []
    for stage in stages:
        for track, count in list(stage.arrived.items()):
            items[track] = items.get(track, 0) + count
        mine = stage.ended.buckets
        buckets = [a + b for a, b in zip(buckets, mine, strict=True)] if buckets else list(mine)
    hops = []
    for stage in stages:
        queue = stage.receiver.statistics() if stage.receiver is not None else None
        for index, step in enumerate(stage.steps):
            hops.append(_hop(step, queue if index == 0 else None, stage.waited, seconds))
    return Statistics(tuple(hops), seconds, items, (quantile(buckets, 0.5), quantile(buckets, 0.95)))


def _hop(step: Step, queue: ChannelStatistics | None, waited: Meter, seconds: float) -> Hop:
    meter, own = step.meter, _reported(step.node)
    parts = {name: (part.p50, part.p95) for name, part in (own.get("hops") or {}).items()}
    waiting = waited.quantile(0.5), waited.quantile(0.95)
    if queue is not None and None not in waiting:
        parts = {"waiting": waiting, **parts}
    busy = meter.busy / 1e9 if own.get("busy") is None else float(own["busy"])
    return Hop(
        node=step.name,
        received=meter.received,
        passed=meter.passed,
        sent=meter.sent,
        dropped=(queue.dropped if queue else 0) + int(own.get("dropped") or 0),
        busy=busy,
        p50=meter.quantile(0.5),
        p95=meter.quantile(0.95),
        load=min(1.0, busy / seconds) if seconds else 0.0,
        parts=parts,
        waiting=queue.waiting if queue else None,
        capacity=queue.capacity if queue else None,
        bytes=own.get("bytes"),
        tier=str(getattr(step.node, "tier", None) or own.get("tier") or ""),
    )


def _reported(node: Any) -> Mapping[str, Any]:
    """What a node's own ``statistics()`` says: a mapping, or an object with such attributes."""
    report = getattr(node, "statistics", None)
    own = report() if callable(report) else {}
    if not isinstance(own, Mapping):
        own = {name: getattr(own, name, None) for name in _REPORTED}
    if own.get("bytes") is None and own.get("bytes_sent") is not None:
        own = {**own, "bytes": own["bytes_sent"] + (own.get("bytes_received") or 0)}
    return own


def _rows(hop: Hop, seconds: float) -> list[tuple[str, ...]]:
    """A node's row, and one for each part of it."""
    blank = [""] * 5
    parts = [(f"· {name}", *blank, _number(p50), _number(p95), "", "", "", "") for name, (p50, p95) in hop.parts.items()]
    return [_cells(hop, seconds), *parts]


def _cells(hop: Hop, seconds: float) -> tuple[str, ...]:
    rate = max(hop.sent, hop.received) / seconds if seconds else 0.0
    queue = "" if hop.capacity is None else f"{hop.waiting}/{hop.capacity}"
    size = "" if hop.bytes is None else f"{hop.bytes:,}"
    counts = (str(hop.received), str(hop.sent), str(hop.passed), str(hop.dropped))
    return (hop.node, *counts, f"{rate:.1f}", _number(hop.p50), _number(hop.p95), f"{hop.load:.0%}", queue, size, hop.tier)


def _number(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:.0f}"
