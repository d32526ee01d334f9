"""What runs in the child process of ``preview(runtime="process")``: the pipeline, the encoders, the connections."""

from __future__ import annotations

import base64
import importlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from avlab.core.errors import AvlabError, LinkClosed
from avlab.core.item import Item
from avlab.flow.graph import Pipeline
from avlab.flow.run import Run
from avlab.media.rtc.live import Live
from avlab.media.runtime_process import Wire

from .hops import facts


class Child:
    """One pipeline, its live view, and the wire to the kernel."""

    def __init__(self, wire: Wire, spec: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._wire = wire
        self._live = Live(self._view, facts=self._facts, stop=lambda: self._end("stop"), **options)
        self._told = False
        self._live.begin()
        self._run: Run = Pipeline.from_spec(spec).start(self._put)
        self._run.on_finished(self._finished)

    def _view(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self._wire.send({"type": "view", "message": message}, buffers)

    def _put(self, item: Item) -> None:
        self._live.put(item)
        if not self._told and self._live.size[0]:
            self._told = True
            self._wire.send({"type": "first", "size": self._live.size, "poster": self._poster()})

    def _poster(self) -> str:
        return base64.b64encode(self._live.poster()).decode()

    def _facts(self) -> dict[str, Any]:
        return facts(self._run)

    def _finished(self) -> None:
        self._live.end()
        error = self._run.error
        what = None if error is None else f"{type(error).__name__}: {error}"
        self._wire.send({"type": "finished", "error": what, "poster": self._poster(), **self._figures()})

    def _figures(self) -> dict[str, Any]:
        statistics = self._run.statistics()
        return {"text": str(statistics), "items": dict(statistics.items), "live": self._live.statistics()}

    def serve(self) -> None:
        """Do what the kernel asks until it ends the wire."""
        while True:
            try:
                message, _ = self._wire.receive()
            except LinkClosed:
                return
            kind = message["type"]
            if kind == "view":
                self._live.receive(message["message"])
            elif kind == "displayed":
                self._live.displayed()
            elif kind == "statistics":
                self._wire.send({"type": "statistics", "number": message["number"], **self._figures()})
            elif kind in ("stop", "cancel"):
                self._end(kind)

    def _end(self, kind: str) -> None:
        self._live.cancel()
        try:
            (self._run.stop if kind == "stop" else self._run.cancel)()
        except AvlabError as error:  # `finished` carries the run's own error
            self._wire.send({"type": "late", "error": str(error)})

    def close(self) -> None:
        """End the run and the views."""
        self._end("cancel")
        self._live.close()


def main() -> None:
    """Serve the wire whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stop button is the kernel's business
    wire = Wire(socket.socket(fileno=int(sys.argv[1])))
    try:
        message, _ = wire.receive()
        if message["type"] == "ahead":  # there is time for what a first connection needs
            with suppress(ImportError):  # without WebRTC there are messages
                importlib.import_module("avlab.media.rtc.view_direct")
            message, _ = wire.receive()
    except LinkClosed:  # it was not needed
        return
    os.environ.clear()
    os.environ.update(message["environment"])
    os.chdir(message["folder"])
    try:
        child = Child(wire, message["spec"], message["options"])
    except AvlabError as error:
        wire.send({"type": "failed", "error": f"{type(error).__name__}: {error}"})
        wire.close()
        return
    wire.send({"type": "started"})
    child.serve()
    child.close()
    wire.close()


if __name__ == "__main__":
    main()
