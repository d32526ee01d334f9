"""A pipeline that runs wholly in a child process: a busy cell cannot take the interpreter away from it."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from avlab.core.errors import AvlabError, LinkClosed, PipelineError, TimedOut
from avlab.core.latch import Latch
from avlab.media.runtime_process import Spare

from .again import cells
from .widget import LiveView

_START, _FIRST, _ANSWER = 30.0, 0.5, 5.0  # seconds
_STOP = 10.0  # the child takes 2 s at most by its own clock; on a busy machine that may be late
spare = Spare("avlab_kernel.live.child")
"""Ready for the next run, once a view tells figures: a cell that is run again starts at once."""


class ProcessRun:
    """A pipeline under way in a child process, with its live view; made by ``pipeline.preview(runtime="process")``.

    Displaying it shows the view. As a context manager it stops at the end of the block. Raises PipelineError with what the
    child's own error says; its type is part of the text.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        options: Mapping[str, Any],
        deliver: Callable[[dict[str, Any], list[bytes]], None] | None = None,
    ) -> None:
        place = {"folder": os.getcwd(), "environment": dict(os.environ)}  # both may have changed since the child began
        self._child = spare.take()  # a new one starts while this side makes its widget
        self._deliver, self._widget = deliver, None if deliver else LiveView(lambda message, _: self.receive(message))
        self._started, self._first, self._finished = Latch(), Latch(), Latch()
        self._answers: dict[int, tuple[Latch, dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._size, self._poster, self._failure = (0, 0), "", ""
        self._last: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, name="avlab:child", daemon=True)
        self._reader.start()
        self._child.wire.send({"type": "start", "spec": dict(spec), "options": dict(options), **place})
        try:
            if not self._started.wait(_START):
                raise TimedOut(f"the media process has not started within {_START:g} s")
            if self._failure:
                raise PipelineError(f"in the media process: {self._failure}")
        except BaseException:
            self.close()
            raise
        cells.note(self._end)

    def _end(self) -> None:
        with self:
            pass

    def _read(self) -> None:
        try:
            while True:
                self._take(*self._child.wire.receive())
        except (LinkClosed, AvlabError) as error:
            if not self._finished.is_set():
                self._failure = self._failure or f"it ended before its pipeline did ({error})"
        finally:
            for latch in (self._started, self._first, self._finished):
                latch.set()
            for latch, _ in list(self._answers.values()):
                latch.set()

    def _take(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        kind = message["type"]
        if kind == "view":
            if self._widget is not None:
                self._widget.deliver(message["message"], buffers)
            elif self._deliver is not None:
                self._deliver(message["message"], buffers)
        elif kind in ("started", "failed"):
            self._failure = message.get("error", "")
            self._started.set()
        elif kind == "first":
            self._size, self._poster = tuple(message["size"]), message["poster"]
            self._first.set()
        elif kind == "finished":
            self._last, self._failure = message, message["error"] or ""
            if self._widget is not None and message["poster"]:
                self._widget.poster = "data:image/jpeg;base64," + message["poster"]
            self._finished.set()
        elif kind == "statistics" and message["number"] in self._answers:
            latch, place = self._answers[message["number"]]
            place.update(message)
            latch.set()

    def receive(self, message: Mapping[str, Any]) -> None:
        """A message of a browser's side."""
        self._child.wire.send({"type": "view", "message": dict(message)})
        if message.get("type") == "figures" and self.running:  # its view has settled: now another process may take its time to start
            spare.prepare()

    @property
    def running(self) -> bool:
        """Whether the pipeline is at work."""
        return not self._finished.is_set()

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end; the last statistics. Raises PipelineError, and TimedOut after ``timeout`` seconds."""
        if not self._finished.wait(timeout):
            raise TimedOut(f"the pipeline has not ended within {timeout:g} s")
        if self._failure:
            raise PipelineError(f"in the media process: {self._failure}")
        return self.statistics()

    def stop(self, timeout: float = _STOP) -> dict[str, Any]:
        """Stop the source, let what is under way reach the end. Raises like `wait`."""
        self._child.wire.send({"type": "stop"})
        return self.wait(timeout)

    def cancel(self, timeout: float = _STOP) -> None:
        """Drop everything that is under way."""
        self._child.wire.send({"type": "cancel"})
        self._finished.wait(timeout)

    def statistics(self) -> dict[str, Any]:
        """text: the table of all nodes; items: how many reached the end per track; live: what `Preview.statistics` tells.
        Raises TimedOut when the child does not answer."""
        if self._last:
            return _figures(self._last)
        number, latch, place = next(self._numbers), Latch(), dict[str, Any]()
        self._answers[number] = latch, place
        try:
            self._child.wire.send({"type": "statistics", "number": number})
            if not latch.wait(_ANSWER):
                raise TimedOut(f"the media process has not answered within {_ANSWER:g} s")
        finally:
            del self._answers[number]
        return _figures(place)

    def close(self) -> None:
        """End the process and its views. Idempotent."""
        self._child.close()
        self._reader.join(_STOP)

    def __enter__(self) -> ProcessRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self.running:
                self.stop()
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"Preview({self._size[0]}×{self._size[1]})" if self._size[0] else "Preview()"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        self._child.wire.send({"type": "displayed"})
        self._first.wait(_FIRST)
        made: Any = self._widget._repr_mimebundle_() if self._widget is not None else {}
        data, metadata = made if isinstance(made, tuple) else (made or {}, {})
        picture = {"image/jpeg": self._poster} if self._poster else {}
        return {**data, **picture, "text/plain": repr(self)}, metadata


def _figures(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: message[name] for name in ("text", "items", "live") if name in message}
