"""Latest: the newest items of an iterable that does not wait, for a session that cannot keep up with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from avlab.core.channel import ChannelClosed, Policy, open_channel
from avlab.core.errors import ConfigError
from avlab.core.item import Item

IN_FLIGHT = 2
"""Inputs of a live stream that may be under way: one that is worked on, and the next."""
_BOUND = 256  # items of all tracks together


class Latest:
    """An iterator over the newest items. A thread pulls ``items`` as they come; what was not taken in time is dropped.

    depths: how many items of a track are kept (1 where it says nothing), so that a picture never drops a sound. ``dropped`` is called
    with the number of items that were dropped since its last call. An exception of ``items`` is raised after what came before.
    Raises ConfigError for a depth that is not a positive number.
    """

    def __init__(self, items: Iterable[Any], depths: Mapping[str, int], dropped: Callable[[int], None]) -> None:
        for track, depth in depths.items():
            if type(depth) is not int or depth < 1:
                raise ConfigError(f"live={{{track!r}: {depth!r}}}: of a track one item is kept at least")

        def kind(item: Any) -> tuple[str, int]:
            track = item.track if isinstance(item, Item) else ""
            return track, depths.get(track, 1)

        self._sender, self._receiver = open_channel(_BOUND, Policy.LATEST, kind)
        self._items, self._dropped = items, dropped
        threading.Thread(target=self._pull, name="avlab-latest", daemon=True).start()

    def _pull(self) -> None:
        told = 0
        cause: BaseException | None = None
        try:
            for item in self._items:
                self._sender.send(item)
                now = self._sender.statistics().dropped
                if now > told:
                    self._dropped(now - told)
                    told = now
        except ChannelClosed:
            return  # nobody wants more
        except BaseException as error:  # noqa: BLE001  raised again where the items are taken
            cause = error
        self._sender.close(cause)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._receiver.receive()
        except ChannelClosed:
            raise StopIteration from None

    def close(self) -> None:
        """Take no more. Idempotent."""
        self._receiver.close()
