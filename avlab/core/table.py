"""A table as text, for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from avlab.core.scrub import cell


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head in aligned columns; the last column wraps at the terminal's width (100 when there is none).

    What stands in a cell is bounded, and steers no terminal: it may come from another.
    """
    rows = [[*map(cell, row[:-1]), cell(row[-1], 4000)] for row in rows]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    room = max(24, shutil.get_terminal_size((100, 24)).columns - sum(widths) - 2 * len(widths))
    lines = []
    for row in (head, ["-" * width for width in (*widths, min(room, 24))], *rows):
        first, *rest = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        lines.append(
            "  ".join((*(text.ljust(width) for text, width in zip(row, widths, strict=False)), first)).rstrip()
        )
        lines.extend(" " * (sum(widths) + 2 * len(widths)) + line for line in rest)
    return "\n".join(lines)
