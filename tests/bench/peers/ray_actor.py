"""A Ray actor. Best practice: no dashboard, arrays through the object store, a window of references under way."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray
from echo import Basic, Echo, Opener, window_for, windowed

from avlab.core.clock import monotonic


class Contender(Basic):
    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=1 << 30,
            _temp_dir=tempfile.gettempdir(),
        )
        self.actor = ray.remote(Echo).remote()
        self.about = f"Ray {ray.__version__}"

    def call(self, value: Any) -> Any:
        return ray.get(self.actor.process.remote(value))

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        window, values = window_for(values, few=8, many=256)
        return windowed(values, self.actor.process.remote, ray.get, window)

    def first(self) -> float:
        began = monotonic()
        actor = ray.remote(Opener).remote()
        ray.get(actor.process.remote(np.zeros(1)))
        took = (monotonic() - began) / 1e6
        ray.kill(actor)
        return took

    def close(self) -> None:
        ray.shutdown()
