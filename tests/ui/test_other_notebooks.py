"""The same live view where the notebook is not JupyterLab: Notebook 7 and marimo."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from pages import GOT, NUMBER
from playwright.sync_api import Page

PATIENCE = 60_000  # ms
LIVE = "import avlab\nrun = (avlab.TestSource(realtime=True) >> avlab.Preview()).start()\nrun"
MARIMO = """import marimo

app = marimo.App()


@app.cell
def _():
{cell}
    return
"""
IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


@contextmanager
def served(folder: Path, alive: str, *command: str) -> Iterator[str]:
    """Address of a program that serves notebooks from a folder, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}"], cwd=folder, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}{alive}"):
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            threading.Event().wait(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def shows_it_directly(page: Page, picture: Path) -> None:
    page.wait_for_selector("[data-testid=avlab-preview][data-path=direct]", timeout=PATIENCE)
    video = page.get_by_test_id("avlab-video")  # found in marimo's shadow roots too
    first, end = video.evaluate(NUMBER), time.monotonic() + 30
    while video.evaluate(NUMBER) <= first + 30:
        assert time.monotonic() < end
        page.wait_for_timeout(100)
    assert page.evaluate(GOT)["pictures"] > 15
    page.screenshot(path=picture)


def test_notebook_7(page_of: Callable[[], Page], tmp_path: Path) -> None:
    cells, kernel = [nbformat.v4.new_code_cell(LIVE)], {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "live.ipynb")
    options = ["--no-browser", "--port-retries=0", "--IdentityProvider.token=", "--ServerApp.password=", "--allow-root"]
    expose = "--JupyterNotebookApp.expose_app_in_browser=True"
    with served(tmp_path, "/api/status", "notebook", *options, expose, f"--ServerApp.root_dir={tmp_path}") as url:
        page = page_of()
        page.goto(f"{url}/notebooks/live.ipynb", timeout=PATIENCE)
        page.wait_for_selector(".jp-CodeCell", timeout=PATIENCE)
        page.wait_for_function(IDLE, timeout=PATIENCE)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
        shows_it_directly(page, tmp_path / "notebook.png")
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def test_marimo(page_of: Callable[[], Page], tmp_path: Path) -> None:
    cell = "".join(f"    {line}\n" for line in LIVE.splitlines()).rstrip()
    (tmp_path / "live.py").write_text(MARIMO.format(cell=cell))
    command = ["marimo", "--yes", "run", "live.py", "--headless", "--no-token", "--host=127.0.0.1"]
    with served(tmp_path, "/health", *command) as url:
        page = page_of()
        page.goto(url, timeout=PATIENCE)
        shows_it_directly(page, tmp_path / "marimo.png")
