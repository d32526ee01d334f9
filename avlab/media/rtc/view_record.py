"""Recording what a live view shows, and its poster."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

from avlab.core.channel import ChannelClosed, Policy, Receiver, open_channel
from avlab.core.errors import AvlabError
from avlab.core.item import Item
from avlab.media.rtc.encoder import StillEncoder
from avlab.media.sinks.file import FileSink

_WAITING = 120  # items of all tracks: about 1.5 s
_POSTER = 640


class Recorder:
    """Writes items into an mp4 on a thread of its own; what it cannot keep up with is dropped and counted."""

    def __init__(self, path: str | None) -> None:
        self.path = path or _free_name()
        self.problem = ""
        self._receiver: Receiver[Item]
        self._sender, self._receiver = open_channel(_WAITING, Policy.DROP_OLDEST)
        self._written = 0
        self._thread = threading.Thread(target=self._write, name="avlab:record", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """One more item; never blocks."""
        try:
            self._sender.send(item)
        except ChannelClosed:  # the file could not be written: `problem` says why
            return

    def _write(self) -> None:
        sink = FileSink(self.path, preset="ultrafast")
        try:
            sink.open()
            for item in self._receiver:
                sink.process(item)
                self._written += 1
            if self._written:
                sink.flush()
        except AvlabError as error:
            self.problem, self._written = str(error), 0
        finally:
            self._receiver.close()
            sink.close()

    def finish(self) -> str | None:
        """Complete the file; its path, or None when there is none."""
        self._sender.close()
        self._thread.join()
        return self.path if self._written else None


def poster(item: Item | None) -> bytes:
    """A picture as a JPEG of at most 640 pixels in width; empty for none."""
    if item is None:
        return b""
    width, rung = item.value.width, 0
    while width / 2**rung > _POSTER:
        rung += 1
    try:
        data: Any = StillEncoder(rung).encode(item.value)[0]
    except AvlabError:  # a saved notebook then shows text
        return b""
    return bytes(data)


def _free_name() -> str:
    names = (f"preview-{number}.mp4" for number in itertools.count(1))
    return next(name for name in names if not os.path.exists(name))
