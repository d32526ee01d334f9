"""Feed: the sending side of one stream."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from avlab.core.errors import CodecError, SessionError
from avlab.core.item import Item, as_item
from avlab.core.message import ItemMessage, Mode
from avlab.core.tree import Values
from avlab.remote.caller import Caller
from avlab.remote.exchange import Exchange
from avlab.remote.latest import IN_FLIGHT, Latest


class Feed:
    """Sends the items of one stream as far as there is credit, then the end of the stream.

    A list or tuple is sent by the consumer's own thread between two results; anything else may block, so it is pulled by
    a thread of its own. An exception of the iterable reaches the consumer after the results of the items before it.
    live: only the newest items are sent, two under way, as `Latest` gives them.
    """

    def __init__(
        self, caller: Caller, values: Values, items: Iterable[Any], exchange: Exchange, live: Latest | None = None
    ) -> None:
        self._caller, self._values = caller, values
        self.exchange = exchange
        self.as_items = False
        self._count = 0
        self._error: BaseException | None = None
        self._held: tuple[ItemMessage, Item | None] | None = None
        self._items, self._live = live or iter(items), live
        self._own_thread = live is not None or not isinstance(items, list | tuple)
        if self._own_thread:
            threading.Thread(target=self._run, name="avlab-feed", daemon=True).start()

    def pump(self) -> None:
        """Called by the consumer between results: send what may be sent, raise what the iterable raised."""
        exchange = self.exchange
        try:
            # Without an input of its own under way nothing would wake the consumer when others make room.
            while not (self._own_thread or self._send_together() or exchange.open or exchange.arrived):
                self._caller.wait(exchange, self._has_room)
        except SessionError:
            if not exchange.arrived:  # otherwise it is raised after the results that came before the end
                raise
        if self._error is not None and exchange.complete and not exchange.open and not exchange.arrived:
            raise self._error

    def _send_together(self) -> bool:
        with self._caller.together():
            return self._send()

    def _run(self) -> None:
        try:
            while not self._send():
                self._caller.wait_for_room(self.exchange, self._has_room)
        except SessionError:
            return  # the session has ended: its consumer gets the reason
        finally:
            if self._live is not None:
                self._live.close()

    def _has_room(self) -> bool:
        if self._live is not None and len(self.exchange.open) >= IN_FLIGHT:
            return False
        return self._held is None or self._caller.room_for(self._held[0].nbytes)

    def _send(self) -> bool:
        """Send what may be sent now; whether that was all, or nobody wants the rest. Raises SessionError."""
        while not (self.exchange.complete or self.exchange.abandoned):
            if self._live is not None and not self._has_room():
                return False  # what would be taken now would be old when it is sent
            self._held = self._held or self._next()
            try:
                if not self._caller.submit(self.exchange, *self._held):
                    return False
            except CodecError as error:
                self._error = error
            self._held = None
        return True

    def _next(self) -> tuple[ItemMessage, Item | None]:
        """The next item as a message, with the Item it was made from; the end of the stream after the last."""
        try:
            if self._error is None:
                return self._encoded(next(self._items))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  raised again in the consumer's thread
            self._error = error
        return ItemMessage(mode=Mode.FLUSH), None

    def _encoded(self, given: Any) -> tuple[ItemMessage, Item | None]:
        item = as_item(given)
        self.as_items = item is given
        if not self.as_items:
            item.seq = self._count
        self._count += 1
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
        return message, item if self.as_items else None
