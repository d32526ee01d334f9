"""The executor service beside the embedded one: the same refusals, unary calls, nodes by name, sessions on their own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import av
import grpc
import numpy as np
import psutil
import pytest
from avlab_executor.connection import Embedded
from avlab_executor.sandbox.tiers import TierReport
from avlab_executor.server import Server, ServerConfig

import avlab
from avlab.core.errors import (
    AvlabError,
    BundleError,
    ConfigError,
    Denied,
    LinkError,
    RemoteError,
    TierUnavailable,
    UnknownNode,
    VersionMismatch,
)
from avlab.core.message import Bundle
from avlab.remote.bundle import Packed, pack, pack_node
from avlab.remote.manifest import cloudpickle_version, python_version

CAPACITY = 3
SOON = 2.0
GRAY = {"format": "gray"}
VERSIONS = {"python": python_version(), "cloudpickle": cloudpickle_version()}


class Far:
    """What the tests run in workers."""

    def twice(self, number: int) -> int:
        return 2 * number

    def fail(self, text: str) -> None:
        raise KeyError(text)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def spin(self) -> None:
        while True:
            pass

    def die(self) -> None:
        os._exit(3)

    def many(self, count: int):
        yield from range(count)


@pytest.fixture(scope="module")
def remote() -> Iterator[avlab.Executor]:
    with (
        Server(ServerConfig(port=0, sessions=CAPACITY, warm=1)) as server,
        avlab.connect(f"grpc://127.0.0.1:{server.port}") as executor,
    ):
        yield executor


@pytest.fixture(scope="module")
def embedded() -> Iterator[avlab.Executor]:
    with avlab.connect("local:") as executor:
        yield executor


@pytest.fixture(params=["local", "grpc"])
def executor(request: pytest.FixtureRequest) -> avlab.Executor:
    return request.getfixturevalue("embedded" if request.param == "local" else "remote")


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """For what nothing announces."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


def busy(session: avlab.Session, method: str, *args: object) -> threading.Thread:
    """Calls a method that does not return by itself, from a thread of its own."""

    def call() -> None:
        with pytest.raises(AvlabError):
            session.call(method, *args)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: session.statistics().inputs == 1)
    return thread


# Places.


def test_what_cannot_be_opened_takes_no_place(remote) -> None:
    for _ in range(CAPACITY + 2):
        with pytest.raises(UnknownNode):
            remote.open("Nothing")
        with pytest.raises(BundleError):
            remote.open(Packed(Bundle(object="0" * 64, **VERSIONS), {}, {}))
    assert remote.execute(Far(), "twice", 1) == 2
    wait_until(lambda: remote.describe().sessions == 0)


def test_a_place_is_free_again_when_its_session_has_been_closed() -> None:
    with (
        Server(ServerConfig(port=0, sessions=1, warm=0)) as server,
        avlab.connect(f"grpc://127.0.0.1:{server.port}") as executor,
    ):
        for number in range(4):
            with executor.open(Far()) as session:
                assert session.call("twice", number) == 2 * number
        with executor.open(Far()), pytest.raises(Denied, match="all 1 sessions"):
            executor.execute(Far(), "twice", 1)


# Refusals.


def test_an_unknown_node_is_named(executor) -> None:
    for use in (lambda: executor.open("Resise"), lambda: executor.execute("Resise", "process", 1)):
        with pytest.raises(UnknownNode, match="Resise"):
            use()


@pytest.mark.parametrize("parameters", [{"format": "grai"}, {"colour": "gray"}, {}])
def test_wrong_parameters_of_a_node_are_named(executor, parameters) -> None:
    with pytest.raises(ConfigError, match=next(iter({**parameters, "format": ""}))):
        executor.open("VideoConvert", parameters)


@pytest.mark.parametrize(
    ("field", "value"), [("python", "3.3"), ("cloudpickle", "0.1.0"), ("python", ""), ("wire", 99)]
)
def test_another_version_is_named_before_anything_is_loaded(executor, field, value) -> None:
    packed = pack(Far())
    setattr(packed.manifest, field, value)
    for use in (lambda: executor.open(packed), lambda: executor.execute(packed, "twice", 1)):
        with pytest.raises(VersionMismatch, match=str(value) or "unknown"):
            use()


