"""``%avlab connect docker:`` in a real kernel: it starts the container, and cells run there."""

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from avlab_executor.container.engine import engine
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.usefixtures("current_image")

NAME = f"notebook-{os.getpid()}"
CELLS = f"""
%load_ext avlab
---
%avlab connect docker:{NAME}
---
%%remote
class Far:
    n: int = 1
    def process(self, x: int):
        import os
        return x * self.n, os.getuid()
---
far = Far(n=3)
far.process(2)
---
%avlab doctor
---
%avlab stop
"""


@pytest.fixture(scope="session", autouse=True)
def jupyters_own_loop() -> None:
    """jupyter_client keeps an event loop for the life of the process: it is there before leaks are counted."""

    async def nothing() -> None:
        return None

    run_sync(nothing)()


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[list[str]]:
    """What each cell has shown."""
    notebook = new_notebook(cells=[new_code_cell(text.strip("\n")) for text in CELLS.split("---")])
    try:
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        yield ["".join(text_of(output) for output in cell.outputs) for cell in notebook.cells]
    finally:
        with engine() as made:
            made.down(NAME)


def text_of(output: nbformat.NotebookNode) -> str:
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def test_cells_run_in_a_container_that_connecting_has_started(outputs) -> None:
    _, connected, _, result, doctor, stopped = outputs
    assert connected == f"connected to docker:{NAME}\n"
    assert result == "(6, 10001)"
    assert f"docker:{NAME}" in doctor
    assert stopped == "stopped 1 session\n"
