"""The gRPC service: who may use it, what it says when something is wrong, and what it frees."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import grpc
import psutil
import pytest
import remote_objects as far
from avlab_executor.blobs import BlobStore
from avlab_executor.server import Server, ServerConfig
from remote_objects import Callee
from serving import served, until

import avlab
from avlab import _pb as pb
from avlab.core.errors import VersionMismatch
from avlab.core.message import (
    Blob,
    Bundle,
    BundleKind,
    Credit,
    Failure,
    ItemMessage,
    Mode,
    Open,
    Receipt,
    Signal,
    SignalKind,
    Slot,
)
from avlab.core.wire import decode_batch, decode_names, encode, encode_batch, encode_names
from avlab.remote import bundle
from avlab.remote.links.grpc import OPTIONS, SERVICE

METHODS = [(method.name, method.client_streaming, method.server_streaming) for method in pb.SERVICE.methods]
HEALTH = "/grpc.health.v1.Health/Check"


def call(channel: grpc.Channel, name: str, request: bytes, token: str | None = None, timeout: float = 20) -> bytes:
    """One request of any RPC of the service; all of its answer."""
    (client, server) = next((c, s) for n, c, s in METHODS if n == name)
    kind = f"{'stream' if client else 'unary'}_{'stream' if server else 'unary'}"
    method = getattr(channel, kind)(f"/{SERVICE}/{name}")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    answer = method(iter([request]) if client else request, metadata=metadata, timeout=timeout)
    return b"".join(answer) if server else answer


@pytest.fixture(scope="module")
def server():
    with Server(ServerConfig(port=0, sessions=4)) as made:
        yield made


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", OPTIONS) as made:
        yield made


@pytest.fixture(scope="module")
def executor(server):
    with avlab.connect(f"grpc://127.0.0.1:{server.port}") as made:
        yield made


# Who may use it.


@pytest.fixture(scope="module")
def guarded():
    with Server(ServerConfig(port=0, token="s3cret", warm=1)) as made:
        yield made


@pytest.mark.parametrize("name", [name for name, _, _ in METHODS])
@pytest.mark.parametrize("token", [None, "", "S3cret", "s3cre", "s3crett", "Bearer s3cret"])
def test_every_rpc_wants_the_token(guarded, name, token) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, name, b"", token)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "s3cret" not in caught.value.details()


def test_health_needs_no_token_and_nothing_else_is_served(guarded) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        assert channel.unary_unary(HEALTH)(b"", timeout=10) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/Anything")(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_right_token_opens_the_door(guarded) -> None:
    url = f"grpc://127.0.0.1:{guarded.port}"
    with avlab.connect(url, auth="s3cret") as executor, executor.open(Callee()) as session:
        assert session.call("add", 1) == 2
    for auth in (None, "wrong"):
        with pytest.raises(avlab.Denied, match="token"):
            avlab.connect(url, auth=auth)
    assert "s3cret" not in repr(avlab.RemoteExecutorConfig.from_url(url, auth="s3cret"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
@pytest.mark.parametrize("protection", [{}, {"token": "t"}, {"certificate": b"c", "key": b"k"}])
def test_an_address_that_others_reach_needs_tls_and_a_token(host, protection) -> None:
    with pytest.raises(avlab.ConfigError, match="TLS"):
        ServerConfig(host=host, **protection)


def test_the_command_refuses_such_an_address() -> None:
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--host", "0.0.0.0", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "token" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_tls_and_token_end_to_end(certificate, tmp_path) -> None:
    cert, key = certificate
    token = tmp_path / "token"
    token.write_text("over-tls\n")
    options = ("--host", "0.0.0.0", "--tls-cert", str(cert), "--tls-key", str(key), "--token-file", str(token))
    with served(*options) as (url, _):
        assert url.startswith("grpcs://")
        address = url.replace("0.0.0.0", "localhost")
        with avlab.connect(address, auth="over-tls", tls=str(cert)) as executor, executor.open(far.Double()) as session:
            assert list(session.stream(iter(range(50)))) == [2 * n for n in range(50)]
        with pytest.raises(avlab.Denied):
            avlab.connect(address, auth="wrong", tls=str(cert))
        with pytest.raises(avlab.ConnectError):  # nobody vouches for this certificate
            avlab.connect(address, auth="over-tls", timeout=2)
        with pytest.raises(avlab.ConnectError):  # plain text
            avlab.connect(address.replace("grpcs", "grpc"), timeout=2)
    with pytest.raises(avlab.ConfigError, match="cannot be read"):
        avlab.connect(address, tls=str(tmp_path / "missing.pem"))


def test_a_token_is_not_sent_in_the_clear() -> None:
    with pytest.raises(avlab.ConfigError, match="without TLS"):
        avlab.connect("grpc://192.0.2.1:7411", auth="secret")


# What is wrong is said.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "grpc",
        "grpc://",
        "grpc://host:port",
        "grpc://host:99999",
        "http://host:1",
        "grpc://user@host:1",
        "grpc://h:1/path",
        "local://x",
        "docker://host",
    ],
)
def test_urls_that_are_none(url) -> None:
    with pytest.raises(avlab.ConfigError, match=r"URL|port|needs"):
        avlab.connect(url)


def test_nothing_listens() -> None:
    began = time.monotonic()
    with pytest.raises(avlab.ConnectError, match=r"grpc://127\.0\.0\.1:9 .*avlab executor serve"):
        avlab.connect("grpc://127.0.0.1:9", timeout=1)
    assert time.monotonic() - began < 5


def test_a_port_in_use(server) -> None:
    with pytest.raises(avlab.ConfigError, match="port in use"):
        Server(ServerConfig(port=server.port, warm=0))


def first(channel: grpc.Channel, name: str, *messages: object) -> list:
    return answers_to(channel, name, encode_batch(messages))


def answers_to(channel: grpc.Channel, name: str, request: bytes) -> list:
    """Without the receipt that may come to who has closed its half."""
    return [each for each in decode_batch(call(channel, name, request)) if not isinstance(each, Receipt)]


@pytest.mark.parametrize(
    ("change", "text"),
    [({"python": "2.7"}, "Python"), ({"cloudpickle": "0.1"}, "cloudpickle"), ({"wire": 99}, "wire")],
)
def test_versions_are_compared_before_anything_is_loaded(channel, executor, change, text) -> None:
    packed = bundle.pack(Callee())
    for name, value in change.items():
        setattr(packed.manifest, name, value)
    with pytest.raises(VersionMismatch, match=text):
        executor.open(packed)


def test_a_blob_that_nobody_sent(channel) -> None:
    (answer,) = first(channel, "StreamObject", Open(Bundle(object="ab" * 32)))
    assert isinstance(answer, Failure)
    assert answer.kind == "BundleError"
    assert "send it first" in answer.message


def test_a_node_that_is_not_registered(executor) -> None:
    with pytest.raises(avlab.UnknownNode, match="did you mean Resize"):
        executor.open("Resise")


@pytest.mark.parametrize("form", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_not_unpacked(server, form) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", compression=form) as channel:
        with pytest.raises(grpc.RpcError, match="is disabled") as caught:
            call(channel, "ExecuteNode", bytes(1 << 20))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["StreamObject", "StreamNode", "ExecuteObject", "ExecuteNode"])
@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\xff\xff",
        encode_batch([Credit(1, 1)]),
        encode_batch([Blob("x")]),
        encode_batch([Open(Bundle(BundleKind.NODE, "Resize"), {"memory": 1}), Credit()]),
        encode_batch([Open(Bundle(), tier="process"), ItemMessage(1)]),
    ],
    ids=lambda data: data[:4].hex(),
)
def test_requests_that_are_none(channel, server, name, request_) -> None:
    try:
        (answer,) = answers_to(channel, name, request_)
        assert isinstance(answer, Failure)
        assert answer.kind or answer.reason
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert until(lambda: server._service._embedded.describe().sessions == 0)


def test_messages_that_are_not_a_callers_end_the_session(channel, server) -> None:
    for message in (Blob("x"), ItemMessage(1, slot=Slot(0, 4096, 0)), Open(Bundle())):
        answers = first(channel, "StreamNode", Open(Bundle(BundleKind.NODE, "Resize", b'{"width": 8}')), message)
        assert isinstance(answers[-1], Failure)
        assert "malformed" in answers[-1].message
    assert until(lambda: server._service._embedded.describe().sessions == 0)


@pytest.mark.parametrize(
    "inputs",
    [
        [ItemMessage(2, codec="json", meta=b"1")],
        [ItemMessage(0, codec="json", meta=b"1")],
        [Signal(SignalKind.SET, [], b"5")],
        [Signal(SignalKind.SET, [], b"[" * 100_000)],
        [ItemMessage(1, codec="json", meta=b"1", acked=9)],
        [ItemMessage(n, codec="json", meta=b"1") for n in range(1, 80)],
    ],
    ids=["gap", "no number", "parameters that are none", "deep parameters", "acknowledged too early", "without credit"],
)
def test_a_caller_that_breaks_the_protocol_is_told_so(executor, channel, server, inputs) -> None:
    packed = bundle.pack(far.Sleeper())
    call(channel, "PutBlobs", encode_batch(Blob(name, data, 0, len(data)) for name, data in packed.blobs.items()))
    method = channel.stream_stream(f"/{SERVICE}/StreamObject")
    go_on = threading.Event()

    def requests():
        yield encode_batch([Open(packed.manifest, session="x"), *inputs])
        go_on.wait(20)

    answers = [message for data in method(requests(), timeout=20) for message in decode_batch(data)]
    go_on.set()
    failure = next(message for message in answers if isinstance(message, Failure))
    assert failure.kind == "LinkError"
    assert until(lambda: server._service._embedded.describe().sessions == 0)


def test_one_call_with_a_place_in_memory_or_without_a_number_is_refused(channel, server) -> None:
    opening = Open(Bundle(BundleKind.NODE, "Resize", b'{"width": 8}'))
    placed = b"".join(encode(ItemMessage(1, codec="bytes", buffers=[bytes(9)], slot=Slot(0, 8192, 9, (9,))), inline=False))
    with pytest.raises(grpc.RpcError, match="one item with its payload"):
        call(channel, "ExecuteNode", encode_batch([opening]) + placed)
    answer = call(channel, "ExecuteNode", encode_batch([opening, ItemMessage(0, codec="json", meta=b"1")]))
    failure = list(decode_batch(answer))[-1]
    assert isinstance(failure, Failure) and "without a number" in failure.message
    long = call(channel, "ExecuteNode", encode_batch([replace(opening, tier="a" * 900_000), ItemMessage(1)]))
    assert "is no isolation tier" in next(decode_batch(long)).message and len(long) < 1000
    assert until(lambda: server._service._embedded.describe().sessions == 0)


def test_texts_of_internal_errors_stay_inside(channel, server, monkeypatch, caplog) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("/etc/the-secret-path")

    monkeypatch.setattr(server._service.accounts[0].blobs, "held", broken)
    monkeypatch.setattr(server._service._embedded, "open", broken)
    opening = encode_batch([Open(Bundle(BundleKind.NODE, "Resize")), ItemMessage(1)])
    for name, request in (("HasBlobs", encode_names(["a"])), ("StreamNode", opening), ("ExecuteNode", opening)):
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, name, request)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)
    assert caplog.text.count("the-secret-path") >= 3  # in the server's own log
    monkeypatch.undo()
    assert server._service._free._value == 4  # the places of the failed openings are free again


def test_capacity(executor, server) -> None:
    sessions = [executor.open(Callee()) for _ in range(4)]
    with pytest.raises(avlab.Denied, match="all 4 sessions"):
        executor.open(Callee())
    with pytest.raises(avlab.Denied, match="all 4 sessions"):
        executor.execute(Callee(), "add", 1)
    about = executor.describe()
    assert (about.sessions, about.capacity) == (4, 4)
    sessions[0].close()
    assert until(lambda: executor.describe().sessions == 3)
    with executor.open(Callee()) as session:
        assert session.call("add", 1) == 2
    for session in sessions:
        session.close()


def test_describe_says_what_it_is(executor, server) -> None:
    about = executor.describe()
    assert about.tier == server.tier
    assert {layer.name: layer.available for layer in about.tiers}[about.tier]
    assert about.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert about.max_item == 64 << 20
    assert "Resize" in about.nodes
    assert about.version
    assert about.wire == 1


# Blobs.


class Counting:
    """Counts the bytes of a channel's requests by RPC."""

    def __init__(self, channel) -> None:
        self.channel, self.bytes = channel, Counter()

    def __getattr__(self, kind: str):
        def wrap(path: str):
            method, name = getattr(self.channel, kind)(path), path.rpartition("/")[2]
            counted = self._counted(name, method)
            if hasattr(method, "future"):
                counted.future = self._counted(name, method.future)
            return counted

        return wrap if "_" in kind else getattr(self.channel, kind)

    def _counted(self, name, method):
        def counted(request, **options):
            if isinstance(request, bytes):
                self.bytes[name] += len(request)
                return method(request, **options)
            return method(self._count(name, request), **options)

        return counted

    def _count(self, name, requests):
        for request in requests:
            self.bytes[name] += len(request)
            yield request


