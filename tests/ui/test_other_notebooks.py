"""Live view and camera where the notebook is not JupyterLab: Notebook 7 and marimo."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import nbformat
import pytest
from pages import GOT, NUMBER, numbered
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.alone  # connections are tried again and again later where a machine is busy

PATIENCE = 60_000  # ms
LIVE = "import avlab\nrun = (avlab.TestSource(realtime=True) >> avlab.Preview()).start()\nrun"
CAMERA = """import json, pathlib
import avlab, avlab.media.sources

class Look(avlab.Node):
    def open(self):
        self.seen = {"video": 0, "audio": 0, "numbers": []}
    def process(self, item: avlab.Item):
        self.seen[item.track] += 1
        if item.track == "video":
            try:
                self.seen["numbers"].append(avlab.media.sources.read_frame_number(item.value))
            except avlab.MediaError:
                self.seen["numbers"].append(None)
            pathlib.Path("part").write_text(json.dumps(self.seen))
            pathlib.Path("part").replace("seen.json")
        return item
"""
STARTED = CAMERA + "run = (avlab.Camera(audio=True, voice=False) >> Look()).start()"
# In marimo the value of a cell's last line takes the place of what it has displayed: camera and run have cells of their own.
ASIDE = [
    CAMERA + "camera = avlab.Camera(audio=True, voice=False)\ncamera",
    "run = (camera >> Look() >> avlab.Preview()).start()\nrun",
]
IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Browser], tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return launch(*numbered(tmp_path_factory.mktemp("fake")))


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


def brings_the_camera(page: Page, folder: Path, picture: Path) -> None:
    """Start the camera, look at what comes into the kernel, and stop it."""

    def state(name: str) -> None:
        page.wait_for_selector(f"[data-testid=avlab-camera][data-state={name}]", timeout=PATIENCE)

    state("waiting")
    page.get_by_test_id("avlab-camera-start").click()
    state("live")
    page.wait_for_selector("[data-testid=avlab-camera-said][data-path=direct]", timeout=PATIENCE)
    seen, end = folder / "seen.json", time.monotonic() + 60
    while json.loads(seen.read_text())["video"] < 90:
        assert time.monotonic() < end, seen.read_text()
        page.wait_for_timeout(100)
    page.screenshot(path=picture)
    found = json.loads(seen.read_text())
    read = [number for number in found["numbers"] if number is not None]
    assert len(read) >= 0.9 * len(found["numbers"]) and len(set(read)) > 30
    assert found["audio"] > 50
    page.get_by_test_id("avlab-camera-stop").click()
    state("idle")


@contextmanager
def notebook_7(page: Page, folder: Path, cell: str) -> Iterator[None]:
    """The page shows the cell and what has come of it."""
    cells, kernel = [nbformat.v4.new_code_cell(cell)], {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "live.ipynb")
    options = ["--no-browser", "--port-retries=0", "--IdentityProvider.token=", "--ServerApp.password=", "--allow-root"]
    expose = "--JupyterNotebookApp.expose_app_in_browser=True"
    with served(folder, "/api/status", "notebook", *options, expose, f"--ServerApp.root_dir={folder}") as url:
        page.goto(f"{url}/notebooks/live.ipynb", timeout=PATIENCE)
        page.wait_for_selector(".jp-CodeCell", timeout=PATIENCE)
        page.wait_for_function(IDLE, timeout=PATIENCE)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
        yield
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


@contextmanager
def marimo(page: Page, folder: Path, how: str, *cells: str) -> Iterator[None]:
    """The page shows what has come of the cells: as an app ("run") or in the editor ("edit")."""
    written = [f"@app.cell\ndef _():\n{indent(cell, ' ' * 4)}\n    return\n" for cell in cells]
    (folder / "live.py").write_text("\n\n".join(["import marimo\n\napp = marimo.App()\n", *written]))
    (folder / "pyproject.toml").write_text("[tool.marimo.runtime]\nauto_instantiate = true\n")
    command = ["marimo", "--yes", how, "live.py", "--headless", "--no-token", "--host=127.0.0.1"]
    with served(folder, "/health", *command) as url:
        page.goto(url)
        yield


def test_a_view_in_notebook_7(page_of: Callable[[], Page], tmp_path: Path) -> None:
    page = page_of()
    with notebook_7(page, tmp_path, LIVE):
        shows_it_directly(page, tmp_path / "notebook.png")


def test_a_camera_in_notebook_7(page_of: Callable[[], Page], tmp_path: Path) -> None:
    page = page_of()
    with notebook_7(page, tmp_path, STARTED):
        brings_the_camera(page, tmp_path, tmp_path / "camera.png")


def test_a_view_in_marimo(page_of: Callable[[], Page], tmp_path: Path) -> None:
    page = page_of()
    with marimo(page, tmp_path, "run", LIVE):
        shows_it_directly(page, tmp_path / "marimo.png")


@pytest.mark.parametrize(
    ("how", "cells"), [("run", [STARTED]), ("edit", ASIDE)], ids=["an app, displayed by start", "the editor, displayed by its cell"]
)  # fmt: skip
def test_a_camera_in_marimo(page_of: Callable[[], Page], tmp_path: Path, how: str, cells: list[str]) -> None:
    page = page_of()
    with marimo(page, tmp_path, how, *cells):
        brings_the_camera(page, tmp_path, tmp_path / "camera.png")
