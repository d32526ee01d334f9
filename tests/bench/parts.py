"""Single measurements, each in a fresh process: ``parts.py NAME`` prints one line of JSON, name → figure."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns as monotonic  # avlab's own clock would import avlab

CELL_RUNS = 15
FRAMES, JOB_ROUNDS = 60, 3
HOP_ITEMS, HOP_ROUNDS = 5000, 5

CELL = """%%remote
import numpy as np


class Negative:
    def process(self, picture: np.ndarray) -> np.ndarray:
        return 255 - picture
"""
USE = "Negative().process(np.zeros(16, np.uint8))"


def seconds(function: Callable[[], object]) -> float:
    began = monotonic()
    function()
    return (monotonic() - began) / 1e9


def light() -> dict[str, float]:
    """Milliseconds of ``import avlab`` in a bare interpreter."""
    code = "from time import monotonic_ns as now; began = now(); import avlab; print(now() - began)"
    return {"import avlab": int(subprocess.check_output([sys.executable, "-c", code])) / 1e6}


def cold() -> dict[str, float]:
    """Milliseconds from connect to the first result, nothing running before; avlab and numpy are imported here."""
    import numpy as np
    from echo import Opener

    import avlab

    began = monotonic()
    with avlab.connect("local:") as executor, executor.open(Opener()) as session:
        session.call("process", np.zeros(1))
        return {"first result, cold": (monotonic() - began) / 1e6}


def hop() -> dict[str, float]:
    """Microseconds per item that each further fused node adds."""
    import hop

    hop.ITEMS, hop.ROUNDS = HOP_ITEMS, HOP_ROUNDS
    one, all_ = hop.seconds([hop.Trivial()]), hop.seconds([hop.Trivial() for _ in range(hop.CHAIN)])
    return {"pipeline hop": (all_ - one) / (hop.CHAIN - 1) / hop.ITEMS * 1e6}


def cell() -> dict[str, float]:
    """Milliseconds of an unchanged cell run again after its object was used, and of the next object's first result."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
        again, use = [], []
        for code in ("%load_ext avlab", CELL, f"negative = {USE[:10]}; negative{USE[10:]}"):
            shell.run_cell(code).raise_error()
        for _ in range(CELL_RUNS):
            again.append(seconds(lambda: shell.run_cell(CELL).raise_error()))
            use.append(seconds(lambda: shell.run_cell(USE).raise_error()))
        shell.run_cell("%avlab stop").raise_error()
    return {"cell again": statistics.median(again) * 1e3, "its first result": statistics.median(use) * 1e3}


def worker() -> dict[str, float]:
    """MB of memory that no other process shares, of the larger of two workers: one waits, one has an idle session."""
    import numpy as np
    from echo import Echo
    from processes import descendants

    import avlab

    with avlab.connect("local:") as executor, executor.open(Echo()) as session:
        session.call("process", np.zeros(1))
        processes = descendants(os.getpid())
        return {"idle worker": max(own_memory(pid) for pid in processes if not descendants(pid)) / 1e6}


def own_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) for name, size, *_ in map(str.split, lines)}
    return (sizes["Private_Clean:"] + sizes["Private_Dirty:"]) * 1024


def job() -> dict[str, float]:
    """Frames per second of file → filter → file, 720p H.264, with the filter here and in a sandbox."""
    from fractions import Fraction

    import avlab
    from avlab.nodes.video import VideoFilter

    with tempfile.TemporaryDirectory() as folder:
        source, sink = os.path.join(folder, "in.mp4"), os.path.join(folder, "out.mp4")
        clip = avlab.TestSource(size=(1280, 720), rate=30, audio=False, duration=Fraction(FRAMES, 30))
        (clip >> avlab.FileSink(source, preset="ultrafast")).run(progress=False)
        places = {"local": lambda node: node, "avlab-local": lambda node: node.on("local:")}
        figures: dict[str, list[float]] = {name: [] for name in places}
        for _ in range(JOB_ROUNDS):
            for name, place in places.items():
                node = place(VideoFilter("hflip,unsharp"))
                job = avlab.FileSource(source) >> node >> avlab.FileSink(sink, preset="ultrafast")
                figures[name].append(FRAMES / seconds(lambda job=job: job.run(progress=False)))
    return {name: statistics.median(values) for name, values in figures.items()}


PARTS = {"import": light, "cold": cold, "hop": hop, "cell": cell, "worker": worker, "job": job}

if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed on the way is not an answer
    print(json.dumps({"value": PARTS[sys.argv[1]]()}), file=answers, flush=True)
