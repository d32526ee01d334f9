"""What an environment costs: its installation from a folder of wheels, and opening sessions in it, beside the executor's own.

python tests/bench/environments.py [COUNT]      (after: make .venv/wheels/.filled, as make test does)
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "executor"))
from wheelhouse import FOLDER, another_python

import avlab
from avlab.remote.bundle import pack_source

CELL = "import sys, numpy\nclass A:\n    def minor(self):\n        return sys.version_info[1]\n"


def main(count: int) -> None:
    other = another_python()
    os.environ |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(FOLDER)}
    rows = [
        ("the executor's own", {}),
        ("six", {"pip": ["six==1.16.0"]}),
        ("another numpy", {"pip": ["numpy==2.2.6"]}),
    ]
    if other is not None:
        os.environ["PATH"] = f"{other.parent}{os.pathsep}{os.environ['PATH']}"
        rows.append((f"Python {other.name.removeprefix('python')}", {"python": other.name.removeprefix("python")}))
    packed = pack_source(CELL, "<cell>", "A", arguments=((), {}))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        with avlab.connect() as executor:
            print(f"{'environment':<20} {'first opening':>14} {'later, median':>14}    ({executor.describe().tier})")
            for name, options in rows:
                took = []
                for _ in range(count + 1):
                    begin = time.perf_counter()
                    with executor.open(packed, on_log=lambda log: None, **options) as session:
                        session.call("minor")
                        took.append(time.perf_counter() - begin)
                    time.sleep(0.3)  # the next worker gets ready
                print(f"{name:<20} {took[0]:>12.2f} s {1000 * statistics.median(took[1:]):>11.0f} ms", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
