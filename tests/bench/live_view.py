"""Measures the live view in a real JupyterLab and headless Chromium: ``python tests/bench/live_view.py [--seconds 8] [--only messages]``.

Pictures per second are counted where they are shown; *kept* is the share of the pictures made during a cell that sleeps or is busy in
pure Python for 10 s that reach the browser; the first picture is timed in the page, from the start of its cell, with avlab loaded, to the animation frame in which it is there,
of that cell run *again*, and after a reload of the page from the moment in which the view asks for it.
The delay is what the view tells (source to screen); CPU is that of the kernel and its children, of one core. A second line says which
thread of the kernel takes how much of it, and what the source takes that nobody looks at.
"""

import argparse
import importlib.util
import json
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
# Keeps when the first picture of a view that is not there yet is on the screen, in seconds from now.
WATCH = """() => {
  const began = performance.now(), old = document.querySelector('[data-testid=avlab-preview]');
  window.first = new Promise((done) => {
    const watcher = new MutationObserver(() => {
      const view = document.querySelector('[data-testid=avlab-preview][data-frames]');
      if (!view || view === old) return;
      watcher.disconnect();
      requestAnimationFrame(() => done((performance.now() - began) / 1000));
    });
    setTimeout(() => done(NaN), 60000);
    watcher.observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-frames'] });
  });
}"""
UNSEEN = "unseen = (avlab.TestSource(realtime=True) >> avlab.Preview()).start()"
# Seconds that each thread of the kernel has run.
THREADS = """
import json, pathlib, threading
ran = lambda each: int(pathlib.Path(f"/proc/self/task/{each.native_id}/schedstat").read_text().split()[0]) / 1e9
print(json.dumps({each.name: ran(each) for each in threading.enumerate()}))
"""
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


def threads(notebook: Any) -> dict[str, float]:
    return dict(json.loads(notebook.execute(THREADS)))


def shares(notebook: Any, before: dict[str, float], since: float) -> str:
    """What the threads of the kernel have taken since then, the largest share first."""
    took = time.monotonic() - since
    ran = {name: (now - before.get(name, 0)) / took * 100 for name, now in threads(notebook).items()}
    return ", ".join(f"{name} {share:.1f} %" for name, share in sorted(ran.items(), key=lambda each: -each[1]) if share >= 0.5)


def show(notebook: Any) -> float:
    """Run the first cell; seconds until its view shows a picture."""
    notebook.page.evaluate(WATCH)
    notebook.start(0)
    return float(notebook.page.evaluate("window.first"))


def measure(notebook: Any, code: str, path: str, seconds: float) -> tuple[list[str], str]:
    notebook.open("bench.ipynb", [code, SLEEP.format(seconds=CELL), BUSY.format(seconds=CELL)])
    notebook.execute("import avlab, avlab_kernel.live.preview; avlab.TestSource")
    pid = int(notebook.execute("import os; print(os.getpid())"))
    first = show(notebook)
    notebook.wait_for_path(path)
    notebook.page.wait_for_timeout(4000)
    used, sent, each, since = cpu(pid), notebook.counts()["bytes"], threads(notebook), time.monotonic()
    idle = notebook.rate(seconds)
    took = time.monotonic() - since
    load, parts = (cpu(pid) - used) / took, shares(notebook, each, since)
    after = notebook.counts()
    (view,) = after["views"][-1:]
    notebook.execute("getattr(run, 'close', run.stop)()")
    again = show(notebook)
    notebook.wait_for_path(path)
    kept = [notebook.kept(cell) for cell in (1, 2)]
    notebook.reload()
    notebook.page.wait_for_selector("[data-testid=avlab-preview][data-frames]", timeout=60_000)
    notebook.execute(f"getattr(run, 'close', run.stop)(); {UNSEEN}")
    notebook.page.wait_for_timeout(1000)
    unseen = threads(notebook), time.monotonic()
    notebook.page.wait_for_timeout(seconds * 1000)
    alone = shares(notebook, *unseen)
    notebook.execute("unseen.stop()")
    skew = f"{view['skew']:+.0f}" if view.get("skew") is not None else "–"
    rate = f"{(after['bytes'] - sent) * 8 / took / 1e6:.1f}"
    times = [f"{took:.2f}" for took in (first, again, notebook.took())]
    row = [*times, f"{idle:.1f}", *(f"{came / made * 100:.0f} %" for made, came in kept), f"{view['delay'] or 0:.0f}", skew, rate, f"{load * 100:.0f} %"]
    return row, f"    {parts}; nobody looking: {alone}"


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
                row, parts = measure(next(pages), code, path, seconds)
                print(" | ".join([name, *row]), parts, sep="\n", flush=True)
                next(pages, None)
            browser.close()
        finally:
            server.close()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
