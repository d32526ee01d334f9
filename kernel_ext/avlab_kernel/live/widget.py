"""The widget of a live view: it carries messages between the browser's side (view.js) and the side that has the media."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from avlab.media import signaling

from .routing import keep_reachable

Receive = Callable[[Mapping[str, Any], Sequence[Any]], None]
_HERE = Path(__file__).parent
_REPAIR = Path(signaling.__file__).parent / "page" / "repair.js"


def module(*names: str) -> str:
    """The text of one ESM module made of files of this folder, and of what the page of `avlab signal` shares with them."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (_REPAIR, *(_HERE / name for name in ("common.js", "kept.js", *names))))


VIEW = ("view_parts.js", "view_results.js", "view_hops.js", "view_messages.js", "view_direct.js", "view.js")
"""The parts of a live view."""


class LiveView(anywidget.AnyWidget):
    """Shows a live stream. ``poster``: a data URL of a picture, shown where nothing is live; ``name``: of the model, for kept.js."""

    _esm = module(*VIEW)
    _css = (_HERE / "view.css").read_text(encoding="utf-8")
    poster = traitlets.Unicode("").tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)

    def __init__(self, receive: Receive) -> None:
        name = uuid.uuid4().hex
        super().__init__(model_id=name, name=name)
        keep_reachable(self.comm)
        # The browser's messages may come on any thread; `receive` hands them to the media loop.
        self.on_msg(lambda _, message, buffers: receive(message, buffers) if isinstance(message, dict) else None)

    def deliver(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Send a message to all views in all browsers; any thread. Without a front end it goes nowhere."""
        if self.comm is not None:
            self.send(message, buffers or None)
