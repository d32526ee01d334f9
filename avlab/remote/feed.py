"""Feed: the sending side of one stream."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from avlab.core.errors import AvlabError
from avlab.core.item import Item, as_item
from avlab.core.message import ItemMessage, Mode
from avlab.core.tree import Values
from avlab.remote.caller import Caller, Exchange


class Feed:
    """Sends the items of one stream as far as there is credit, then the end of the stream.

    A list or tuple is sent by the consumer's own thread between two results; anything else may block, so it is pulled by
    a thread of its own. An exception of the iterable reaches the consumer after the results of the items before it.
    """

    def __init__(self, caller: Caller, values: Values, items: Iterable[Any]) -> None:
        self._caller, self._values = caller, values
        self.exchange = Exchange()
        self.as_items = False
        self._error: BaseException | None = None
        self._held: tuple[ItemMessage, Item | None] | None = None
        self._messages = self._encoded(iter(items))
        self._own_thread = not isinstance(items, list | tuple)
        if self._own_thread:
            threading.Thread(target=self._run, name="avlab-feed", daemon=True).start()

    def pump(self) -> None:
        """Called by the consumer between results: send what may be sent, raise what the iterable raised."""
        while not self._own_thread and not self.exchange.complete:
            self._held = self._held or next(self._messages)
            message, parent = self._held
            if not self._caller.room_for(message.nbytes):
                return
            self._held = None
            self._send(message, parent)
        if self._error is not None and not self.exchange.open and not self.exchange.arrived:
            raise self._error

    def _run(self) -> None:
        try:
            for message, parent in self._messages:
                self._caller.wait_for_room(self.exchange, message.nbytes)
                if self.exchange.abandoned:
                    return
                self._send(message, parent)
        except AvlabError:
            return  # the session has ended: its consumer gets the reason

    def _send(self, message: ItemMessage, parent: Item | None) -> None:
        self._caller.submit(self.exchange, message, parent)
        if message.mode is Mode.FLUSH:
            self.exchange.complete = True

    def _encoded(self, items: Iterator[Any]) -> Iterator[tuple[ItemMessage, Item | None]]:
        try:
            for given in items:
                item = as_item(given)
                self.as_items = item is given
                codec, meta, buffers = self._values.encode(item.value)
                message = ItemMessage(
                    codec=codec,
                    meta=meta,
                    buffers=buffers,
                    pts=item.pts,
                    time_base=item.time_base,
                    track=item.track,
                    seq=item.seq,
                )
                yield message, item if self.as_items else None
        except BaseException as error:  # noqa: BLE001  raised again in the consumer's thread
            self._error = error
        yield ItemMessage(mode=Mode.FLUSH), None
