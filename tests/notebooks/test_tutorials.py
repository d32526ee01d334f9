"""The tutorials run from top to bottom in a real kernel, and the first one keeps what it promises."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
VIDEO = Path(os.environ.get("AVLAB_VIDEO", Path(sys.prefix) / "media/bigbuckbunny.mp4"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``avlab demo`` has filled; its standard output is in printed.txt."""
    assert VIDEO.is_file(), f"no video {VIDEO}: run make test, which fetches it"
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "avlab", "demo", "--out", str(folder), str(VIDEO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def pictures(path: Path) -> list[Fraction]:
    """Time of every picture, in seconds."""
    with av.open(str(path)) as media:
        return [frame.pts * frame.time_base for frame in media.decode(video=0)]


def loudness(path: Path) -> np.ndarray:
    """Root mean square of each 20 ms of sound, as mono at 16 kHz."""
    resampler = av.AudioResampler("flt", "mono", 16000)
    with av.open(str(path)) as media:
        parts = [part.to_ndarray()[0] for frame in media.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate(parts)
    return np.sqrt(np.mean(samples[: len(samples) // 320 * 320].reshape(-1, 320) ** 2, axis=1))


def test_every_picture_keeps_its_time(out: Path) -> None:
    before, after = pictures(VIDEO), pictures(out / "result.mp4")
    assert len(after) == len(before)
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < Fraction(1, 1000)


def test_sound_is_intact(out: Path) -> None:
    before, after = loudness(VIDEO), loudness(out / "result.mp4")
    assert abs(len(before) - len(after)) <= 5
    common = min(len(before), len(after))
    assert np.corrcoef(before[:common], after[:common])[0, 1] > 0.95


def test_table_names_what_was_measured(out: Path) -> None:
    printed = (out / "printed.txt").read_text()
    missing = [word for word in ("items", "fps", "p50", "p95", "bytes", "drop", "tier") if word not in printed.lower()]
    assert not missing, printed
    assert (out / "before_after.png").stat().st_size > 10_000


def test_verdicts_hold_and_the_error_shows_the_cell(out: Path) -> None:
    cells = {cell.id: cell for cell in nbformat.read(out / "01_remote_class.ipynb", as_version=4).cells}
    for name in ("call", "check", "except"):
        text = "".join(output.get("text", "") for output in cells[name].outputs)
        assert "True" in text and "False" not in text
    (error,) = (output for output in cells["error"].outputs if output.output_type == "error")
    assert "np.clip(1 - self.strength" in "\n".join(error.traceback)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_under_nbval(notebook: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "--nbval-cell-timeout=120",
        "-p",
        "no:cacheprovider",
    ]
    places = {"AVLAB_VIDEO": str(VIDEO), "AVLAB_OUT": str(tmp_path)}
    done = subprocess.run(
        [*command, str(notebook)], env=os.environ | places, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert [cell.id for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