def test_blobs_travel_once(server) -> None:
    with avlab.connect(f"grpc://127.0.0.1:{server.port}") as executor:
        connection = executor._connection
        connection._channel = counting = Counting(connection._channel)
        target = far.FailsAt(os.urandom(2_000_000).hex())
        for _ in range(3):
            with executor.open(target) as session:
                assert list(session.stream([1])) == [1]
    assert 4_000_000 < counting.bytes["PutBlobs"] < 4_500_000


def test_an_edited_module_is_fresh(executor, tmp_path, monkeypatch) -> None:
    import importlib

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "edited_module_of_this_test.py"
    for answer in (1, 2, 3):
        file.write_text(f"class Thing:\n    def answer(self):\n        return {answer}\n")
        importlib.invalidate_caches()
        sys.modules.pop(file.stem, None)
        module = importlib.import_module(file.stem)
        with executor.open(module.Thing()) as session:
            assert session.call("answer") == answer
    sys.modules.pop(file.stem, None)


def test_the_store_of_blobs_is_bounded_and_believes_nobody() -> None:
    import hashlib

    def parts(data: bytes, size: int = 1000, **change: object) -> list[Blob]:
        name = hashlib.sha256(data).hexdigest()
        return [
            Blob(**{"name": name, "data": data[at : at + size], "offset": at, "size": len(data)} | change)
            for at in range(0, max(1, len(data)), size)
        ]

    store = BlobStore(capacity=10_000)
    names = [store.put(parts(bytes([n]) * 4000))[0] for n in range(5)]
    assert store.held(names) == names[-2:]
    assert store.get(names[-1:]) == {names[-1]: b"\x04" * 4000}
    with pytest.raises(avlab.BundleError, match="send it first"):
        store.get(names[:1])
    for wrong in (
        parts(b"x", name="ab" * 32),
        parts(b"abc" * 1000)[1:],
        parts(b"abc" * 1000)[::-1],
        parts(b"x", size=1)[:1] and [Blob("n", b"too long", 0, 1)],
        [Blob("n", b"", 0, 1 << 40)],
    ):
        with pytest.raises(avlab.BundleError):
            store.put(wrong)
    assert store.put(parts(b"")) == [hashlib.sha256(b"").hexdigest()]
    assert store.put([]) == []


