"""A real JupyterLab, and a real browser in it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

sys.path.append(str(Path(__file__).parents[1] / "rtc"))  # what tests of live media share lies there

from pages import FAKE_DEVICES, FLAGS, GOT, KEEP, NUMBER, chromium

PATIENCE = 60_000  # ms
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}

READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return panel?.context?.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
RUN = """async (index) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = index;
  notebook.deselectAll();
  window.ran = window.ran ?? {};
  window.ran[index] = false;
  window.jupyterapp.commands.execute('notebook:run-cell').then(() => (window.ran[index] = true));
}"""
EXECUTE = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  let out = '';
  const future = kernel.requestExecute({ code, store_history: false });
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === 'stream') out += content.text;
    if (header.msg_type === 'error') out += content.ename + ': ' + content.evalue;
  };
  await future.done;
  return out;
}"""
# What the live view of `run` has counted, in this process or in its own.
COUNTS = """
import json
counts = run.statistics()
counts = counts["live"] if isinstance(counts, dict) else run.preview().statistics()
print(json.dumps(counts))
"""
OUTPUTS = "(index) => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON()"
# Notes when a view has asked for pictures and when it has shown the first: milliseconds since the page began to load.
MARKS = """
window.marks = {};
const mark = (name, part) => { if (!(name in marks) && document.querySelector(`[data-testid=avlab-preview]${part}`)) marks[name] = performance.now(); };
new MutationObserver(() => { mark('asked', ''); mark('shown', '[data-frames]'); })
  .observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-frames'] });
"""


class Notebook:
    """One notebook, open in one page."""

    def __init__(self, page: Page, server: "Server") -> None:
        self.page, self.server = page, server
        self.console: list[str] = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text[:300]}"))
        page.on("pageerror", lambda error: self.console.append(f"pageerror: {error}"[:300]))

    def open(self, name: str, cells: list[str]) -> None:
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), self.server.root / name)
        self.page.goto(f"{self.server.url}/lab/tree/{name}?reset", timeout=PATIENCE)
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(READY, timeout=PATIENCE)

    def reload(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        self.page.reload(timeout=PATIENCE)
        self.wait_for_kernel()

    def start(self, index: int) -> None:
        self.page.evaluate(RUN, index)

    def run(self, index: int) -> list[dict[str, Any]]:
        self.start(index)
        self.page.wait_for_function("(index) => window.ran[index]", arg=index, timeout=PATIENCE)
        return self.page.evaluate(OUTPUTS, index)

    def execute(self, code: str) -> str:
        return str(self.page.evaluate(EXECUTE, code))

    def number(self) -> int:
        """Which picture of TestSource is shown."""
        return int(self.page.get_by_test_id("avlab-video").evaluate(NUMBER))

    def wait_for_path(self, path: str) -> None:
        self.page.wait_for_selector(f"[data-testid=avlab-preview][data-path={path}]", timeout=PATIENCE)

    def took(self) -> float:
        """Seconds from a view's first request to its first picture, in a page with `MARKS`."""
        marks = self.page.evaluate("window.marks")
        return float(marks["shown"] - marks["asked"]) / 1000

    def got(self) -> dict[str, Any]:
        """What has come, as the browser's own getStats() and decoders tell: see `pages.GOT`."""
        return dict(self.page.evaluate(GOT))

    def frames(self) -> int:
        return int(self.page.get_by_test_id("avlab-preview").get_attribute("data-frames") or 0)

    def rate(self, seconds: float) -> float:
        """Pictures shown per second during so many seconds."""
        first, began = self.frames(), time.monotonic()
        self.page.wait_for_timeout(seconds * 1000)
        return (self.frames() - first) / (time.monotonic() - began)

    def counts(self) -> dict[str, Any]:
        """What the live view of the kernel's `run` has counted."""
        return dict(json.loads(self.execute(COUNTS)))

    def kept(self, cell: int) -> tuple[int, int]:
        """Run a cell: how many pictures the source makes meanwhile, and how many of them reach the browser."""
        made, came = self._made_and_came()
        self.run(cell)
        after, arrived = self._made_and_came()
        return after - made, arrived - came

    def _made_and_came(self) -> tuple[int, int]:
        made = int(self.counts()["video"])
        got = self.got()
        return made, int(got["came"] or got["h264"] + got["jpeg"])

    @contextmanager
    def dark(self) -> Iterator[None]:
        """The dark theme, for a while."""
        self._theme("Dark")
        self.page.wait_for_timeout(700)  # the style sheet takes a moment more
        yield
        self._theme("Light")

    def _theme(self, name: str) -> None:
        change = f"window.jupyterapp.commands.execute('apputils:change-theme', {{ theme: 'JupyterLab {name}' }})"
        self.page.evaluate(change)
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(name == 'Light').lower()}'")

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; the browser says: {self.console[-8:]}"
            self.page.wait_for_timeout(50)


