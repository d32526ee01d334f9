"""``avlab demo``: run the first tutorial without a browser, on a real video, and keep what it makes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from sysconfig import get_path
from tempfile import TemporaryDirectory
from typing import Any

from avlab.core.errors import AvlabError, ConfigError

NOTEBOOK = "01_remote_class.ipynb"
CELL_SECONDS = 600


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("demo", help="run the tutorial's pipeline on a video and keep the results")
    parser.add_argument("file", nargs="?", type=Path, help="a video with sound (default: a test picture is made)")
    parser.add_argument(
        "--out", type=Path, default=Path("avlab-demo"), help="folder for the results (default: avlab-demo)"
    )
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> None:
    """Run, print the tables that the notebook shows and where the results lie."""
    for text in demo(options.out, options.file):
        print(text)
    print(f"\nresults in {options.out}: result.mp4, before_after.png, {NOTEBOOK}")


def demo(out: Path, file: Path | None = None) -> list[str]:
    """Execute the tutorial into the folder ``out``; returns the text of its cells tagged ``table``.

    Raises ConfigError for a file that is not there or a missing notebook extra, AvlabError for a cell that fails.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from traitlets.config import Config
    except ImportError as error:
        raise ConfigError(
            f"the demo runs a notebook and {error.name} is missing: pip install 'avlab[notebook]'"
        ) from error
    if file is not None and not file.is_file():
        raise ConfigError(f"there is no video {file}")
    source = _notebook()
    out.mkdir(parents=True, exist_ok=True)
    book = nbformat.read(source, as_version=4)
    places = {"AVLAB_OUT": str(out.resolve())} | ({"AVLAB_VIDEO": str(file.resolve())} if file else {})
    with TemporaryDirectory(prefix="avlab-") as sockets:
        client = NotebookClient(
            book,
            timeout=CELL_SECONDS,
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),  # no port is opened
            resources={"metadata": {"path": str(source.parent)}},
            on_cell_start=lambda cell, cell_index: _progress(cell_index + 1, len(book.cells)),
        )
        try:
            client.execute(env=os.environ | places)
        except CellExecutionError as error:
            raise AvlabError(f"a cell of {out / source.name} fails: {error.ename}: {error.evalue}") from error
        finally:
            _progress(0, 0)
            nbformat.write(book, out / source.name)
    return list(_tables(book))


def _notebook() -> Path:
    """The tutorial: in notebooks/ of a source tree, or in the environment's share/ where the wheel puts it."""
    for folder in (Path(__file__).parents[2] / "notebooks", Path(get_path("data")) / "share/avlab/notebooks"):
        if (folder / NOTEBOOK).is_file():
            return folder / NOTEBOOK
    raise ConfigError(f"the tutorial {NOTEBOOK} is not part of this installation")


def _tables(book: Any) -> Iterator[str]:
    for cell in book.cells:
        if "table" in cell.metadata.get("tags", ()):
            for output in cell.outputs:
                yield (output.get("text") or output.get("data", {}).get("text/plain", "")).rstrip()


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rcell {done} of {total}" if total else "\r\x1b[K")
        sys.stderr.flush()
