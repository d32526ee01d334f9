"""How clean interpreters are started: isolated, without the caller's environment, descriptors and working folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_PASSED_ON = ("LD_LIBRARY_PATH", "TZ")
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def command(
    function: str, import_path: Sequence[str], *arguments: str, executable: str = sys.executable
) -> list[str]:
    """The command line of an interpreter that sets its import path and calls ``function`` ("module:name") with strings."""
    module, _, name = function.partition(":")
    code = f"import sys; sys.path[:] = {list(import_path)!r}; from {module} import {name}; {name}(*sys.argv[1:])"
    return [executable, "-I", "-c", code, *arguments]


def environment() -> dict[str, str]:
    """All the environment that a zygote and its workers ever have."""
    clean = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    clean |= {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
    return clean | dict.fromkeys(_ONE_THREAD, "1")
