"""What a bundle refuses to carry, and how it names it."""

import asyncio
import functools
import io
import linecache
import mmap
import os
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import av
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import BundleError, SecretRefused
from avlab.remote.arguments import dataclasses_of
from avlab.remote.bundle import Construct, pack, pack_source
from avlab.remote.captures import shape_of, suspect

# Assembled, so that this file itself can travel.
SHAPED = {
    "aws": "AKIA" + "ABCDEFGHIJKLMNOP",
    "github": "ghp" + "_abcdefghijklmnopqrstuvwxyz0123456789",
    "fine-grained": "github" + "_pat_11ABCDEFG0123456789_abcdefghij",
    "slack": "xox" + "b-123456789012-abcdefghij",
    "pem": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N",
    "sk": "sk-" + "proj-abcdefghijklmnop1234",
    "url": "postgres" + "://ada:lovelace@db.example/x",
}


def cell(text, filename="/cells/1.py", **names):
    """Run text as a notebook cell; returns its namespace."""
    space = {"__name__": "__main__", **names}
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), space)
    return space


USES = "class Edges:\n  def process(self, frame):\n    return {}\n"


@pytest.mark.parametrize("value", SHAPED.values(), ids=SHAPED)
def test_credentials_are_refused_by_their_shape_and_never_shown(value, tmp_path):
    edges = cell(USES.format("K"), K=value)["Edges"]
    with pytest.raises(SecretRefused, match=r"global `K` used by Edges\.process") as refused:
        pack(edges, base=tmp_path)
    assert value not in str(refused.value) and "argument" in str(refused.value)
    with pytest.raises(SecretRefused):
        pack(cell(USES.format("K"), K=value.encode())["Edges"], base=tmp_path)
    with pytest.raises(SecretRefused, match=r"a constant in Edges\.process"):
        pack(cell(USES.format(repr(value)), "/cells/unsaved")["Edges"], base=tmp_path)
    assert pack(edges, base=tmp_path, allow_secrets=("K",)).blobs


@pytest.mark.parametrize(
    "name", ["API_KEY", "hf_token", "accessToken", "Password", "db_passwd", "client_secret", "aws_secret_access_key"]
)
def test_credentials_are_refused_by_their_name(name, tmp_path):
    with pytest.raises(SecretRefused, match=f"global `{name}` used by Edges.process"):
        pack(cell(USES.format(name), **{name: "hunter2"})["Edges"], base=tmp_path)
    assert pack(cell(USES.format(name), **{name: ""})["Edges"], base=tmp_path).blobs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", "bert"),
        ("max_tokens", 100),
        ("token_pattern", r"\w+"),
        ("pad_token", "<pad>"),
        ("password_file", "x"),
        ("keys", "abc"),
    ],
)
def test_harmless_names_pass(name, value, tmp_path):
    assert pack(cell(USES.format(name), **{name: value})["Edges"], base=tmp_path).blobs


@pytest.mark.parametrize(
    "text",
    [
        "task-list-of-many-things-to-do",
        "https://example.org/a@b",
        "rtsp://{user}:{password}@host",
        "://%s:%s@",
        "sk-learn",
    ],
)
def test_harmless_texts_have_no_shape(text):
    assert not shape_of(text)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_looking_for_secrets_takes_any_input(data, text):
    assert isinstance(shape_of(data) + shape_of(text), str) and isinstance(suspect(text, text), bool)


def test_secrets_are_found_wherever_they_hide(tmp_path):
    space = cell(
        "class Edges:\n"
        "  limit = 1\n"
        "  def __init__(self, **values): self.__dict__.update(values)\n"
        "  def process(self, x, token=None): return CONFIG\n"
        "def outer(password):\n"
        "  def inner(): return password\n"
        "  return inner\n"
        "def default(a, b, *, api_key='hunter2'): return a\n",
        CONFIG={},
    )
    edges = space["Edges"]
    refused = {
        "attribute `.secret` of Edges instance": edges(secret="hunter2"),
        "attribute `.db['password']` of Edges instance": edges(db={"password": "hunter2"}),
        "attribute `.all[1][0].token` of Edges instance": edges(all=[1, (edges(token="hunter2"),)]),
        "argument `api_key` of Edges()": Construct(edges, (), {"api_key": "hunter2"}),
        "variable `password` closed over by outer.<locals>.inner": space["outer"]("hunter2"),
        "default `api_key` of default": space["default"],
    }
    for label, value in refused.items():
        with pytest.raises(SecretRefused) as error:
            pack(value, base=tmp_path)
        assert str(error.value).startswith(label)
        assert "hunter2" not in str(error.value)
    space["CONFIG"]["db"] = {"password": "hunter2"}
    with pytest.raises(SecretRefused, match=r"global `CONFIG\['db'\]\['password'\]` used by Edges.process"):
        pack(edges, base=tmp_path)
    edges.token = "hunter2"
    with pytest.raises(SecretRefused, match=r"attribute `\.token` of class Edges"):
        pack(edges, base=tmp_path)


def test_partial_arguments_are_looked_into(tmp_path):
    function = functools.partial(cell("def f(**k): pass\n")["f"], token="hunter2")
    with pytest.raises(SecretRefused):
        pack(function, base=tmp_path)