@pytest.mark.parametrize("blobs", [{}, {"5" * 64: b"something else"}], ids=["missing", "other content"])
def test_a_blob_that_is_not_what_its_name_says_is_refused(executor, blobs) -> None:
    manifest = Bundle(object="5" * 64, **VERSIONS)
    with pytest.raises((BundleError, LinkError), match="555"):
        executor.open(Packed(manifest, blobs, {}))


def test_plain_processes_are_refused(remote) -> None:
    with pytest.raises(TierUnavailable, match="--allow-process"):
        remote.open(Far(), tier="process")


def test_a_tier_that_does_not_exist_is_named(executor) -> None:
    with pytest.raises((TierUnavailable, ConfigError), match="fortress"):
        executor.open(Far(), tier="fortress")


def test_a_tier_that_is_known_to_be_refused_is_not_tried(monkeypatch) -> None:
    """Trying takes seconds, for which everybody else who opens a session would wait."""
    with closing(Embedded(warm=0)) as executor:
        executor.pool()
        monkeypatch.setattr(executor, "_reports", [TierReport("landlock", False, "not today", ())])
        monkeypatch.setattr("avlab_executor.connection.Pool", lambda *_, **__: pytest.fail("it is tried"))
        with pytest.raises(TierUnavailable, match="not today"):
            executor.pool("landlock")
        with pytest.raises(ConfigError, match="fortress"):
            executor.pool("fortress")


# Unary calls.


def test_one_call_of_an_object(executor) -> None:
    assert executor.execute(Far(), "twice", 21) == 42


def test_one_call_that_raises(executor) -> None:
    with pytest.raises(KeyError, match="lost") as caught:
        executor.execute(Far(), "fail", "lost")
    assert isinstance(caught.value, RemoteError)
    assert "raise KeyError(text)" in caught.value.remote_traceback


def test_one_call_of_what_is_not_there(executor) -> None:
    with pytest.raises(RemoteError, match="thrice"):
        executor.execute(Far(), "thrice", 21)


def test_one_call_whose_worker_dies(executor) -> None:
    with pytest.raises(avlab.WorkerDied, match="exit code 3") as caught:
        executor.execute(Far(), "die")
    assert caught.value.reason == "exit"


def test_one_call_with_a_limit(executor) -> None:
    with pytest.raises(avlab.LimitExceeded, match=r"an item took longer than its limit of 0\.2 s") as caught:
        executor.execute(Far(), "sleep", 30, item_timeout=0.2)
    assert caught.value.reason == "wall"


def test_one_call_of_a_registered_node(executor) -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    gray = executor.execute(pack_node("VideoConvert", GRAY), "process", frame)
    assert (gray.width, gray.height, gray.format.name) == (64, 48, "gray")


# Registered nodes.


def picture() -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
    frame.pts = 0
    return frame


def sound() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
    frame.sample_rate, frame.pts = 48000, 0
    return frame


@pytest.mark.parametrize(
    ("name", "parameters", "make", "check"),
    [
        ("Resize", {"width": 32}, picture, lambda out: (out[0].width, out[0].height) == (32, 24)),
        ("VideoConvert", GRAY, picture, lambda out: out[0].format.name == "gray"),
        ("VideoFilter", {"filter": "transpose"}, picture, lambda out: (out[0].width, out[0].height) == (48, 64)),
        ("AudioConvert", {"layout": "mono"}, sound, lambda out: out[0].layout.name == "mono"),
        ("AudioFilter", {"filter": "volume=0.5"}, sound, lambda out: sum(f.samples for f in out) == 960),
        ("Resample", {"rate": 24000}, sound, lambda out: sum(f.samples for f in out) == 480),
        ("FileSink", {"path": "made.wav"}, sound, lambda out: out == []),
    ],
)
def test_built_in_nodes_run_by_name(executor, name, parameters, make, check) -> None:
    with executor.open(name, parameters) as session:
        assert check(list(session.stream([make()])))


