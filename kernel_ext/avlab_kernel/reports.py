"""What ``%avlab status`` and ``%avlab doctor`` show."""

from __future__ import annotations

import html
import platform
from collections.abc import Sequence
from importlib import metadata

from avlab.core.errors import ConfigError
from avlab.core.message import WIRE_VERSION
from avlab.media.rtc.report import live_media

from .sessions import Desk


class Table:
    """Rows under headings: text in a terminal, a table in a notebook. Every cell is escaped."""

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
        self._rows = [[str(v) for v in row] for row in rows]
        self._headings, self._empty = list(headings), empty

    def __repr__(self) -> str:
        if not self._rows:
            return self._empty
        rows = [self._headings, *self._rows]
        widths = [max(len(row[n]) for row in rows) for n in range(len(self._headings))]
        return "\n".join("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        if not self._rows:
            return f"<p>{html.escape(self._empty)}</p>"
        head = "".join(f"<th>{html.escape(h)}</th>" for h in self._headings)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in row) + "</tr>" for row in self._rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def status(desk: Desk) -> Table:
    """Open sessions of the notebook: where, how isolated, how busy."""
    rows = []
    for handle in desk.sessions():
        figures = handle.statistics
        if figures is not None:
            where = handle.home.on or desk.url
            rows.append(
                (
                    handle.name,
                    where,
                    figures.tier,
                    figures.inputs,
                    figures.bytes_sent,
                    figures.bytes_received,
                    f"{handle.age:.0f} s",
                )
            )
    headings = ("session", "executor", "tier", "inputs", "bytes sent", "bytes received", "age")
    return Table(
        headings, rows, f"no open sessions; executor: {desk.url}" + ("" if desk.connected() else " (not started)")
    )


def doctor(desk: Desk) -> Table:
    """Tiers of the default executor with the reasons, versions on this side, and what live media finds here."""
    rows: list[tuple[str, object]] = [("executor", desk.url)]
    described = desk.executor().describe()
    for tier in described.tiers:
        rows.append((f"tier {getattr(tier, 'name', tier)}", getattr(tier, "reason", "") or "possible"))
    rows.append(("environments", f"{described.environments}, Python {', '.join(described.pythons)}"))
    for name in ("avlab", "cloudpickle", "ipython", "ipykernel"):
        rows.append((name, metadata.version(name)))
    rows += [("python", platform.python_version()), ("wire", WIRE_VERSION)]
    try:
        rows += [(fact.part, fact) for fact in live_media()]
    except ConfigError as error:
        rows.append(("TURN", error))
    return Table(("what", "state"), rows, "")
