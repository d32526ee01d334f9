"""A live table where nothing can be drawn again."""

import threading

from avlab_kernel.live_table import LiveTable
from avlab_kernel.reports import Table


def test_outside_of_a_notebook_it_is_shown_once(capsys) -> None:
    first = Table(("a", "b"), [("1", "2")], "nothing")
    table = LiveTable(first, lambda: first, lambda: True)
    table._ipython_display_()
    assert capsys.readouterr().out.count("a  b") == 1
    assert "avlab-status" not in {thread.name for thread in threading.enumerate()}
    table.close()
    table.close()


def test_words_of_others_are_bounded_and_escaped() -> None:
    table = Table(("a",), [("\x1b[2J<script>\nline" + "x" * 10_000,)], "")
    assert "\x1b" not in repr(table)
    assert len(repr(table).split("\n")) == 2
    assert len(repr(table)) < 1200
    assert "<script>" not in table._repr_html_()
