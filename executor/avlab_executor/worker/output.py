"""What user code prints, logs and draws: text goes to the pipes that the host reads, figures to the link as PNG."""

from __future__ import annotations

import builtins
import io
import logging
import os
import sys
from typing import Any

from avlab.core.message import Log
from avlab.remote.links.local import LocalLink

MAX_FIGURE = 8 << 20
_link: list[LocalLink] = []


def prepare(link: LocalLink) -> None:
    """Line-buffered text streams, ``logging`` on stderr, matplotlib (if user code imports it) through this module."""
    _link[:] = [link]
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 8192, closefd=False), "utf-8", "replace", line_buffering=True)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0, closefd=False), "utf-8", "replace", write_through=True)
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
    vars(builtins)["display"] = display  # as in a notebook, where it needs no import
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s:%(name)s:%(message)s", force=True)
    os.environ["MPLBACKEND"] = f"module://{__package__}.figures"


def flush() -> None:
    """Everything printed so far leaves before the next output does."""
    sys.stdout.flush()


def show(png: bytes) -> None:
    """Send a picture to the caller. A picture over the bound is replaced by a line of text."""
    flush()
    if len(png) > MAX_FIGURE:
        text = f"[a figure of {len(png)} bytes was not sent: the limit is {MAX_FIGURE}]\n"
        _link[0].send(Log("stdout", text.encode()))
        return
    _link[0].send(Log("display", png, "image/png"))


def display(*values: Any) -> None:
    """``display`` as in a notebook: pictures as PNG, everything else as text (never HTML)."""
    for value in values:
        render = getattr(value, "_repr_png_", None)
        png = render() if callable(render) else None
        if png is None and callable(getattr(value, "savefig", None)):
            buffer = io.BytesIO()
            value.savefig(buffer, format="png")
            png = buffer.getvalue()
        if isinstance(png, bytes):
            show(png)
        else:
            print(repr(value), flush=True)  # noqa: T201  this is what display does with text
