"""The live view in a real JupyterLab: pictures arrive and move, whatever the kernel does and whichever path there is."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import nbconvert
import nbformat
import pytest
from pages import NUMBER

LIVE = "import avlab\nrun = (avlab.TestSource(realtime=True) >> avlab.Preview()).start()\nrun"
SLEEP = "import time\ntime.sleep(4)"
BUSY = "import time\nend = time.monotonic() + 10\nwhile time.monotonic() < end: pass"
VIEW = "import json\nprint(json.dumps(run.preview().statistics()['views'][-1]))"
PROCESS = "import avlab\nrun = avlab.Pipeline([avlab.TestSource(realtime=True)]).preview(runtime='process')\nrun"
NO_WEBRTC = "delete window.RTCPeerConnection"
BROKEN_WEBRTC = "RTCPeerConnection.prototype.setRemoteDescription = () => new Promise(() => {})"
NO_CODECS = "delete window.RTCPeerConnection; delete window.VideoDecoder"
ENOUGH = 8  # pictures per second, of 30, on a loaded machine


def moves(notebook: Any) -> None:
    """The number in the picture goes up, by about as much as the clock says."""
    first = notebook.number()
    notebook.until(lambda: notebook.number() > first + 30)


@pytest.mark.alone
def test_it_moves_directly_and_a_sleeping_or_busy_cell_does_not_freeze_it(notebook: Any, tmp_path: Path) -> None:
    notebook.open("direct.ipynb", [LIVE, SLEEP, BUSY])
    (output,) = notebook.run(0)
    assert output["data"]["text/plain"] == "Preview(1280×720)"
    assert output["data"]["image/jpeg"]
    notebook.wait_for_path("direct")
    moves(notebook)
    assert notebook.page.get_by_test_id("avlab-video").evaluate("video => video.videoWidth") == 1280
    notebook.page.screenshot(path=tmp_path / "direct.png")
    assert "Connected directly." in notebook.page.get_by_test_id("avlab-path").inner_text()
    got = notebook.got()
    assert got["state"] == "connected" and {got["local"], got["remote"]} <= {"host", "prflx"}, got
    assert got["bytes"] > got["video"] > 0 and got["pictures"] > 15 and got["sound"] > 15, got
    notebook.start(1)
    notebook.page.wait_for_timeout(200)
    assert notebook.rate(3) > ENOUGH
    notebook.page.wait_for_function("(index) => window.ran[index]", arg=1)
    made, came = notebook.kept(2)  # without turns taken more often a third would be left
    print(f"{came} of {made} pictures came in 10 busy seconds")
    assert made > 285 and came >= made * 0.8
    assert not [line for line in notebook.console if line.startswith("pageerror")]


@pytest.mark.alone
def test_in_a_process_of_its_own_a_busy_cell_takes_nothing_from_it(notebook: Any) -> None:
    notebook.open("process.ipynb", [PROCESS, BUSY])
    (output,) = notebook.run(0)
    assert output["data"]["text/plain"] == "Preview(1280×720)"
    notebook.wait_for_path("direct")
    moves(notebook)
    made, came = notebook.kept(1)
    print(f"{came} of {made} pictures came in 10 busy seconds")
    assert made > 285 and came >= made * 0.95
    notebook.page.get_by_test_id("avlab-stop").click()
    notebook.until(lambda: "ended" in notebook.page.get_by_test_id("avlab-path").inner_text())
    assert notebook.execute("print(run.running, run.close())").strip() == "False None"


@pytest.mark.parametrize(
    ("missing", "sentence", "form"),
    [
        (NO_WEBRTC, "this browser has no WebRTC", "h264"),
        (BROKEN_WEBRTC, "the direct path did not stand", "h264"),
        (NO_CODECS, "no WebRTC", "jpeg"),
    ],
    ids=["no WebRTC", "blocked", "no codecs"],
)  # fmt: skip
def test_without_a_direct_path_messages_carry_it(
    without: Callable[[str], Any], missing: str, sentence: str, form: str, tmp_path: Path
) -> None:
    notebook = without(missing)
    notebook.open("messages.ipynb", [LIVE, SLEEP])
    notebook.run(0)
    notebook.wait_for_path("messages")
    moves(notebook)
    notebook.until(lambda: sentence in notebook.page.get_by_test_id("avlab-path").inner_text())
    got = notebook.got()
    assert got["bytes"] == got["pictures"] == 0, got  # nothing by WebRTC
    assert got[form] > 15 and got["jpeg" if form == "h264" else "h264"] == 0, got
    notebook.page.screenshot(path=tmp_path / "messages.png")
    notebook.start(1)
    notebook.page.wait_for_timeout(200)
    assert notebook.rate(3) > ENOUGH / 2
    notebook.page.wait_for_function("(index) => window.ran[index]", arg=1)


def test_a_lost_direct_path_falls_back_to_messages(notebook: Any) -> None:
    notebook.open("lost.ipynb", [LIVE])
    notebook.run(0)
    notebook.wait_for_path("direct")
    moves(notebook)
    notebook.page.evaluate("kept.at(-1).close()")
    notebook.wait_for_path("messages")
    moves(notebook)


@pytest.mark.alone
def test_a_reload_of_the_page_resumes_within_two_seconds(notebook: Any) -> None:
    notebook.open("reload.ipynb", [LIVE])
    notebook.run(0)
    notebook.wait_for_path("direct")
    before = notebook.number()
    notebook.reload()
    notebook.page.wait_for_selector("[data-testid=avlab-preview][data-frames]")
    took = notebook.took()
    print(f"the first picture came {took:.2f} s after the view had asked")
    assert took < 2
    notebook.until(lambda: notebook.number() > before)


def test_a_pipeline_that_ends_before_its_first_picture_shows_none(notebook: Any, tmp_path: Path) -> None:
    notebook.open("nothing.ipynb", ["import avlab\nrun = (avlab.TestSource(duration=0) >> avlab.Preview()).start()\nrun"])
    notebook.run(0)
    page = notebook.page
    notebook.until(lambda: "ended" in page.get_by_test_id("avlab-path").inner_text())
    notebook.until(lambda: notebook.got()["state"] == "connected")
    page.screenshot(path=tmp_path / "nothing.png")
    assert not page.locator("[data-testid=avlab-preview] video").is_visible()
    assert page.get_by_test_id("avlab-snapshot").is_disabled()


def test_buttons_keys_and_figures(notebook: Any, server: Any, tmp_path: Path) -> None:
    notebook.open("buttons.ipynb", [LIVE])
    notebook.run(0)
    page = notebook.page
    notebook.wait_for_path("direct")
    notebook.until(lambda: "fps" in page.get_by_test_id("avlab-status").inner_text())
    notebook.until(lambda: " ms" in page.get_by_test_id("avlab-status").inner_text())
    page.get_by_test_id("avlab-preview").focus()
    page.keyboard.press("m")
    assert page.get_by_test_id("avlab-video").evaluate("video => video.muted") is False
    with page.expect_download() as saved:
        page.keyboard.press("s")
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    assert page.get_by_test_id("avlab-record").evaluate("button => getComputedStyle(button).color") == "rgb(217, 48, 37)"
    page.get_by_test_id("avlab-record").click()
    page.wait_for_selector("[data-testid=avlab-record][aria-pressed=true]")
    page.wait_for_timeout(2500)
    page.get_by_test_id("avlab-record").click()
    recorded = server.root / "preview-1.mp4"
    notebook.until(recorded.exists)
    with av.open(str(recorded)) as media:
        assert len(list(media.decode(video=0))) > 10
    page.get_by_test_id("avlab-pause").click()
    notebook.until(lambda: "Paused" in page.get_by_test_id("avlab-path").inner_text())
    still = notebook.frames()
    page.wait_for_timeout(1000)
    assert notebook.frames() <= still + 2
    page.get_by_test_id("avlab-pause").click()
    notebook.until(lambda: notebook.frames() > still + 10)
    with notebook.dark():
        page.screenshot(path=tmp_path / "dark.png")
    page.get_by_test_id("avlab-stop").click()
    notebook.until(lambda: "ended" in page.get_by_test_id("avlab-path").inner_text())
    assert notebook.execute("print(run.wait().items['video'] > 30)").strip() == "True"


def test_results_are_drawn_over_and_beside_the_picture(notebook: Any, tmp_path: Path) -> None:
    code = """import avlab, av, numpy
