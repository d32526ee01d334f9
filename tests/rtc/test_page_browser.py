"""The served page in a real browser: as a camera for a WebRTCSource, and as a view of a WebRTCSink."""

import os
from collections import Counter
from pathlib import Path

import pytest
from pages import FAKE_DEVICES, FLAGS, KEEP, NUMBER, chromium
from playwright.sync_api import expect, sync_playwright

import avlab
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.server import SignalConfig, SignalServer

PATIENCE = 30_000  # ms
# Three calls that nobody answers: what is left of their connections, before and after the line is closed.
UNANSWERED = """async () => {
  const { Line } = await import('./line.js');
  const signal = ({ kind }) => { if (kind === 'servers') queueMicrotask(() => line.heard({ kind, servers: [] })); };
  const line = new Line({ role: 'view', signal, media() {}, changed() {} });
  for (let i = 0; i < 3; i++) await line.call();
  const states = () => kept.map((each) => each.signalingState);
  const before = states();
  line.close();
  return [before, states()];
}"""


@pytest.fixture(scope="module")
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()
    MediaRuntime.default().close()


@pytest.fixture(scope="module")
def server(runtime):
    with SignalServer(SignalConfig(port=0), runtime=runtime) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    program = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *FAKE_DEVICES])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser, request):
    context = browser.new_context(viewport={"width": 420, "height": 800}, color_scheme=request.param)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda message: page.troubles.append(message.text) if message.type == "error" else None)
    page.scheme = request.param
    yield page
    context.close()


def keep(page, name: str) -> None:
    """A picture of the page, where somebody wants to look at it."""
    folder = os.environ.get("AVLAB_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"page-{name}-{page.scheme}.png"))


class Sizes:
    """Counts pictures by size, and sound; ends its run when it has seen enough of the full size."""

    def __init__(self, enough: int) -> None:
        self.enough, self.seen, self.run = enough, Counter(), None

    def process(self, item: avlab.Item) -> None:
        value = item.value
        self.seen["audio" if item.track == "audio" else (value.width, value.height)] += 1
        if self.seen[1280, 720] >= self.enough and self.seen["audio"] >= self.enough and self.run is not None:
            self.run.stop()


def test_a_phone_becomes_a_camera(server, page):
    sizes = Sizes(60)
    with avlab.WebRTCManager(server.url, room="studio", secret=server.secret) as manager:
        page.goto(manager.invite("camera").url)
        expect(page.get_by_test_id("avlab-view-start")).to_be_hidden()
        keep(page, "camera-before")
        assert "token" not in page.url
        page.get_by_test_id("avlab-camera-start").click()
        sizes.run = (avlab.WebRTCSource(manager=manager, role="camera") >> sizes).start()
        expect(page.get_by_test_id("avlab-status")).to_have_text("Sending.")
        expect(page.get_by_test_id("avlab-path")).to_have_text("Connected directly.")
        sizes.run.wait(60)
        keep(page, "camera")
        assert sizes.seen[1280, 720] >= 60, sizes.seen
        partner = manager.partners[0]
        assert (partner.role, partner.path) == ("camera", "direct")
        page.get_by_test_id("avlab-stop").click()
        expect(page.get_by_test_id("avlab-status")).to_contain_text("Stopped")
    assert page.troubles == []


def test_a_second_computer_becomes_a_view(server, page):
    with avlab.WebRTCManager(server.url, room="cinema", secret=server.secret) as manager:
        shown = (avlab.TestSource(size=(1280, 720), realtime=True) >> avlab.WebRTCSink(manager=manager)).start()
        try:
            page.goto(manager.invite("view").url)
            page.get_by_test_id("avlab-view-start").click()
            expect(page.get_by_test_id("avlab-status")).to_have_text("Connected.")
            video = page.get_by_test_id("avlab-video")
            page.wait_for_function(f"() => ({NUMBER})(document.getElementById('video')) > 10")
            first = video.evaluate(NUMBER)
            page.wait_for_function(f"(first) => ({NUMBER})(document.getElementById('video')) > first + 60", arg=first)
            assert video.evaluate("(v) => [v.videoWidth, v.videoHeight]") == [1280, 720]
            mute = page.get_by_test_id("avlab-mute")
            mute.click()
            expect(mute).to_have_text("Sound off")
            keep(page, "view")
        finally:
            shown.stop()
    expect(page.get_by_test_id("avlab-status")).to_contain_text("Waiting for somebody")
    assert page.troubles == []


def test_the_page_says_what_is_wrong(server, page):
    page.goto(server.url)
    expect(page.get_by_test_id("avlab-status")).to_contain_text("needs an invitation")
    page.goto("about:blank")
    page.goto(f"{server.url}/#room=studio&token=wrong")
    page.get_by_test_id("avlab-view-start").click()
    expect(page.get_by_test_id("avlab-status")).to_contain_text("did not let us in")
    expect(page.get_by_test_id("avlab-view-start")).to_be_enabled()
    keep(page, "refused")


def test_calls_that_nobody_answers_leave_no_connection(server, page):
    page.add_init_script(KEEP)
    page.goto(server.url)
    assert page.evaluate(UNANSWERED) == [["closed", "closed", "have-local-offer"], ["closed"] * 3]
