"""Measures the live view in a real JupyterLab and headless Chromium: ``python tests/bench/live_view.py [--seconds 8] [--only messages]``.

Pictures per second are counted where they are shown; *kept* is the share of the pictures made during a cell that sleeps or is busy in
pure Python for 10 s that reach the browser; the first picture is timed from the start of its cell, with avlab loaded,
of that cell run *again*, and after a reload of the page from the moment in which the view asks for it.
The delay is what the view tells (source to screen); CPU is that of the kernel and its children, of one core.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

THREAD = "import avlab\nrun = (avlab.TestSource(realtime=True) >> avlab.Preview()).start()\nrun"
PROCESS = "import avlab\nrun = avlab.Pipeline([avlab.TestSource(realtime=True)]).preview(runtime='process')\nrun"
SLEEP = "import time\ntime.sleep({seconds})"
BUSY = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
NO_WEBRTC = "delete window.RTCPeerConnection;"
NO_CODECS = NO_WEBRTC + "delete window.VideoDecoder;"
CELL = 10  # seconds
CASES = {
    "direct": (THREAD, "", "direct"),
    "direct, own process": (PROCESS, "", "direct"),
    "messages, H.264": (THREAD, NO_WEBRTC, "messages"),
    "messages, JPEG": (THREAD, NO_CODECS, "messages"),
}


def lab() -> Any:
    """The classes that the tests drive JupyterLab with."""
    path = Path(__file__).parents[1] / "ui" / "conftest.py"
    spec = importlib.util.spec_from_file_location("lab_for_bench", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def measure(notebook: Any, code: str, path: str, seconds: float) -> list[str]:
    notebook.open("bench.ipynb", [code, SLEEP.format(seconds=CELL), BUSY.format(seconds=CELL)])
    notebook.execute("import avlab, avlab_kernel.live.preview; avlab.TestSource")
    pid = int(notebook.execute("import os; print(os.getpid())"))
    began = time.monotonic()
    notebook.start(0)
    notebook.page.wait_for_selector("[data-testid=avlab-preview][data-frames]", timeout=60_000)
    first = time.monotonic() - began
    notebook.wait_for_path(path)
    notebook.page.wait_for_timeout(4000)
    used, sent, since = cpu(pid), notebook.counts()["bytes"], time.monotonic()
    idle = notebook.rate(seconds)
    took = time.monotonic() - since
    load = (cpu(pid) - used) / took
    after = notebook.counts()
    (view,) = after["views"][-1:]
    notebook.execute("getattr(run, 'close', run.stop)()")
    notebook.page.get_by_test_id("avlab-preview").evaluate("view => (view.dataset.old = '')")
    began = time.monotonic()
    notebook.start(0)
    notebook.page.wait_for_selector("[data-testid=avlab-preview][data-frames]:not([data-old])", timeout=60_000)
    again = time.monotonic() - began
    notebook.wait_for_path(path)
    kept = [notebook.kept(cell) for cell in (1, 2)]
    notebook.reload()
    notebook.page.wait_for_selector("[data-testid=avlab-preview][data-frames]", timeout=60_000)
    skew = f"{view['skew']:+.0f}" if view.get("skew") is not None else "–"
    rate = f"{(after['bytes'] - sent) * 8 / took / 1e6:.1f}"
    shares = [f"{came / made * 100:.0f} %" for made, came in kept]
    return [f"{first:.2f}", f"{again:.2f}", f"{notebook.took():.2f}", f"{idle:.1f}", *shares, f"{view['delay'] or 0:.0f}", skew, rate, f"{load * 100:.0f} %"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--only", default="", help="the paths whose names begin so, such as 'messages'")
    given = parser.parse_args()
    seconds = given.seconds
    ui = lab()
    head = ["path", "first s", "again s", "reload s", "fps", "kept, sleeping", "kept, busy", "delay ms", "A/V ms", "Mbit/s", "CPU"]
    print(" | ".join(head), flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = ui.Server(Path(folder), {})
        try:
            browser = playwright.chromium.launch(executable_path=ui.chromium(), args=ui.FLAGS)
            for name, (code, script, path) in CASES.items():
                if not name.startswith(given.only):
                    continue
                context = browser.new_context(viewport={"width": 1100, "height": 1000})
                context.add_init_script(script)
                pages = ui.opened(context, server)
                print(" | ".join([name, *measure(next(pages), code, path, seconds)]), flush=True)
                next(pages, None)
            browser.close()
        finally:
            server.close()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