def test_text_that_travels_is_searched_by_line(tmp_path):
    secret = SHAPED["aws"]
    text = f"x = 1\nKEY = {secret!r}\nclass Edges:\n  pass\n"
    edges = cell(text)["Edges"]
    with pytest.raises(SecretRefused, match=r"`KEY` at /cells/1.py, line 2") as refused:
        pack(edges, sources={"/cells/1.py": text}, base=tmp_path)
    assert secret not in str(refused.value)
    assert pack(edges, sources={"/cells/1.py": text}, base=tmp_path, allow_secrets=("KEY",)).blobs
    assert pack(edges, sources={"/cells/1.py": text}, base=tmp_path, allow_secrets=("1.py:2",)).blobs
    with pytest.raises(SecretRefused, match="`password` at"):
        pack_source("password = 'hunter2'\nclass A: pass", "/cells/2.py", "A", base=tmp_path)
    (tmp_path / "uses_key.py").write_text(f"\n\nconnect({secret!r})\n")
    with pytest.raises(SecretRefused, match=r"uses_key.py, line 3"):
        pack_source("import uses_key\nclass A: pass", "/cells/3.py", "A", base=tmp_path)


def test_lines_of_other_cells_that_do_not_travel_may_hold_anything(tmp_path):
    space = cell(f"KEY = {SHAPED['aws']!r}\ndef helper():\n  return 1\n", "/cells/helper.py")
    packed = pack(cell(USES.format("helper()"), helper=space["helper"])["Edges"], base=tmp_path)
    text = packed.blobs[next(s.blob for s in packed.manifest.sources if s.filename == "/cells/helper.py")]
    assert text == b"\ndef helper():\n  return 1\n"


def generator():
    yield 1


async def coroutine():
    pass


async def async_generator():
    yield 1


@pytest.fixture
def handles():
    """A live handle of every kind; closed again."""
    loop = asyncio.new_event_loop()
    running = coroutine()
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(b"content")
    file.flush()
    pool = ThreadPoolExecutor(1)
    values = {
        "socket": socket.socket(),
        "file": file,
        "text file": open(os.devnull),  # noqa: SIM115
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "event": threading.Event(),
        "condition": threading.Condition(),
        "thread": threading.Thread(),
        "local": threading.local(),
        "queue": queue.Queue(),
        "simple queue": queue.SimpleQueue(),
        "generator": generator(),
        "async generator": async_generator(),
        "coroutine": running,
        "loop": loop,
        "asyncio future": loop.create_future(),
        "future": Future(),
        "pool": pool,
        "process": subprocess.Popen([sys.executable, "-c", ""]),
        "map": (memory := mmap.mmap(-1, 4096)),
        "view": (view := memoryview(memory)),
        "database": sqlite3.connect(":memory:"),
        "environment": os.environ,
        "weak reference": weakref.ref(running),
        "weak dictionary": weakref.WeakKeyDictionary(),  # in every functools.singledispatch
        "frame": sys._getframe(),
        "media": (media := av.open(io.BytesIO(), "w", format="mp4")),
    }
    yield values
    values["process"].wait()
    media.close()
    view.release()
    running.close()
    pool.shutdown()
    for name in ("socket", "file", "text file", "map", "database", "loop"):
        values[name].close()


def test_live_handles_are_refused_by_name(handles, tmp_path):
    edges = cell(USES.format("HANDLE"))["Edges"]
    for handle in handles.values():
        edges.process.__globals__["HANDLE"] = [handle]
        with pytest.raises(
            BundleError, match=r"global `HANDLE\[0\]` used by Edges\.process is an? \w+|the environment"
        ):
            pack(edges, base=tmp_path)
    del edges.process.__globals__["HANDLE"]
    one = edges()
    one.sock = handles["socket"]
    with pytest.raises(BundleError, match=r"attribute `\.sock` of Edges instance is a socket"):
        pack(one, base=tmp_path)


def test_a_closure_may_name_what_has_no_value(tmp_path):
    def outer():
        if tmp_path is None:
            unbound = 1
        return lambda: unbound

    assert dataclasses_of(outer()) == {}
    assert pack(outer(), base=tmp_path).blobs


def test_what_a_class_leaves_out_of_its_state_does_not_matter(tmp_path):
    space = cell(
        "import threading, io, logging\n"
        "class Careful:\n"
        "  def __init__(self): self.lock, self.value, self.buffer = threading.Lock(), 1, io.BytesIO(b'x')\n"
        "  def __getstate__(self): return {'value': 1, 'buffer': self.buffer}\n"
    )
    assert pack(space["Careful"](), base=tmp_path).blobs


def test_large_captures_are_refused_by_name_and_size(tmp_path):
    for value in (
        bytes(2000),
        numpy.zeros(250),
        [bytes(100)] * 1 + [bytes(n) for n in range(100)],
        numpy.zeros((50, 50))[::2, ::2],
    ):
        with pytest.raises(
            BundleError, match=r"global `TABLE` used by Edges\.process holds \d+ bytes.*1000 \(max_capture\)"
        ):
            pack(cell(USES.format("TABLE"), TABLE=value)["Edges"], base=tmp_path, max_capture=1000)
    packed = pack(cell(USES.format("TABLE"), TABLE=numpy.zeros(250))["Edges"], base=tmp_path)
    assert packed.captured["global `TABLE` used by Edges.process"] >= 2000


def test_what_cannot_be_pickled_is_named(tmp_path):
    class Broken:
        def __reduce__(self):
            raise RuntimeError("not today")

    edges = cell(USES.format("THINGS"), THINGS={"a": [io.BytesIO(), Broken()]})["Edges"]
    with pytest.raises(
        BundleError,
        match=r"global `THINGS\['a'\]\[1\]` used by Edges.process cannot be packed: RuntimeError: not today",
    ):
        pack(edges, base=tmp_path)
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BundleError, match="THINGS"):
        pack(cell(USES.format("THINGS"), THINGS=nested)["Edges"], base=tmp_path)