def test_every_built_in_node_opens_by_name(remote) -> None:
    parameters = {
        "AudioConvert": {},
        "AudioFilter": {"filter": "anull"},
        "Collect": {},
        "FileSink": {"path": "made.mp4"},
        "FileSource": {"path": "missing.mp4"},
        "Resample": {"rate": 8000},
        "Resize": {"width": 8},
        "TestSource": {"duration": 0.5, "audio": False},
        "VideoConvert": GRAY,
        "VideoFilter": {"filter": "null"},
    }
    assert set(parameters) <= set(remote.describe().nodes)
    for name, given in parameters.items():
        with remote.open(name, given) as session:
            assert session.name == name
            if name == "TestSource":
                assert session.call("total") == 15


# Sessions beside each other.


@pytest.mark.parametrize(("method", "arguments"), [("spin", ()), ("sleep", (60,))])
def test_a_session_is_not_delayed_by_a_busy_or_sleeping_one(executor, method, arguments) -> None:
    with executor.open(Far()) as blocked:
        thread = busy(blocked, method, *arguments)
        with executor.open(Far()) as session:
            assert [session.call("twice", n) for n in range(200)] == [2 * n for n in range(200)]
            assert list(session.iterate("many", 200)) == list(range(200))
        assert executor.execute(Far(), "twice", 1) == 2
        figures = blocked.statistics()
        assert (figures.inputs, figures.outputs) == (1, 0)  # all the time
        blocked.close()
        thread.join(10)


# The command.


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """``avlab executor serve`` on a free port, and its URL."""
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("serving grpc://127.0.0.1:"), process.stderr.read()
        assert line.rstrip().rpartition(", isolation tier ")[2] in ("namespaces", "landlock")
        yield process, line.split()[1].rstrip(",")
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_a_killed_service_leaves_no_worker() -> None:
    with serving("--warm", "1") as (process, url), avlab.connect(url, grace=1) as executor:
        session = executor.open(Far())
        thread = busy(session, "spin")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.kill()
        left = psutil.wait_procs(family, SOON)[1]
        # A dead one stays a zombie until the system's first process, whose child it is now, gets to it.
        assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        thread.join(10)
        with pytest.raises(AvlabError):
            session.call("twice", 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--token-file", "/nonexistent/token"], "/nonexistent/token"),
        (["--port", "70000"], "65535"),
        (["--sessions", "0"], "sessions=0"),
        (["--min-tier", "fortress"], "fortress"),
    ],
)
def test_the_command_refuses_with_one_clear_message(options, text) -> None:
    command = [sys.executable, "-m", "avlab", "executor", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_command_takes_a_token_from_a_file_and_shows_it_nowhere(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text("swordfish-and-more\n")
    with serving("--warm", "0", "--sessions", "1", "--token-file", str(file)) as (process, url):
        with pytest.raises(Denied):
            avlab.connect(url)
        command = [sys.executable, "-m", "avlab", "executor", "status", url]
        environment = {**os.environ, "AVLAB_TOKEN": "swordfish-and-more"}
        status = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
        assert status.returncode == 0
        assert "sessions 0 of 1" in status.stdout
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "swordfish" not in out + err + status.stdout + status.stderr


def test_a_stream_that_never_opens_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avlab_executor.server.OPEN_SECONDS", 0.2)
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait()
        yield from ()

    with Server(ServerConfig(port=0, sessions=1, warm=1)) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.stream_stream("/avlab.v1.Executor/StreamObject")(silence(), timeout=20)
            with pytest.raises(grpc.RpcError) as ended:
                next(call)
            assert ended.value.code() is grpc.StatusCode.CANCELLED
            never.set()
        with avlab.connect(f"grpc://127.0.0.1:{server.port}") as executor, executor.open(Far()) as session:
            assert session.call("twice", 2) == 4
