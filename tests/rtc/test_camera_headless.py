"""Camera in a kernel that no browser looks at: what an executed notebook holds."""

import sys
from typing import Any

import nbformat
import pytest
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FALLBACK = """import avlab
camera = avlab.Camera(size=(64, 36), timeout=0.5, fallback=avlab.TestSource(size=(64, 36), duration=1))
taken = avlab.Collect()
result = (camera >> taken).run()
print(len(taken.items) > 5)"""
NOTHING = "import avlab\n(avlab.Microphone(timeout=0.5) >> avlab.Collect()).run()"
WIDGETS = "import gc\ngc.collect()\nlen([each for each in gc.get_objects() if type(each).__name__ == 'CaptureView'])"


@pytest.fixture(scope="session", autouse=True)
def jupyters_own_loop() -> None:
    """jupyter_client keeps an event loop for the life of the process: it is there before leaks are counted."""

    async def nothing() -> None: ...

    run_sync(nothing)()


def executed(*cells: str) -> list[Any]:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
    )
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": sys.prefix}})
    client.execute()
    return [[output for output in cell.outputs if output.output_type != "stream"] for cell in notebook.cells] + [
        "".join(o.text for cell in notebook.cells for o in cell.outputs if o.output_type == "stream")
    ]


def test_the_fallback_runs_and_nothing_but_a_text_is_kept() -> None:
    shown, left, printed = executed(FALLBACK, WIDGETS)
    assert printed == "True\n"
    assert [output.data["text/plain"] for output in shown] == ["Camera(64×36, 30 fps)"]
    assert left[0].data["text/plain"] == "0"  # the widget that nobody saw is gone


def test_without_a_fallback_the_cell_fails_and_says_what_to_do() -> None:
    with pytest.raises(CellExecutionError, match=r"no browser shows this Microphone within 0\.5 s.*fallback="):
        executed(NOTHING)
