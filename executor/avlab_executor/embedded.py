"""The embedded executor. The process that makes its workers starts first, beside the import of the rest: each takes a tenth of a second."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from avlab.remote.config import RemoteExecutorConfig
from avlab_executor.spawner import Recipe, Spawner

if TYPE_CHECKING:
    from avlab_executor.connection import Embedded


def connect(config: RemoteExecutorConfig) -> Embedded:
    """Entry point ``local`` of the group ``avlab.executors``."""
    spawner = None
    with suppress(OSError):  # no room for a process: who opens a session is told
        spawner = Spawner(Recipe(minimum=config.tier))
    try:
        from avlab_executor.connection import Embedded

        return Embedded(minimum=config.tier, spawner=spawner)
    except BaseException:
        if spawner is not None:
            spawner.close()
        raise
