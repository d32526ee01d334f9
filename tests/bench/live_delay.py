"""Delay of the live view beside aiortc alone, in one run: ``python tests/bench/live_delay.py [--seconds 5] [--rounds 3]``.

The same source, page and browser for all; they take turns. The delay of a picture is the time from when it was painted to when
headless Chromium presents it, by the number in its pixels. CPU is the sender's, of one core. Figures are medians of the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from playwright.sync_api import Browser, sync_playwright

sys.path.append(str(Path(__file__).parents[1] / "rtc"))

from pages import FLAGS, chromium

CONTENDERS = {"avlab": "avlab, the live view", "packets": "aiortc alone, packets of x264", "vp8": "aiortc alone, VP8"}
SETTLE = 4.0  # seconds: the browser's estimates, the encoder's first key picture, the message path's end


def measure(browser: Browser, contender: str, seconds: float) -> tuple[float, ...]:
    """p50 and p95 of the delay in ms, pictures per second, share of a core."""
    command = [sys.executable, str(Path(__file__).with_name("delay_sender.py")), contender]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdin is not None and sender.stdout is not None
        url = f"http://127.0.0.1:{int(sender.stdout.readline())}"
        page = browser.new_page()
        page.goto(url)
        page.wait_for_function("window.seen?.length > 5", timeout=20_000)
        page.wait_for_timeout(SETTLE * 1000)
        process = psutil.Process(sender.pid)
        used, began = sum(process.cpu_times()[:2]), time.monotonic()
        if contender == "avlab":
            page.wait_for_selector("[data-testid=avlab-preview][data-path=direct]")
        page.evaluate("seen.length = 0")
        page.wait_for_timeout(seconds * 1000)
        seen: list[Any] = page.evaluate("seen")
        took = time.monotonic() - began
        load = (sum(process.cpu_times()[:2]) - used) / took
        painted = json.loads(urllib.request.urlopen(f"{url}/painted").read())
        page.close()
        sender.stdin.close()
    delays = sorted(at - painted[str(number)] for number, at in seen)
    assert delays, "no picture could be read"
    return delays[len(delays) // 2], delays[int(len(delays) * 0.95)], len({n for n, _ in seen}) / took, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, nargs="*", default=list(CONTENDERS))
    given = parser.parse_args()
    rounds: dict[str, list[tuple[float, ...]]] = {name: [] for name in given.only}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for _ in range(given.rounds):
            for name, done in rounds.items():
                done.append(measure(browser, name, given.seconds))
        browser.close()
    middle = {name: [median(column) for column in zip(*done, strict=True)] for name, done in rounds.items()}
    print("sender | delay p50 ms | p95 ms | fps | CPU")
    for name, (p50, p95, rate, load) in middle.items():
        print(f"{CONTENDERS[name]} | {p50:.1f} | {p95:.1f} | {rate:.1f} | {load * 100:.0f} %")
    for name in [other for other in middle if other != "avlab" and "avlab" in middle]:
        print(f"avlab's delay is {middle['avlab'][0] / middle[name][0]:.2f} of that of {CONTENDERS[name]}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
