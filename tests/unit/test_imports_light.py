"""Importing avlab is cheap: heavy libraries load when they are used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"grpc", "av", "aiortc", "ray", "numpy", "IPython", "onnxruntime", "cloudpickle", "google.protobuf", "asyncio"}
# An executor's server decides who may run code; it never holds what could be made to run it.
SERVER_NEVER = {"cloudpickle", "numpy", "av", "IPython", "matplotlib"}
PROBE = """
import json, sys, time
import importlib.metadata  # what finding entry points costs belongs to Python
before, start = set(sys.modules), time.process_time()  # what else the machine does is not counted
import {names}
print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - before)]))
"""


def fresh_import(names: str) -> tuple[float, set[str]]:
    """Seconds of processor time and newly loaded modules of an import in a fresh interpreter."""
    command = [sys.executable, "-c", PROBE.format(names=names)]
    seconds, loaded = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return seconds, set(loaded)


def test_import_avlab_loads_no_heavy_library() -> None:
    _, loaded = fresh_import("avlab")
    assert loaded & HEAVY == set()
    assert len(loaded) < 100


def test_import_avlab_is_fast() -> None:
    assert min(fresh_import("avlab")[0] for _ in range(5)) <= 0.15


def test_command_line_help_loads_no_heavy_library() -> None:
    _, loaded = fresh_import("avlab.cli")
    assert loaded & HEAVY == set()


def test_executor_server_never_loads_what_runs_user_code() -> None:
    root = Path(__file__).parents[2] / "executor"
    paths = (p.relative_to(root).with_suffix("") for p in (root / "avlab_executor").rglob("*.py"))
    names = {".".join(part for part in path.parts if part != "__init__") for path in paths}
    server = sorted(name for name in names if not name.startswith("avlab_executor.worker"))
    _, loaded = fresh_import(", ".join(server))
    assert loaded & SERVER_NEVER == set()


def test_every_public_name_can_be_had() -> None:
    import avlab

    for name in avlab.__all__:
        assert getattr(avlab, name).__name__.lower() == name.lower()


def test_registered_nodes_are_found_by_name_in_one_place() -> None:
    import avlab.nodes

    assert {"Resize", "FileSource", "Camera"} <= set(dir(avlab.nodes))
    assert avlab.nodes.Resize is avlab.Resize
    with pytest.raises(AttributeError, match="did you mean Resize"):
        avlab.nodes.Resise  # noqa: B018
    with pytest.raises(ImportError):
        from avlab.nodes import nothing  # noqa: F401
