"""docker/engine.sh: one engine at a time, started when none answers, stopped when nobody uses it any more.

The engine is played by two scripts: what is tried here is when it is started and stopped.
"""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

ROOT_USER = "#!/bin/sh\necho 0\n"
CLIENT = '#!/bin/sh\ntest -e "$STATE/up"\n'
ENGINE = """#!/bin/sh
mkdir "$STATE/running" || { echo "a second engine" >> "$STATE/log"; exit 1; }
trap 'rm "$STATE/up"; rmdir "$STATE/running"; echo stopped >> "$STATE/log"; exit 0' TERM
echo started >> "$STATE/log"
sleep 0.3
touch "$STATE/up"
while :; do sleep 0.05; done
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts the script with a command, and an engine whose state is a folder."""
    programs, state = tmp_path / "programs", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    for name, text in (("id", ROOT_USER), ("docker", CLIENT), ("dockerd", ENGINE)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    own = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STATE": str(state),
        "AVLAB_ENGINE_LOCKS": str(state),
        "TMPDIR": str(state),
    }

    def start(command: str) -> subprocess.Popen:
        words = [str(ROOT / "docker/engine.sh"), "sh", "-c", command]
        return subprocess.Popen(words, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    start.log = lambda: (state / "log").read_text().split("\n")[:-1]
    start.state = state
    return start


def finished(process: subprocess.Popen) -> int:
    process.communicate(timeout=60)
    return process.returncode


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_is_started_and_stopped_around_a_command_whose_code_is_kept(run) -> None:
    assert finished(run("docker version && exit 7")) == 7
    assert run.log() == ["started", "stopped"]


def test_one_that_answers_is_used_and_left(run) -> None:
    (run.state / "up").touch()
    assert finished(run("docker version")) == 0
    assert not (run.state / "log").exists()


def test_all_at_once_share_one(run) -> None:
    users = [run("docker version && sleep 0.5") for _ in range(4)]
    assert [finished(user) for user in users] == [0] * 4
    assert "a second engine" not in run.log()
    assert run.log().count("started") == run.log().count("stopped")


def test_who_has_started_it_waits_for_the_others(run) -> None:
    first = run("until test -e $STATE/joined; do sleep 0.05; done")
    until(lambda: (run.state / "up").exists())
    second = run("touch $STATE/joined; sleep 1.5; docker version")
    assert finished(second) == 0
    assert finished(first) == 0
    assert run.log() == ["started", "stopped"]


def test_an_engine_that_does_not_start_is_an_error_with_its_last_words(run, tmp_path) -> None:
    (tmp_path / "programs/dockerd").write_text("#!/bin/sh\necho no iptables; exit 1\n")
    process = run("true")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "no iptables" in said


def test_others_than_root_start_none(run, tmp_path) -> None:
    (tmp_path / "programs/id").write_text("#!/bin/sh\necho 1000\n")
    process = run("true")
    assert "no Docker engine answers" in process.communicate(timeout=60)[1]
    assert process.returncode == 1
    (run.state / "up").touch()
    assert finished(run("true")) == 0


def test_a_signal_stops_it_too(run) -> None:
    process = run("sleep 1")
    until(lambda: (run.state / "up").exists())
    process.terminate()
    assert finished(process) == 143
    assert run.log() == ["started", "stopped"]
