"""A script that shows pictures to its room, and the served page in a browser of another network: run inside the former's namespace.

Arguments: the signalling server's address and secret, a browser to start, ICE servers as JSON, the server's authority, and flags for
the browser. Prints as JSON what the page says, what getStats() says, and the first and last number read from its pixels.
"""

import json
import sys

from pages import FLAGS, GOT, KEEP, NUMBER
from playwright.sync_api import sync_playwright

import avlab
from avlab.media.runtime import MediaRuntime


def main() -> None:
    url, secret, browser, servers, authority, *flags = sys.argv[1:]
    options = {"room": "studio", "secret": secret, "authority": authority, "ice_servers": json.loads(servers)}
    with avlab.WebRTCManager(url, **options) as manager, sync_playwright() as playwright:
        shown = (avlab.TestSource(size=(320, 180), realtime=True, audio=False) >> avlab.WebRTCSink(manager=manager)).start()
        chromium = playwright.chromium.launch(executable_path=browser, args=[*FLAGS, *flags])
        try:
            page = chromium.new_page()
            page.set_default_timeout(40_000)
            page.add_init_script(KEEP)
            page.goto(manager.invite("view").url)
            page.get_by_test_id("avlab-view-start").click()
            there = f"(least) => {{ const n = ({NUMBER})(document.getElementById('video')); return n > least && n; }}"
            first = page.wait_for_function(there, arg=0).json_value()
            last = page.wait_for_function(there, arg=first + 15).json_value()
            text = page.get_by_test_id("avlab-path").inner_text()
            print(json.dumps({"text": text, "numbers": [first, last], "got": page.evaluate(GOT)}))
        finally:
            chromium.close()
            shown.stop()
    MediaRuntime.default().close()


main()
