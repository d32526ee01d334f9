"""An object in the namespace of an ipyparallel engine. Best practice: buffers untracked, a window of requests under way."""

import inspect
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import ipyparallel
from echo import Basic, Echo, window_for, windowed


class Contender(Basic):
    def __init__(self) -> None:
        os.environ["IPYTHONDIR"] = tempfile.gettempdir()
        self.cluster = ipyparallel.Cluster(n=1, log_level=40)
        self.client = self.cluster.start_and_connect_sync(activate=False)
        self.view = self.client[0]
        self.view.track = False
        self.view.execute(f"{inspect.getsource(Echo)}\necho = Echo()", block=True)
        self.process = ipyparallel.Reference("echo.process")
        self.about = f"ipyparallel {ipyparallel.__version__}"

    def call(self, value: Any) -> Any:
        return self.view.apply_sync(self.process, value)

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        window, values = window_for(values, few=8, many=64)
        return windowed(values, self._send, self._receive, window)

    def _send(self, value: Any) -> Any:
        return self.view.apply_async(self.process, value)

    def _receive(self, request: Any) -> Any:
        value = request.get()
        # The client keeps every result for ever unless it is told not to.
        self.client.purge_local_results(request)
        return value

    def close(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()
