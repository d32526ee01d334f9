"""The benchmark runs, prints its table and leaves nothing behind. What it measures is not tested."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "bench" / "run.py"
PAYLOADS = ("3.8 kB", "720p RGB", "1080p RGB")


def test_a_run_prints_one_table_and_writes_the_same_as_json(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    tiny = ["--quick", "--rounds", "1", "--seconds", "0.01", "--json", str(report)]
    command = [sys.executable, str(RUN), *tiny, "--only", "avlab-local", "shared-memory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    head, rule, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert head.split() == ["measure", "contender", "measured", "ratio", "to", "target", "verdict"]
    assert set(rule) == {"─"}
    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == len(lines)
    measures = [f"{kind}, {payload}" for payload in PAYLOADS for kind in ("round trip", "pipelined")]
    assert [row["measure"] for row in rows if row["contender"] == "shared-memory"] == measures
    assert all(row["measured"].split()[1] in ("ms", "/s") for row in rows)
    verdicts = {row["verdict"] for row in rows if row["to"] == "shared-memory"}
    assert verdicts and verdicts <= {"met", "not met"}
    assert {row["verdict"] for row in rows if row["to"] == "ray"} == {"no ray"}