def test_put_blobs_names_what_is_complete(channel) -> None:
    packed = bundle.pack(far.twice)
    request = encode_batch(Blob(name, data, 0, len(data)) for name, data in packed.blobs.items())
    assert set(decode_names(call(channel, "PutBlobs", request))) == set(packed.blobs)


def test_blobs_that_are_refused_are_denied(executor) -> None:
    packed = bundle.pack(lambda: "a blob that nobody has sent yet")
    forged = replace(packed, blobs={name: data + b"." for name, data in packed.blobs.items()})
    with pytest.raises(avlab.Denied, match=r"refuses: blob .*(content|disorder)"):
        executor.open(forged)


def test_localhost_is_reached_by_its_number() -> None:
    with (
        Server(ServerConfig(host="localhost", port=0)) as made,
        avlab.connect(f"grpc://127.0.0.1:{made.port}") as client,
    ):
        assert client.describe().wire


# What it frees.


def children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


CLIENT = """
import sys, threading
sys.path.append(sys.argv[2])
import avlab, remote_objects
executor = avlab.connect(sys.argv[1], grace=0.5)
if sys.argv[3] == "execute":
    print("ready", flush=True)
    executor.execute(remote_objects.Callee(), "spin")
session = executor.open(remote_objects.Callee(), on_log=lambda log: print("ready", flush=True))
session.call("spin_saying")
"""


