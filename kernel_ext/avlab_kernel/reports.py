"""What ``%avlab status`` and ``%avlab doctor`` show."""

from __future__ import annotations

import html
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata

from avlab.core.errors import AvlabError, ConfigError
from avlab.core.message import WIRE_VERSION
from avlab.core.scrub import cell
from avlab.core.status import SessionStatus
from avlab.core.units import size
from avlab.media.rtc.report import live_media

from .sessions import Desk


class Table:
    """Rows under headings: text in a terminal, a table in a notebook. Every cell is bounded and escaped."""

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
        self._rows = [[cell(str(v)) for v in row] for row in rows]
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


def status(desk: Desk, figures: Mapping[str, SessionStatus] | None = None) -> Table:
    """Open sessions of the notebook: where, how isolated, how busy; with what their executors say of them (see `figures_of`)."""
    rows = []
    for handle in desk.sessions():
        own = handle.statistics
        if own is not None:
            far = (figures or {}).get(handle.label)
            sent, back, age = size(own.bytes_sent), size(own.bytes_received), f"{handle.age:.0f} s"
            use = (size(far.memory), f"{far.cpu_seconds:.1f} s") if far else ("", "")
            rows.append((handle.name, handle.home.on or desk.url, own.tier, own.inputs, sent, back, *use, age))
    headings = ("session", "executor", "tier", "inputs", "sent", "received", "memory", "CPU", "age")
    return Table(
        headings, rows, f"no open sessions; executor: {desk.url}" + ("" if desk.connected() else " (not started)")
    )


def figures_of(desk: Desk) -> dict[str, SessionStatus]:
    """What the executors in use say of their sessions, by the sessions' labels. One that does not answer says nothing."""
    found: dict[str, SessionStatus] = {}
    for executor in desk.connected().values():
        with suppress(AvlabError):
            found |= {each.session: each for each in executor.status().sessions}
    return found


def doctor(desk: Desk) -> Table:
    """Tiers of the default executor with the reasons, versions on this side, and what live media finds here."""
    rows: list[tuple[str, object]] = [("executor", desk.url)]
    described = desk.executor().describe()
    for tier in described.tiers:
        rows.append((f"tier {tier.name}", f"{'on' if tier.available else 'off'}: {tier.reason or 'possible'}"))
    rows.append(("environments", f"{described.environments}, Python {', '.join(described.pythons)}"))
    for name in ("avlab", "cloudpickle", "ipython", "ipykernel"):
        rows.append((name, metadata.version(name)))
    rows += [("python", platform.python_version()), ("wire", WIRE_VERSION)]
    try:
        rows += [(fact.part, fact) for fact in live_media()]
    except ConfigError as error:
        rows.append(("TURN", error))
    return Table(("what", "state"), rows, "")
