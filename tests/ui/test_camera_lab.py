"""Camera and Microphone in a real JupyterLab, with a camera whose pictures carry their numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import numbered

SETUP = """import avlab
from collections import Counter
numbers, sizes, times, heard = [], Counter(), {'video': [], 'audio': []}, []

class Look(avlab.Node):
    def process(self, item: avlab.Item):
        times[item.track].append(item.time)
        if item.track == 'video':
            sizes[item.value.width, item.value.height] += 1
            if item.value.height == 720 and len(numbers) < 200:
                try:
                    numbers.append(avlab.media.sources.read_frame_number(item.value))
                except avlab.MediaError:
                    numbers.append(None)
        elif len(heard) < 200:
            heard.append(float(abs(item.value.to_ndarray().astype(float)).mean()))
import avlab.media.sources
"""
RUN = "camera = avlab.Camera(audio=True, voice=False, patience=60)\nrun = (camera >> Look()).start()"
FACTS = """import json
print(json.dumps({
    'sizes': [[*size, count] for size, count in sizes.items()], 'numbers': numbers, 'heard': max(heard, default=0),
    'times': {track: [len(t), all(b > a for a, b in zip(t, t[1:])), t[0] if t else 0, t[-1] if t else 0] for track, t in times.items()},
    'state': {k: v for k, v in camera.statistics().items() if k != 'receiver'}, 'running': run.running,
}))"""
BUSY = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass"
TRACKS = "Object.assign(window, {all: []}); const own = MediaDevices.prototype.getUserMedia;\n"
TRACKS += "MediaDevices.prototype.getUserMedia = async function (...a) { const s = await own.apply(this, a); window.all.push(...s.getTracks()); return s; }"


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return launch(*numbered(tmp_path_factory.mktemp("fake")), "--auto-select-desktop-capture-source=Entire screen")


@pytest.fixture
def page(without: Callable[[str], Any]) -> Iterator[Any]:
    return without(TRACKS)


def facts(notebook: Any) -> dict[str, Any]:
    return json.loads(notebook.execute(FACTS))


def state(notebook: Any, name: str) -> None:
    notebook.page.wait_for_selector(f"[data-testid=avlab-camera][data-state={name}]", timeout=60_000)


def pictures(notebook: Any, at_least: int) -> dict[str, Any]:
    notebook.until(lambda: facts(notebook)["times"]["video"][0] >= at_least, 60)
    return facts(notebook)


def test_start_brings_720p_into_the_kernel_and_stop_lets_the_camera_go(
    page: Any, tmp_path: Path, record_property: Any
) -> None:
    page.open("camera.ipynb", [SETUP, RUN])
    page.run(0)
    page.run(1)
    state(page, "waiting")
    assert page.page.evaluate("window.all.length") == 0  # nothing before the button
    page.page.screenshot(path=tmp_path / "waiting.png")
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    found = pictures(page, 150)
    page.page.wait_for_timeout(1500)
    page.page.screenshot(path=tmp_path / "live.png")
    rate = (found["times"]["video"][0] - 1) / (found["times"]["video"][3] - found["times"]["video"][2])
    record_property("pictures per second", round(rate, 1))
    print(json.dumps({"fps": rate, **found}))
    whole = {(width, height): count for width, height, count in found["sizes"]}
    assert whole[1280, 720] >= 0.9 * sum(whole.values())
    read = [number for number in found["numbers"] if number is not None]
    assert len(read) >= 0.9 * len(found["numbers"])
    assert len(set(read)) > 30
    assert found["heard"] > 1000
    for track in ("video", "audio"):
        assert found["times"][track][1], f"times of {track} do not increase"
    page.page.get_by_test_id("avlab-camera-stop").click()
    page.until(lambda: not facts(page)["running"])
    assert set(page.page.evaluate("window.all.map((track) => track.readyState)")) == {"ended"}
    page.page.screenshot(path=tmp_path / "stopped.png")
    assert not [line for line in page.console if line.startswith("pageerror")]


# Counts what the browser encodes by itself.
CODERS = """
window.coded = { h264: 0, opus: 0, jpeg: 0 };
for (const [name, form] of [['VideoEncoder', 'h264'], ['AudioEncoder', 'opus']]) {
  const encode = window[name].prototype.encode;
  window[name].prototype.encode = function (...given) { coded[form]++; return encode.apply(this, given); };
}
const blob = HTMLCanvasElement.prototype.toBlob;
HTMLCanvasElement.prototype.toBlob = function (...given) { coded.jpeg++; return blob.apply(this, given); };
"""
NO_WEBRTC = CODERS + "delete window.RTCPeerConnection;"
BROKEN_WEBRTC = CODERS + "RTCPeerConnection.prototype.setRemoteDescription = () => new Promise(() => {});"
NO_CODECS = NO_WEBRTC + "for (const name of ['VideoEncoder', 'AudioEncoder', 'MediaStreamTrackProcessor']) delete window[name];"
BAD_CODECS = NO_WEBRTC + "VideoEncoder.prototype.encode = () => { throw new DOMException('gone', 'QuotaExceededError') };"


@pytest.mark.parametrize(
    ("missing", "sentence", "forms"),
    [
        (NO_WEBRTC, "this browser has no WebRTC", {"h264", "opus"}),
        (BROKEN_WEBRTC, "the direct path did not stand (a TURN server may help", {"h264", "opus"}),
        (NO_CODECS, "no WebRTC", {"jpeg"}),
        (BAD_CODECS, "no WebRTC", {"jpeg"}),
    ],
    ids=["no WebRTC", "blocked", "no codecs", "codecs that fail"],
)  # fmt: skip
def test_without_a_direct_path_messages_bring_it_into_the_kernel(
    without: Callable[[str], Any], missing: str, sentence: str, forms: set[str], tmp_path: Path, record_property: Any
) -> None:
    page = without(missing)
    page.open("messages.ipynb", [SETUP, RUN])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    page.until(lambda: sentence in page.page.get_by_test_id("avlab-camera-said").inner_text())
    before, began = facts(page), page.page.evaluate("performance.now()")
    found = pictures(page, before["times"]["video"][0] + 90)
    took = (page.page.evaluate("performance.now()") - began) / 1000
    rate = (found["times"]["video"][0] - before["times"]["video"][0]) / took
    record_property("pictures per second", round(rate, 1))
    page.page.screenshot(path=tmp_path / "messages.png")
    print(json.dumps({"fps": round(rate, 1), **found}))
    assert found["state"]["path"] == "messages"
    assert page.page.locator("[data-path=messages]").count() == 1
    coded = page.page.evaluate("window.coded")
    assert {form for form, count in coded.items() if count > 15} == forms, coded
    assert {(width, height) for width, height, _ in found["sizes"]} == {(1280, 720)}
    read = [number for number in found["numbers"] if number is not None]
    assert len(read) >= 0.9 * len(found["numbers"])
    assert len(set(read)) > 30
    assert found["heard"] > 1000
    for track in ("video", "audio"):
        _, increases, first, last = found["times"][track]
        assert increases, f"times of {track} do not increase"
        assert last - first > 2
    page.execute("run.stop()")
    page.until(lambda: "ended" in page.page.get_by_test_id("avlab-camera-said").inner_text())
    assert not [line for line in page.console if line.startswith("pageerror")]


def test_messages_begin_a_direct_path_takes_over_and_they_come_back_when_it_is_lost(without: Any) -> None:
    page = without(
        CODERS + "window.held = []; const own = RTCPeerConnection.prototype.setRemoteDescription;"
        "RTCPeerConnection.prototype.setRemoteDescription = async function (answer) {"
        "  await new Promise((go) => (window.free ? go() : held.push(go))); return own.call(this, answer); };"
    )
    page.open("ladder.ipynb", [SETUP, RUN])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    way = "[data-testid=avlab-camera-said][data-path={}]"
    page.page.wait_for_selector(way.format("messages"))
    assert "a direct path is being tried" in page.page.get_by_test_id("avlab-camera-said").inner_text()
    pictures(page, 15)
    page.page.evaluate("window.free = true; held.at(-1)()")  # on a busy machine the first attempt may be over by now
    page.page.wait_for_selector(way.format("direct"))
    pictures(page, facts(page)["times"]["video"][0] + 15)
    coded = page.page.evaluate("coded.h264")
    pictures(page, facts(page)["times"]["video"][0] + 15)
    assert page.page.evaluate("coded.h264") == coded  # nothing goes twice
    tried = page.page.evaluate("window.free = false; kept.at(-1).close(); held.length")
    page.page.wait_for_selector(way.format("messages"))
    found = pictures(page, facts(page)["times"]["video"][0] + 15)
    assert page.page.evaluate("coded.h264") > coded
    page.until(lambda: page.page.evaluate("held.length") > tried)
    page.page.evaluate("window.free = true; held.forEach((go) => go())")
    page.page.wait_for_selector(way.format("direct"))
    found = pictures(page, found["times"]["video"][0] + 15)
    for track in ("video", "audio"):
        assert found["times"][track][1], f"times of {track} do not increase"
    assert found["state"]["reconnects"] == 1
    assert not [line for line in page.console if line.startswith("pageerror")]


def test_a_reload_of_the_page_goes_on_with_the_same_run(page: Any, tmp_path: Path) -> None:
    page.open("reload.ipynb", [SETUP, RUN])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    page.page.wait_for_selector("[data-testid=avlab-camera-said][data-path=direct]")
    before = pictures(page, 30)
    page.reload()
    state(page, "live")  # nobody pressed Start again: it was pressed in this tab
    page.page.wait_for_selector("[data-testid=avlab-camera-said][data-path=direct]")
    after = pictures(page, before["times"]["video"][0] + 60)
    assert after["state"]["reconnects"] >= 1
    assert after["running"]
    for track in ("video", "audio"):
        assert after["times"][track][1], f"times of {track} do not increase"
    # The cell is run again: the output goes, the run that used it ends and the camera with it.
    page.execute("first = run")
    page.run(1)
    state(page, "waiting")
    page.until(lambda: page.execute("print(first.running)").strip() == "False")
    assert set(page.page.evaluate("window.all.map((track) => track.readyState)")) == {"ended"}


def test_the_device_opened_again_another_size_a_broken_connection_and_a_busy_cell(
    page: Any, record_property: Any
) -> None:
    page.open("changes.ipynb", [SETUP, RUN, BUSY])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    pictures(page, 30)

    menu = page.page.get_by_test_id("avlab-camera-video-menu")
    assert menu.locator("option").count() == 1
    menu.dispatch_event("change")  # the same one, opened again
    page.until(lambda: page.page.evaluate("window.all.filter((track) => track.kind === 'video').length") == 2)
    pictures(page, facts(page)["times"]["video"][0] + 30)

    video = "window.all.findLast((track) => track.kind === 'video')"
    page.page.evaluate(f"{video}.applyConstraints({{ width: 640, height: 360 }})")
    page.until(lambda: [640, 360] in [each[:2] for each in facts(page)["sizes"]])
    page.page.evaluate(f"{video}.applyConstraints({{ width: 1280, height: 720 }})")

    page.page.wait_for_selector("[data-testid=avlab-camera-said][data-path=direct]")
    page.execute("camera._source._runtime.run(camera._source._peer.close())")
    page.until(lambda: facts(page)["state"]["reconnects"] == 1)
    state(page, "live")
    before = pictures(page, facts(page)["times"]["video"][0] + 30)

    page.run(2)
    after = facts(page)
    came = after["times"]["video"][0] - before["times"]["video"][0]
    spoken = after["times"]["audio"][0] - before["times"]["audio"][0]
    record_property("pictures in 5 busy seconds", came)
    record_property("blocks of sound in 5 busy seconds", spoken)
    print(json.dumps({"busy": [came, spoken], "at": after["state"]}))
    assert came > 30
    assert spoken > 100
    for track in ("video", "audio"):
        assert after["times"][track][1], f"times of {track} do not increase"
    assert after["running"]
    assert not [line for line in page.console if line.startswith("pageerror")]


def test_another_camera_from_the_menu_takes_the_place_of_the_first(launch: Callable[..., Any], without: Any) -> None:
    # Chromium's second fake device gives 16 bit of depth (Y16), which WebRTC cannot send; the third gives MJPEG, as real cameras do.
    page = without(TRACKS, launch("--use-fake-device-for-media-stream=device-count=3,fps=30"))
    page.open("second.ipynb", [SETUP, RUN.replace("avlab.Camera(", "avlab.Camera(device='fake_device_0', ")])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    before = pictures(page, 30)
    menu = page.page.get_by_test_id("avlab-camera-video-menu")
    assert menu.locator("option").all_inner_texts() == [f"fake_device_{n}" for n in range(3)]
    menu.select_option(label="fake_device_2")
    videos = "window.all.filter((track) => track.kind === 'video')"
    page.until(lambda: page.page.evaluate(f"{videos}.length") == 2)
    after = pictures(page, facts(page)["times"]["video"][0] + 60)
    first, second = page.page.evaluate(f"{videos}.map((track) => [track.label, track.readyState])")
    assert [first, second] == [["fake_device_0", "ended"], ["fake_device_2", "live"]]
    assert after["running"] and after["state"]["reconnects"] == before["state"]["reconnects"] == 0
    for track in ("video", "audio"):
        assert after["times"][track][1], f"times of {track} do not increase"


def test_a_screen_is_shared_too(page: Any, tmp_path: Path) -> None:
    page.open("screen.ipynb", [SETUP, "camera = avlab.Screen()\nrun = (camera >> Look()).start()"])
    page.run(0)
    page.run(1)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "live")
    pictures(page, 2)
    page.page.screenshot(path=tmp_path / "screen.png")
    page.execute("run.stop()")
    page.until(lambda: "ended" in page.page.get_by_test_id("avlab-camera-said").inner_text())


REFUSED = "MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
NONE = "MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException('no', 'NotFoundError'))"
PLAIN = "Object.defineProperty(window, 'isSecureContext', { get: () => false })"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [(REFUSED, "allow it at the left end of the address bar"), (NONE, "plug one in"), (PLAIN, "https, or as http://localhost")],
    ids=["refused", "none", "insecure"],
)  # fmt: skip
def test_what_is_in_the_way_is_said_in_a_sentence(
    without: Callable[[str], Any], script: str, sentence: str, tmp_path: Path
) -> None:
    notebook = without(script)
    notebook.open("wrong.ipynb", ["import avlab\navlab.Camera()"])
    (output,) = notebook.run(0)
    assert output["data"]["text/plain"] == "Camera(1280×720, 30 fps)"
    start = notebook.page.get_by_test_id("avlab-camera-start")
    start.wait_for()
    if script is not PLAIN:
        start.click()
    notebook.until(lambda: sentence in notebook.page.get_by_test_id("avlab-camera-said").inner_text())
    notebook.page.screenshot(path=tmp_path / "problem.png")


def test_menus_keys_and_both_themes(page: Any, tmp_path: Path) -> None:
    page.open(
        "menus.ipynb",
        [SETUP, "microphone = avlab.Microphone()\nmicrophone", "camera = avlab.Camera(audio=True)\ncamera"],
    )
    for cell in range(3):
        page.run(cell)
    sound, both = page.page.get_by_test_id("avlab-camera").all()
    for each in (sound, both):
        each.get_by_test_id("avlab-camera-start").wait_for()
    both.focus()
    page.page.keyboard.press("s")
    sound.get_by_test_id("avlab-camera-start").click()
    page.page.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 2")
    assert both.get_by_test_id("avlab-camera-video-menu").locator("option").count() >= 1
    assert both.get_attribute("aria-label") == "Capture of the camera"
    both.focus()
    reached = []
    for _ in range(5):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert reached == ["Mute the microphone", "Hide the picture", "Camera", "Microphone", "Stop"]
    assert both.get_by_label("Your own picture").count() == 1
    assert "Ready: only this page sees it" in both.get_by_role("status").inner_text()
    level = sound.locator(".avlab-level")
    page.until(lambda: int(level.get_attribute("aria-valuenow") or -60) > -40)
    both.focus()
    page.page.keyboard.press("v")
    page.page.keyboard.press("m")
    assert both.get_by_test_id("avlab-camera-hide").get_attribute("aria-pressed") == "true"
    assert page.page.evaluate("window.all.map((track) => track.enabled)").count(False) == 2
    page.page.keyboard.press("v")
    with page.dark():
        page.page.screenshot(path=tmp_path / "dark.png")
    page.page.keyboard.press("x")
    sound.get_by_test_id("avlab-camera-stop").click()
    page.until(lambda: set(page.page.evaluate("window.all.map((track) => track.readyState)")) == {"ended"})
    assert not [line for line in page.console if line.startswith("pageerror")]


def test_without_a_kernel_a_saved_camera_says_so_and_shows_nobody(page: Any, tmp_path: Path) -> None:
    page.open("camera-kept.ipynb", ["import avlab\ncamera = avlab.Camera(audio=True)\ncamera"])
    page.run(0)
    page.page.get_by_test_id("avlab-camera-start").click()
    state(page, "ready")
    page.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    saved = page.server.root / "camera-kept.ipynb"
    page.until(lambda: '"stands_for"' in saved.read_text())
    assert "data:image" not in saved.read_text()
    page.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.page.goto(page.page.url.split("?")[0])
    kept = page.page.get_by_role("region", name="Capture of the camera").and_(page.page.get_by_test_id("avlab-kept"))
    kept.get_by_text("Not running: run the cell again.").wait_for()
    page.page.screenshot(path=tmp_path / "camera-kept.png")