y, x = numpy.mgrid[:180, :320]
@avlab.node
def find(frame: av.VideoFrame):
    yield frame
    if frame.pts % 5 == 0:
        left = frame.pts * 4 % 900
        cat = (x * 4 - left - 150) ** 2 / 120**2 + (y * 4 - 320) ** 2 / 90**2 < 1
        boxes = [{'box': [left, 200, 300, 240], 'label': 'cat', 'score': 0.93, 'mask': cat}]
        levels = {'cat': 0.93, 'dog': frame.pts % 50 / 50}
        yield {'boxes': boxes, 'masks': [y > 150], 'frame': frame.pts, 'mean': 3.25, 'levels': levels}
        yield 'Hello from the pipeline'
        yield float(frame.pts % 90)
run = (avlab.TestSource(realtime=True) >> find()).preview()
run"""
    notebook.open("results.ipynb", [code])
    notebook.run(0)
    notebook.wait_for_path("direct")
    results = notebook.page.get_by_role("group", name="Results").and_(notebook.page.get_by_test_id("avlab-results"))
    notebook.until(lambda: "Hello from the pipeline" in results.inner_text() and "mean" in results.inner_text())
    # The mask of the floor lies over the lower edge, half transparent, and over nothing else there; boxes are opaque.
    drawn = "(canvas) => canvas.width ? [...canvas.getContext('2d').getImageData(canvas.width - 9, canvas.height - 9, 1, 1).data] : []"
    notebook.until(lambda: 0 < (notebook.page.locator(".avlab-over").evaluate(drawn) or [0])[-1] < 255)
    boxed = "(canvas) => [...canvas.getContext('2d').getImageData(0, 200, canvas.width, 240).data].filter((_, i) => i % 4 === 3).includes(255)"
    notebook.until(lambda: notebook.page.locator(".avlab-over").evaluate(boxed))
    assert results.get_by_role("row", name="mean 3.25").is_visible()
    cat, dog = (results.get_by_role("meter", name=name) for name in ("cat", "dog"))
    assert cat.get_attribute("aria-valuenow") == "0.93"
    widths = "(bar) => bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width"
    notebook.until(lambda: abs(cat.evaluate(widths) - 0.93) < 0.02)
    before = dog.get_attribute("aria-valuenow")
    notebook.until(lambda: dog.get_attribute("aria-valuenow") != before)
    # The mapping of a picture comes with its picture: the number in the table is the one that the picture shows, or the last before.
    shown = "(root) => Number([...root.querySelectorAll('th')].find((each) => each.textContent === 'frame').nextSibling.textContent)"
    apart = [notebook.number() - int(results.evaluate(shown)) for _ in range(10)]
    assert sorted(apart)[5] in range(-1, 11), apart
    line = results.get_by_role("img", name="The newest").locator("polyline")
    notebook.until(lambda: len((line.get_attribute("points") or "").split()) >= 10)
    notebook.page.set_viewport_size({"width": 1100, "height": 1200})
    notebook.page.wait_for_timeout(1500)
    notebook.page.screenshot(path=tmp_path / "results.png")
    with notebook.dark():
        notebook.page.screenshot(path=tmp_path / "results-dark.png")


def test_two_views_of_one_run_cost_one_encode(notebook: Any, tmp_path: Path) -> None:
    notebook.open("two.ipynb", [LIVE.replace("realtime", "size=(640, 360), realtime"), "run"])
    notebook.run(0)
    notebook.run(1)
    page = notebook.page
    page.wait_for_function("document.querySelectorAll('[data-testid=avlab-preview][data-path=direct]').length === 2")
    page.set_viewport_size({"width": 1100, "height": 1500})
    counts = "import json\nprint(json.dumps(run.preview().statistics()))"
    before = json.loads(notebook.execute(counts))
    first = page.get_by_test_id("avlab-video").evaluate_all(f"(views) => views.map({NUMBER})")
    notebook.until(
        lambda: (
            min(page.get_by_test_id("avlab-video").evaluate_all(f"(views) => views.map({NUMBER})")) > max(first) + 30
        )
    )
    after = json.loads(notebook.execute(counts))
    page.screenshot(path=tmp_path / "two.png")
    assert len(after["views"]) == 2 and after["rungs"] == 1
    assert 0 < after["encoded"] - before["encoded"] <= after["video"] - before["video"] + 3, (before, after)


def test_the_table_says_where_the_time_goes_and_who_sets_the_pace(notebook: Any, tmp_path: Path) -> None:
    code = """import avlab, av, time