class Server:
    """JupyterLab in a process of its own."""

    def __init__(self, root: Path, settings: dict[str, dict[str, Any]]) -> None:
        self.root = root
        overrides = root / "settings"
        overrides.mkdir()
        (overrides / "overrides.json").write_text(json.dumps(settings))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = [
            "--no-browser", f"--port={port}", "--port-retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
            f"--ServerApp.root_dir={root}", "--ip=127.0.0.1", "--allow-root", "--LabApp.expose_app_in_browser=True",
            f"--LabApp.app_settings_dir={overrides}", "--LabApp.extension_manager=readonly", "--LabApp.news_url=",
        ]  # fmt: skip
        home = {"JUPYTER_CONFIG_DIR": str(root / "config"), "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces")}
        home["JUPYTERLAB_SETTINGS_DIR"] = str(root / "user-settings")
        self.log = (root / "jupyter.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | home,
            stdout=self.log,
            stderr=self.log,
            cwd=root,
        )
        end = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < end, (root / "jupyter.log").read_text()[-3000:]
            threading.Event().wait(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                return True
        except OSError:
            return False

    def close(self) -> None:
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab without questions about news."""
    server = Server(tmp_path_factory.mktemp("lab"), QUIET)
    yield server
    server.close()


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Browser]]:
    """Starts browsers, which end with the module."""
    program = chromium()
    with sync_playwright() as playwright:
        browsers: list[Browser] = []

        def launch(*flags: str) -> Browser:
            browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *FAKE_DEVICES, *flags])
            browsers.append(browser)
            return browser

        yield launch
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Browser]) -> Browser:
    return launch()


@pytest.fixture
def page_of(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Makes pages outside of JupyterLab."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.add_init_script(KEEP)
    yield context.new_page
    context.close()


@pytest.fixture
def notebook(browser: Browser, server: Server) -> Iterator[Notebook]:
    """A page for one notebook."""
    yield from opened(browser.new_context(viewport={"width": 1100, "height": 1000}), server)


@pytest.fixture
def keeping(browser: Browser, tmp_path: Path) -> Iterator[Notebook]:
    """A page for one notebook, in a JupyterLab that is told to save the state of widgets."""
    server = Server(tmp_path, QUIET | {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}})
    yield from opened(browser.new_context(viewport={"width": 1100, "height": 900}), server)
    server.close()


def opened(context: BrowserContext, server: Server) -> Iterator[Notebook]:
    context.add_init_script(KEEP + MARKS)
    page = context.new_page()
    notebook = Notebook(page, server)
    yield notebook
    page.evaluate(
        "async () => { try { await window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown(); } catch {} }"
    )
    context.close()


@pytest.fixture
def without(browser: Browser, server: Server) -> Iterator[Callable[..., Notebook]]:
    """A page in which a script takes something away from the browser first."""
    pages: list[Iterator[Notebook]] = []

    def without(script: str, other: Browser | None = None) -> Notebook:
        context = (other or browser).new_context(viewport={"width": 1100, "height": 1000})
        context.add_init_script(script)
        pages.append(opened(context, server))
        return next(pages[-1])

    yield without
    for page in pages:
        next(page, None)
