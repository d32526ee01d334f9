"""A Dask actor on one worker process. Best practice: a window of futures under way, no dashboard."""

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from dask.distributed import Client, LocalCluster
from distributed import __version__
from echo import Basic, Echo, Opener, window_for, windowed

from avlab.core.clock import monotonic


class Contender(Basic):
    def __init__(self) -> None:
        self.cluster = LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, local_directory=tempfile.gettempdir()
        )
        self.client = Client(self.cluster)
        self.actor = self.client.submit(Echo, actor=True).result()
        self.about = f"Dask {__version__}"

    def call(self, value: Any) -> Any:
        return self.actor.process(value).result()

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        window, values = window_for(values, few=4, many=256)
        return windowed(values, self.actor.process, lambda future: future.result(), window)

    def first(self) -> float:
        began = monotonic()
        actor = self.client.submit(Opener, actor=True, pure=False).result()
        actor.process(np.zeros(1)).result()
        return (monotonic() - began) / 1e6

    def close(self) -> None:
        self.client.close()
        self.cluster.close()