@avlab.node
def think(frame: av.VideoFrame) -> av.VideoFrame:
    time.sleep(0.1)
    return frame
run = (avlab.TestSource(size=(640, 360), realtime=True) >> think()).preview()
run"""
    notebook.open("hops.ipynb", [code])
    notebook.run(0)
    page = notebook.page
    pace = page.get_by_test_id("avlab-pace")
    notebook.until(lambda: "think sets the pace: busy " in pace.inner_text())
    hops = page.get_by_test_id("avlab-hops")
    assert hops.locator("tr").count() == 0
    pace.focus()
    page.keyboard.press("Enter")
    hops.get_by_role("rowheader", name="source to screen").wait_for()
    row = hops.get_by_role("row").filter(has_text="think").inner_text().split()
    assert row[0] == "think" and float(row[1]) > 90 and row[3].isdigit()
    assert hops.get_by_role("columnheader").all_inner_texts() == ["node", "p50 ms", "p95 ms", "busy", "drops"]
    page.screenshot(path=tmp_path / "hops.png")
    with notebook.dark():
        page.screenshot(path=tmp_path / "hops-dark.png")


WHERE = "[document.activeElement.dataset.testid, document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText]"


def test_without_a_mouse_everything_is_reached_named_and_kept_from_the_notebook(notebook: Any) -> None:
    notebook.open("keys.ipynb", [LIVE, "'another cell'"])
    notebook.run(0)
    page = notebook.page
    notebook.wait_for_path("direct")
    for name in ("preview", "video", "status", "path", "mute", "stop"):
        assert page.get_by_test_id(f"avlab-{name}").count() == 1, name
    page.get_by_test_id("avlab-pace").wait_for()
    view = page.get_by_role("region", name="Live view")
    view.focus()
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(WHERE))
    names = {"pause": "Pause", "mute": "Sound on", "snapshot": "Save a picture", "record": "Record to a file", "stop": "Stop the pipeline"}
    assert reached[:5] == [[f"avlab-{name}", label] for name, label in names.items()]
    assert reached[5][0] == "avlab-pace" and reached[5][1]
    for role, name in (("toolbar", "Live view"), ("meter", "Audio level"), ("group", "Figures")):
        assert view.get_by_role(role, name=name, exact=True).count() == 1, name
    assert view.get_by_label("Live picture", exact=True).and_(page.get_by_test_id("avlab-video")).count() == 1
    assert "Connected directly." in view.get_by_role("status").inner_text()
    page.get_by_test_id("avlab-pause").focus()
    for key, label in (("Enter", "Go on"), ("Space", "Pause"), ("k", "Go on")):
        page.keyboard.press(key)
        assert page.evaluate(WHERE) == ["avlab-pause", label]
    page.keyboard.press("x")  # for the notebook: cut the cell
    notebook.until(lambda: "ended" in page.get_by_test_id("avlab-path").inner_text())
    assert page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    assert not [line for line in notebook.console if line.startswith("pageerror")]


def test_a_saved_notebook_shows_a_poster_and_a_text(notebook: Any, server: Any, tmp_path: Path) -> None:
    notebook.open("saved.ipynb", [LIVE])
    notebook.run(0)
    notebook.wait_for_path("direct")
    saved = left(notebook)
    (output,) = saved.cells[0].outputs
    assert output.data["text/plain"] == "Preview(1280×720)"
    assert picture(base64.b64decode(output.data["image/jpeg"])) == (640, 360)
    stands_in(notebook, tmp_path)
    converted(notebook, "saved.ipynb", tmp_path)


def test_where_states_are_saved_the_picture_is_in_converted_notebooks_too(keeping: Any, tmp_path: Path) -> None:
    keeping.open("kept.ipynb", [LIVE])
    keeping.run(0)
    keeping.wait_for_path("direct")
    left(keeping)
    stands_in(keeping, tmp_path)
    converted(keeping, "kept.ipynb", tmp_path)


def test_what_is_kept_is_small_tells_nothing_secret_and_goes_with_its_output(notebook: Any, server: Any) -> None:
    servers = "{'urls': 'turn:relay.example', 'username': 'walter', 'credential': 'sesame'}"
    notebook.open("small.ipynb", [LIVE.replace("Preview()", f"Preview(ice_servers=[{servers}])"), "run", "1"])
    notebook.run(0)
    notebook.run(1)
    notebook.until(lambda: notebook.page.locator("[data-testid=avlab-preview][data-frames]").count() == 2)
    notebook.until(lambda: notebook.page.get_by_test_id("avlab-status").filter(has_text="drops").count() == 2)
    saved = left(notebook)
    (model,) = states(saved).values()  # one for both outputs
    assert 5_000 < len(model["state"]["poster"]) < 80_000 and len(json.dumps(model)) < 100_000
    assert [name for name, _ in model["state"]["figures"]][:4] == ["picture", "rate", "delay", "drops"]
    text = json.dumps({**saved, "cells": [cell.outputs for cell in saved.cells]})
    assert not [secret for secret in ("walter", "sesame", "relay.example", "candidate:") if secret in text]
    notebook.reload()
    notebook.page.get_by_test_id("avlab-kept").nth(1).wait_for()
    for index in (0, 1):  # the stand-in's own code forgets what no output shows any more
        notebook.page.evaluate(
            "(index) => { const { content } = window.jupyterapp.shell.currentWidget; content.activeCellIndex = index;"
            " return window.jupyterapp.commands.execute('notebook:clear-cell-output'); }",
            index,
        )
    notebook.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    notebook.until(lambda: "poster" not in (server.root / "small.ipynb").read_text())


def test_a_new_view_takes_the_place_of_what_was_kept(notebook: Any, server: Any) -> None:
    notebook.open("again.ipynb", [LIVE])
    notebook.run(0)
    notebook.wait_for_path("direct")
    (first,) = states(left(notebook))
    notebook.reload()
    notebook.page.get_by_test_id("avlab-kept").wait_for()
    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.changeKernel({ name: 'python3' })")
    notebook.wait_for_kernel()
    notebook.run(0)
    notebook.wait_for_path("direct")
    moves(notebook)
    notebook.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    saved = server.root / "again.ipynb"
    notebook.until(lambda: first not in saved.read_text())
    assert len(states(nbformat.read(saved, 4))) == 1
    notebook.reload()  # a kernel that still runs: the live view, not its stand-in
    notebook.wait_for_path("direct")
    moves(notebook)
    assert notebook.page.get_by_test_id("avlab-kept").count() == 0


def left(notebook: Any) -> Any:
    """Stop the run, save, end the kernel; the notebook as it was saved."""
    page = notebook.page
    notebook.execute("run.stop()")
    notebook.until(lambda: "ended" in page.get_by_test_id("avlab-path").first.inner_text())
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    path = notebook.server.root / page.evaluate("window.jupyterapp.shell.currentWidget.context.path")
    notebook.until(lambda: '"stands_for"' in path.read_text())
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    return nbformat.read(path, 4)


def states(saved: Any) -> dict[str, Any]:
    return dict(saved.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"])


def picture(jpeg: bytes) -> tuple[int, int]:
    """Its size; it is not of one colour."""
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as container:
        (frame,) = container.decode(video=0)
    assert frame.to_ndarray(format="gray").std() > 10
    return frame.width, frame.height


def stands_in(notebook: Any, tmp_path: Path) -> None:
    """Opened again without a kernel, the notebook shows the last picture and figures, and says what to do."""
    page = notebook.page
    page.goto(page.url.split("?")[0], timeout=60_000)
    kept = page.get_by_role("region", name="Live view").and_(page.get_by_test_id("avlab-kept"))
    kept.get_by_text("Not running: run the cell again.").wait_for()
    poster = kept.get_by_alt_text("The last picture")
    assert poster.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [640, 360]
    figures = kept.get_by_role("group", name="Last figures").inner_text()
    assert "1280×720" in figures and "rate0 fps" not in figures.replace("\n", "")
    assert "model not found" not in page.locator(".jp-Notebook").inner_text()
    page.screenshot(path=tmp_path / "kept.png")
    with notebook.dark():
        page.screenshot(path=tmp_path / "kept-dark.png")


def converted(notebook: Any, name: str, tmp_path: Path) -> None:
    """nbconvert shows the picture, in a page that gets nothing from anywhere."""
    shown, _ = nbconvert.HTMLExporter().from_filename(str(notebook.server.root / name))
    page = notebook.page.context.new_page()
    page.set_content(shown)
    image = page.locator(".jp-RenderedImage img")
    assert image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [640, 360]
    page.screenshot(path=tmp_path / "converted.png")
    page.close()


ENDLESS = "run = (avlab.TestSource(size=(320, 180), realtime=True) >> avlab.Resize(width=160){end}\nrun"


@pytest.mark.parametrize(
    "cell",
    [
        ENDLESS.format(end=" >> avlab.Preview()).start()"),
        ENDLESS.format(end=").start()"),
        ENDLESS.format(end=").preview()"),
        ENDLESS.format(end=').preview(runtime="process")'),
    ],
    ids=["node", "displayed", "preview", "process"],
)
def test_what_a_cell_has_started_ends_when_it_is_run_again(notebook: Any, cell: str) -> None:
    notebook.open("again.ipynb", ["%load_ext avlab\nimport avlab, threading", cell, "run"])
    notebook.run(0)
    for _ in range(4):
        notebook.run(1)
        assert notebook.execute("first = run; print(run.running)") == "True\n"
        notebook.run(2)
        notebook.run(2)
        assert notebook.execute("print(first is run, run.running)") == "True True\n"  # shown again, and nothing else
    notebook.run(1)
    assert notebook.execute("print(first is run, first.running, run.running)") == "False False True\n"
    names = "print(sum(each.name == 'avlab:TestSource' for each in threading.enumerate()))"
    assert notebook.execute(names) == ("0\n" if "process" in cell else "1\n")


def test_a_view_says_that_its_kernel_does_not_answer_after_a_restart(notebook: Any) -> None:
    notebook.open("restart.ipynb", [LIVE])
    notebook.run(0)
    notebook.wait_for_path("direct")
    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    said = notebook.page.get_by_test_id("avlab-path")
    gone = ("The kernel does not answer.", "The kernel is gone: run the cell again.")  # the second once the widget's comm has ended, too
    notebook.until(lambda: said.inner_text() in gone, 60)
    notebook.page.wait_for_timeout(3000)  # and says so again when JupyterLab has drawn it anew meanwhile
    notebook.until(lambda: said.inner_text() in gone, 60)
