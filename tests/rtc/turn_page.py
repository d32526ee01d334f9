"""A live view whose kernel's side is in one network and whose browser is in another: run inside the former's namespace.

Arguments: a browser to start, ICE servers as JSON, the end of the sentence to wait for, and flags for the browser. Prints as JSON
what the view says, what getStats() says, and the first and last number read from the pixels of pictures on that path.
"""

import base64
import json
import queue
import sys
import threading
import time

from avlab_kernel.live.widget import LiveView
from pages import FLAGS, GOT, KEEP, NUMBER
from playwright.sync_api import sync_playwright

from avlab.media.rtc.live import Live
from avlab.media.runtime import MediaRuntime
from avlab.media.sources.test import TestSource

PAGE = """<!doctype html><div id="root" style="width: 640px"></div><script type="module">
import view from "./view.js";
let heard = () => {};
const model = { on: (_, act) => (heard = act), off: () => {}, get: () => "", send: (content) => window.toKernel(content) };
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
window.deliver = (messages) => messages.forEach(([message, parts]) => heard(message, parts.map(bytes)));
view.render({ model, el: document.getElementById("root") });
</script>"""
STATE = """() => ({ text: document.querySelector("[data-testid=avlab-path]")?.textContent ?? "" })"""


def main() -> None:
    browser, servers, wanted, flags = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4:]
    waiting: queue.Queue = queue.Queue(maxsize=1000)
    runtime = MediaRuntime()
    live = Live(lambda *message: waiting.put(message), ice_servers=servers, runtime=runtime, pace=False)
    live.begin()
    source = TestSource(size=(320, 180), realtime=True, audio=False)
    source.open()
    showing = threading.Thread(target=lambda: [live.put(item) for item in source.items()])
    showing.start()
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=[*FLAGS, *flags])
            page = chromium.new_page()
            page.add_init_script(KEEP)
            page.expose_function("toKernel", live.receive)
            files = {"/": ("text/html", PAGE), "/view.js": ("text/javascript", LiveView._esm)}

            def serve(route, request) -> None:
                kind, body = files.get(request.url.removeprefix("http://localhost"), ("text/plain", ""))
                route.fulfill(content_type=kind, body=body)

            page.route("http://localhost/**", serve)
            page.goto("http://localhost/")
            page.wait_for_function("() => window.deliver")
            shown, numbers = page.get_by_test_id("avlab-video"), []
            end, state = time.monotonic() + 40, {}
            while time.monotonic() < end and not (numbers and numbers[-1] > numbers[0] + 15):
                deliver(page, waiting)
                state = page.evaluate(STATE)
                if state["text"].endswith(wanted) and (number := shown.evaluate(NUMBER)) >= 0:
                    numbers.append(number)
            print(json.dumps({**state, "numbers": [*numbers[:1], *numbers[-1:]], "got": page.evaluate(GOT)}))
            chromium.close()
    finally:
        source.close()
        live.close()
        showing.join(10)
        runtime.close()


def deliver(page, waiting: queue.Queue) -> None:
    """Carry what there is to the page, waiting a moment for the first."""
    messages = []
    try:
        messages.append(waiting.get(timeout=0.05))
        while len(messages) < 50:
            messages.append(waiting.get_nowait())
    except queue.Empty:
        pass
    coded = [[message, [base64.b64encode(part).decode() for part in parts]] for message, parts in messages]
    page.evaluate("(messages) => window.deliver(messages)", coded)


main()