@pytest.mark.parametrize("how", ["session", "execute"])
def test_a_client_that_is_killed_frees_its_worker(executor, server, how) -> None:
    folder = str(Path(far.__file__).parent)
    command = [sys.executable, "-c", CLIENT, f"grpc://127.0.0.1:{server.port}", folder, how]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert client.stdout.readline() == b"ready\n"
        assert until(lambda: executor.describe().sessions == 1)
    finally:
        client.kill()
        client.communicate()
    assert until(lambda: executor.describe().sessions == 0)
    assert until(lambda: server._service._free._value == 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_workers_in_time(number) -> None:
    with served("--drain", "0.5") as (url, process), avlab.connect(url) as executor:
        session = executor.open(Callee(), on_log=lambda log: None)
        workers = children(process.pid)
        assert len(workers) >= 2
        answers = []

        def spin() -> None:
            with pytest.raises(avlab.SessionError) as caught:
                session.call("spin")
            answers.append(caught.value)

        thread = threading.Thread(target=spin)
        thread.start()
        until(lambda: session.statistics().inputs)
        began = time.monotonic()
        process.send_signal(number)
        process.wait(10)
        assert time.monotonic() - began < 6
        assert process.returncode == 0
        thread.join(10)
        assert answers[0].first_undelivered == 1
        assert answers[0].reason == "stopped"
        assert until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
        session.close()


def test_sigterm_lets_sessions_finish_and_takes_no_new_ones() -> None:
    with served("--drain", "60") as (url, process), avlab.connect(url) as executor:
        with executor.open(far.Double()) as session:
            results = session.stream(iter(range(100)))
            assert next(results) == 0
            process.send_signal(signal.SIGTERM)
            with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
                assert until(lambda: channel.unary_unary(HEALTH)(b"", timeout=10) == b"\x08\x02")
            with pytest.raises(avlab.Denied, match="no more sessions"):
                executor.open(far.Double())
            assert list(results) == [2 * n for n in range(1, 100)]
            assert process.poll() is None
        process.wait(20)  # the last session is closed: not a minute
        assert process.returncode == 0


def test_a_server_that_is_killed_is_noticed(tmp_path) -> None:
    with served() as (url, process), avlab.connect(url, timeout=2, grace=1) as executor:
        session = executor.open(Callee())
        assert session.call("add", 1) == 2
        workers = children(process.pid)
        process.kill()
        with pytest.raises(avlab.SessionError) as caught:
            session.call("sleep", 30)
        assert caught.value.first_undelivered == 2
        with pytest.raises(avlab.ConnectError):
            executor.open(Callee())
        assert until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
        session.close()


def held(pid: int) -> Counter:
    process = psutil.Process(pid)
    return Counter(
        processes=len(process.children(recursive=True)), threads=process.num_threads(), descriptors=process.num_fds()
    )


def scratch() -> int:
    return sum(1 for path in Path("/tmp").glob("avlab-*/*"))


@pytest.mark.alone
def test_fifty_sessions_leave_nothing_behind(local, remote) -> None:
    for executor in (local, remote):

        def use(executor=executor) -> None:
            with executor.open(far.Double()) as session:
                assert list(session.stream(iter([1, b"x" * 100_000]))) == [2, b"x" * 200_000]

        server = next(c for c in psutil.Process().children() if "serve" in c.cmdline()) if executor is remote else None
        pids = [os.getpid(), *([server.pid] if server else [])]
        for _ in range(3):
            use()
        settled = [held(pid) for pid in pids]
        folders = scratch()
        for _ in range(50):
            use()
        # Workers that wait come and go; nothing may grow with the number of sessions.
        for pid, before in zip(pids, settled, strict=True):
            assert until(lambda pid=pid, before=before: sum((held(pid) - before).values()) <= 6), held(pid) - before
        assert scratch() <= folders + 2


# Unary calls.


def test_execute_gives_every_output_of_one_input(channel) -> None:
    packed = bundle.pack(Callee())
    call(channel, "PutBlobs", encode_batch(Blob(name, data, 0, len(data)) for name, data in packed.blobs.items()))
    item = ItemMessage(1, mode=Mode.ITERATE, method="numbers", codec="json", meta=b"100")
    answers = first(channel, "ExecuteObject", Open(packed.manifest, window=4), item)
    outputs = [message for message in answers if isinstance(message, ItemMessage)]
    assert [message.meta for message in outputs if message.codec] == [str(n).encode() for n in range(100)]
    assert outputs[-1].last
    endless = ItemMessage(1, mode=Mode.CALL, method="die", codec="json", meta=b"3")
    (failure,) = [m for m in first(channel, "ExecuteObject", Open(packed.manifest), endless) if isinstance(m, Failure)]
    assert (failure.kind, failure.reason) == ("WorkerDied", "exit")
