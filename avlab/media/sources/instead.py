"""Instead: the source that stands in where nobody is there to press a button."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from avlab.core.clock import Clock, monotonic
from avlab.core.drive import close_node, open_node, produced
from avlab.core.item import Item
from avlab.core.portal import Scope, portal
from avlab.media.sources.file import FileSource

KINDS = {"video": av.VideoFrame, "audio": av.AudioFrame}
"""Types of the values of live tracks."""


class Instead:
    """The items of another source (a node, or the path of a media file) as far as they are on tracks of these kinds.

    pace: hold them back until their time has come, unless the source is live itself.
    """

    def __init__(self, given: Any, kinds: Collection[str], *, pace: bool, clock: Clock = monotonic) -> None:
        self.node = node_of(given)
        self._types = tuple(KINDS[kind] for kind in kinds)
        self._pace = pace and not getattr(self.node, "live", False)
        self._clock, self._scope, self._stopped = clock, Scope(portal), threading.Event()
        self._origin: Fraction | None = None

    def items(self) -> Iterator[Item]:
        """The items; the source is open while the iterator lives."""
        try:
            open_node(self.node, self._scope)
            with closing(produced(self.node, self._scope)) as items:
                for item in items:
                    if isinstance(item.value, self._types):
                        if self._stopped.wait(self._ahead(item)):
                            return
                        yield item
        finally:
            close_node(self.node, self._scope)

    def _ahead(self, item: Item) -> float:
        """Seconds until the item's time has come, measured from the first one."""
        if not self._pace or item.pts is None:
            return 0.0
        time, now = item.pts * Fraction(item.time_base), Fraction(self._clock(), 1_000_000_000)
        if self._origin is None:
            self._origin = now - time
        return max(0.0, float(time - (now - self._origin)))

    def cancel(self) -> None:
        """End soon. Idempotent."""
        self._stopped.set()
        self._scope.cancel()
        cancel = getattr(self.node, "cancel", None)
        if callable(cancel):
            cancel()


def node_of(given: Any) -> Any:
    """A source as it is, a path as the source that reads it."""
    return FileSource(str(given)) if isinstance(given, str | Path) else given
