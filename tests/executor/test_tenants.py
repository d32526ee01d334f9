"""Tenants of one server: they see nothing of each other, use no more than they may, and leave a trail."""

import hmac
import json
import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import grpc
import pytest
import remote_objects as far
from avlab_executor import auth
from avlab_executor.accounts import BEGINNING, Account
from avlab_executor.server import Server, ServerConfig
from avlab_executor.tenants import Quota, Tenant, read_tokens
from remote_objects import Callee
from serving import until

import avlab
from avlab.core.clock import FakeClock
from avlab.core.errors import BundleError, ConfigError, Denied, LimitExceeded
from avlab.core.headers import MAX_ENTRIES
from avlab.core.message import Blob, Bundle, BundleKind, End, Failure, Open, Opened, Resume
from avlab.core.status import MAX_STATUS, QuotaStatus, SessionStatus, Status, decode_status, encode_status, label
from avlab.core.wire import decode_batch, decode_names, encode_batch, encode_names
from avlab.remote import bundle

ALICE, ALICE_TOO, BOB, OPERATOR = "alice-1-secret", "alice-2-secret", "bob-secret", "operator-secret"


@contextmanager
def serving(*tenants: Tenant, **options) -> Iterator[Server]:
    with Server(ServerConfig(port=0, warm=1, tenants=tenants, **options)) as server:
        yield server


def client(server: Server, token: str | None = None) -> avlab.Executor:
    return avlab.connect(f"grpc://127.0.0.1:{server.port}", auth=token)


def rpc(server: Server, method: str, request: bytes, token: str) -> bytes:
    """One request of an RPC; all of its answer. A stream stays open until then: its end would be the caller's leave."""
    kind, given, answered = "unary_unary", request, threading.Event()

    def requests() -> Iterator[bytes]:
        yield request
        answered.wait(20)

    if method == "PutBlobs":
        kind, given = "stream_unary", iter([request])
    elif method.startswith("Stream"):
        kind, given = "stream_stream", requests()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = getattr(channel, kind)(f"/avlab.v1.Executor/{method}")
        answer = call(given, metadata=[("authorization", f"Bearer {token}")], timeout=20)
        try:
            return b"".join(answer) if kind == "stream_stream" else answer
        finally:
            answered.set()


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """Two tenants and an operator on one server."""
    alice = Tenant("alice", (ALICE, ALICE_TOO), Quota(sessions=2))
    with serving(alice, Tenant("bob", (BOB,)), Tenant("carol", (OPERATOR,), operator=True)) as server:
        yield server


# They do not see each other.


def test_sessions_of_others_are_not_seen(shared) -> None:
    with client(shared, ALICE) as alice, client(shared, BOB) as bob, client(shared, OPERATOR) as operator:
        with alice.open(Callee()) as session:
            assert session.call("add", 1) == 2
            assert (alice.describe().sessions, bob.describe().sessions) == (1, 0)
            (mine,) = alice.status().sessions
            assert (mine.tenant, mine.tier, mine.inputs, mine.outputs) == ("alice", shared.tier, 1, 1)
            assert mine.memory >= 0
            assert mine.cpu_seconds > 0
            assert bob.status().sessions == ()
            assert {quota.tenant for quota in bob.status().quotas} == {"bob"}
            assert operator.status().sessions[0].session == mine.session
            assert {quota.tenant for quota in operator.status().quotas} == {"alice", "bob", "carol"}
        assert until(lambda: operator.status().sessions == ())


def test_the_store_of_blobs_tells_nothing_of_others(shared) -> None:
    blob = bundle.pack(far.twice)
    request = encode_batch(Blob(name, data, 0, len(data)) for name, data in blob.blobs.items())
    assert set(decode_names(rpc(shared, "PutBlobs", request, ALICE))) == set(blob.blobs)
    names = encode_names(blob.blobs)
    assert set(decode_names(rpc(shared, "HasBlobs", names, ALICE_TOO))) == set(blob.blobs)
    assert decode_names(rpc(shared, "HasBlobs", names, BOB)) == []
    assert decode_names(rpc(shared, "HasBlobs", names, OPERATOR)) == []
    opening = encode_batch([Open(blob.manifest, session="guessed")])
    (answer,) = decode_batch(rpc(shared, "StreamObject", opening, BOB))
    assert isinstance(answer, Failure)
    assert answer.kind == BundleError.__name__
    assert "not here" in answer.message


def test_a_session_of_another_can_neither_be_resumed_nor_be_told_from_none(shared, trail) -> None:
    opening = Open(Bundle(BundleKind.NODE, "VideoConvert", b'{"format": "gray"}'), session="a" * 32, grace=30.0)
    never = threading.Event()

    def request() -> Iterator[bytes]:
        yield encode_batch([opening])
        never.wait()
        yield encode_batch([End()])

    with ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{shared.port}"))
        stream = channel.stream_stream("/avlab.v1.Executor/StreamNode")
        mine = stream(request(), metadata=[("authorization", f"Bearer {ALICE}")], timeout=60)
        stack.callback(never.set)
        assert any(isinstance(message, Opened) for message in decode_batch(next(mine)))
        for name in ("a" * 32, "b" * 32):
            answer = rpc(shared, "StreamNode", encode_batch([Resume(name, 1, 0)]), BOB)
            (failure,) = decode_batch(answer)
            assert failure.kind == "SessionLost"
        texts = {each["text"] for each in trail() if each["event"] == "deny"}
        assert len(texts) == 1  # the same for a session of another and for none
        same = encode_batch([opening, End()])
        for token, taken in ((ALICE, True), (BOB, False)):
            answers = decode_batch(rpc(shared, "StreamNode", same, token))
            assert any(isinstance(each, Failure) and "exists already" in each.message for each in answers) is taken
        never.set()
        list(mine)  # to its end


def test_a_status_does_not_give_away_what_resumes_a_session(shared) -> None:
    with client(shared, ALICE) as alice, alice.open(Callee()) as session:
        name = session._opened.session
        (mine,) = alice.status().sessions
        assert mine.session == label(name)
        assert name not in str(alice.status())


def test_all_tiers_have_been_tried_before_the_first_client_asks(monkeypatch) -> None:
    with serving(Tenant("a")) as server:
        monkeypatch.setattr("avlab_executor.sandbox.tiers.probe", lambda: pytest.fail("tried while a client waits"))
        with client(server) as executor:
            assert server.tier in {layer.name for layer in executor.describe().tiers}


# Tokens.


def test_all_tokens_of_a_tenant_are_valid_and_lead_to_it(shared) -> None:
    for token, name in ((ALICE, "alice"), (ALICE_TOO, "alice"), (BOB, "bob"), (OPERATOR, "carol")):
        with client(shared, token) as executor:
            assert executor.status().tenant == name
    for wrong in (None, ALICE[:-1], ALICE + "x", "alice"):
        with pytest.raises(Denied, match="token"):
            client(shared, wrong)


def test_every_token_is_compared_to_its_end_whichever_fits(monkeypatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(auth, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    accounts = [Account(Tenant("a", ("one", "two"))), Account(Tenant("b", ("three",)))]
    checked = auth.Auth(accounts)
    headers = {
        "Bearer one": accounts[0],
        "Bearer two": accounts[0],
        "Bearer three": accounts[1],
        "Bearer four": None,
        "": None,
    }
    for header, account in headers.items():
        compared.clear()
        assert checked.account(header) is account
        assert compared == [(32, 32)] * 3


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("only\n", {"default": ("only",)}),
        ("# comment\n\nalice a1\nbob b1\nalice a2\n", {"alice": ("a1", "a2"), "bob": ("b1",)}),
        ("first\nsecond\n", {"default": ("first", "second")}),
    ],
)
def test_a_token_file(text, tokens) -> None:
    assert read_tokens(text, "file") == tokens


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "file holds no token"),
        ("# nothing\n", "file holds no token"),
        ("a b hidden\n", "file, line 1"),
        ("ok fine\n-x hidden\n", "file, line 2"),
        ("ok hidden\nother hidden\n", "file, line 2.*already"),
        ("ok hidden\u00e9\n", "file, line 1.*ASCII"),
    ],
)
def test_a_token_file_that_is_none_is_named_by_its_line(text, place) -> None:
    with pytest.raises(ConfigError, match=place) as caught:
        read_tokens(text, "file")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tenant("a\nb"), "a name is"),
        (lambda: Tenant(""), "a name is"),
        (lambda: Tenant("a", ("",)), "empty token"),
        (lambda: Quota(sessions=0), "quota sessions=0"),
        (lambda: Quota(cpu_seconds=True), "quota cpu_seconds=True"),
        (lambda: Quota(bytes=1.5), "quota bytes=1.5 is not a positive whole"),
        (lambda: ServerConfig(tenants=(Tenant("a", ("t",)), Tenant("a", ("u",)))), "two tenants called 'a'"),
        (lambda: ServerConfig(tenants=(Tenant("a", ("t",)), Tenant("b", ("t",)))), "token of tenant 'b'"),
        (lambda: ServerConfig(tenants=(Tenant("a", ("t",)), Tenant("b"))), "'b' has no token"),
        (lambda: ServerConfig(tenants=(Tenant("a", ("t",)),), token="u"), "beside tenants"),
        (lambda: ServerConfig(host="0.0.0.0", tenants=(Tenant("a"),)), "token"),
        (lambda: ServerConfig(client_ca=b"x"), "--tls-cert"),
    ],
)
def test_tenants_that_cannot_be(make, text) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


# Quotas.


def test_the_quota_of_sessions(shared) -> None:
    with client(shared, ALICE) as alice, client(shared, BOB) as bob:
        assert alice.describe().capacity == 2
        with alice.open(Callee()), alice.open(Callee()):
            with pytest.raises(
                Denied, match=r"quota sessions=2 of tenant 'alice' .*close a session.*\[tenants\.alice\]"
            ):
                alice.open(Callee())
            with pytest.raises(Denied, match="quota sessions=2"):
                alice.execute(Callee(), "add", 1)
            with bob.open(Callee()) as session:
                assert session.call("add", 1) == 2
        assert alice.execute(Callee(), "add", 1) == 2


def test_the_quota_of_cpu_seconds_ends_what_runs_and_opens_no_more() -> None:
    with serving(Tenant("a", quota=Quota(cpu_seconds=0.5))) as server, client(server) as executor:
        idle, busy = executor.open(Callee()), executor.open(Callee())
        with pytest.raises(
            LimitExceeded, match=r"quota cpu_seconds=0\.5 of tenant 'a' is used up: wait \d+ s"
        ) as caught:
            busy.call("spin")
        assert caught.value.reason == "cpu"
        with pytest.raises(LimitExceeded, match="quota cpu_seconds"):
            idle.call("add", 1)
        with pytest.raises(Denied, match="quota cpu_seconds"):
            executor.open(Callee())
        used = {quota.name: quota for quota in executor.status().quotas}["cpu_seconds"]
        assert used.used >= used.most == 0.5
        assert 0 < used.renewed <= 3600
        assert until(lambda: server._service._free._value == 32)


def test_the_quota_of_bytes_counts_both_directions() -> None:
    with serving(Tenant("a", quota=Quota(bytes=3 << 20))) as server, client(server) as executor:
        with executor.open(Callee()) as session:
            assert session.call("same", bytes(1 << 20)) == bytes(1 << 20)
            session.call("same", bytes(1 << 20))
            assert until(lambda: session_ended(session))
            with pytest.raises(LimitExceeded, match="quota bytes=3145728"):
                session.call("add", 1)
        with pytest.raises(Denied, match="quota bytes=3145728 of tenant 'a'"):
            executor.open(Callee())


def test_the_quota_of_bytes_counts_values_that_need_no_buffer() -> None:
    text = "x" * 100_000  # travels within the metadata of its item
    with (
        serving(Tenant("a", quota=Quota(bytes=1 << 20))) as server,
        client(server) as executor,
        executor.open(Callee()) as session,
        pytest.raises(LimitExceeded, match="quota bytes=1048576"),
    ):
        for _ in range(2000):
            session.call("same", text)


def session_ended(session) -> bool:
    try:
        session.call("add", 1)
    except avlab.SessionError:
        return True
    return False


def test_the_quota_of_stored_bytes() -> None:
    with serving(Tenant("a", quota=Quota(stored=100_000))) as server, client(server) as executor:
        with executor.open(Callee()) as session:
            assert session.call("add", 1) == 2
        large = os.urandom(200_000)
        with pytest.raises(Denied, match=r"quota stored=100000 of tenant 'a'.*smaller files"):
            executor.open(lambda: large)
        assert server._service.accounts[0].blobs._arriving == 0
        assert 0 < {quota.name: quota.used for quota in executor.status().quotas}["stored"] <= 100_000


def test_the_quota_of_environments() -> None:
    account = Account(Tenant("a", quota=Quota(environments=2)))
    for key in ("one", "two", "one"):
        with account.environment(key):
            pass
    with pytest.raises(Denied, match="quota environments=2 of tenant 'a'"), account.environment("three"):
        pass
    account.forget_environment("one")
    with pytest.raises(ValueError), account.environment("broken"):
        raise ValueError
    with account.environment("three"):
        pass
    assert {quota.name: quota.used for quota in account.quotas()}["environments"] == 2


def test_what_was_used_is_forgotten_after_the_period() -> None:
    clock = FakeClock()
    account = Account(Tenant("a", quota=Quota(cpu_seconds=1.0, period=60)), clock)
    account._used_cpu = 2.0
    with pytest.raises(Denied, match="wait 60 s"), account.place():
        pass
    clock.advance(59)
    with pytest.raises(Denied, match="wait 1 s"), account.place():
        pass
    clock.advance(1)
    with account.place() as leave:
        leave()


def test_streams_that_open_nothing_are_bounded_and_leave_room_for_others() -> None:
    tenants = Tenant("a", ("a",), Quota(sessions=1)), Tenant("b", ("b",))
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait()
        yield from ()

    with serving(*tenants) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stream = channel.stream_stream("/avlab.v1.Executor/StreamObject")
        silent = [stream(silence(), metadata=[("authorization", "Bearer a")]) for _ in range(1 + BEGINNING)]
        assert until(lambda: server._service.accounts[0]._streams == 1 + BEGINNING)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream(silence(), metadata=[("authorization", "Bearer a")], timeout=20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "quota sessions=1 of tenant 'a'" in caught.value.details()
        with client(server, "b") as other, other.open(Callee()) as session:
            assert session.call("add", 1) == 2
        for call in silent:
            call.cancel()
        never.set()
        assert until(lambda: server._service.accounts[0]._streams == 0)


def test_sessions_whose_callers_have_gone_before_they_began_are_bounded() -> None:
    """Each waits for its caller as long as that has asked for, with a thread that counts the time."""
    asked, gone = Open(Bundle(BundleKind.NODE, "Resize"), grace=600.0), threading.Event()

    def begin(number: int) -> Iterator[bytes]:
        yield encode_batch([replace(asked, session=f"nobody-can-guess-{number}")])
        gone.wait(20)

    tenants = Tenant("a", ("a",), Quota(sessions=1)), Tenant("b", ("b",))
    with serving(*tenants) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for number in range(20):
            call = channel.stream_stream("/avlab.v1.Executor/StreamNode")(begin(number), metadata=[("authorization", "Bearer a")])
            call.initial_metadata()
            call.cancel()
        gone.set()
        assert until(lambda: server._service.accounts[0]._streams == 0)
        assert len(server._service._named.all()) <= 1 + BEGINNING
        with client(server, "b") as other, other.open(Callee()) as session:
            assert session.call("add", 1) == 2


def test_who_sends_blobs_and_never_ends_is_cut_off(shared, monkeypatch) -> None:
    monkeypatch.setattr("avlab_executor.calls.SEND_SECONDS", 0.2)
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait()
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        put = channel.stream_unary("/avlab.v1.Executor/PutBlobs")
        with pytest.raises(grpc.RpcError) as caught:
            put(silence(), metadata=[("authorization", f"Bearer {ALICE}")], timeout=20)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        never.set()
    assert until(lambda: shared._service.accounts[0]._streams == 0)


def test_a_refused_session_leaves_its_place() -> None:
    with serving(Tenant("a", quota=Quota(sessions=1))) as server, client(server) as executor:
        for _ in range(3):
            with pytest.raises(ConfigError, match="width"):
                executor.open("Resize", {"width": "no"})
        with executor.open(Callee()) as session:
            assert session.call("add", 1) == 2


# The trail.


@pytest.fixture
def trail(caplog: pytest.LogCaptureFixture):
    """The events that were written since, as they stand in the log."""
    caplog.set_level(logging.INFO, logger="avlab.audit")
    return lambda: [json.loads(r.getMessage()) for r in caplog.records if r.name == "avlab.audit"]


def test_the_trail_of_a_session(shared, trail, caplog) -> None:
    with client(shared, ALICE) as alice, alice.open(Callee()) as session:
        session.call("same", "the payload")
        name = label(session._opened.session)
    assert until(lambda: trail()[-1]["event"] == "exit")
    hello, sent, spawn, end = trail()
    assert [each["event"] for each in (hello, sent, spawn, end)] == ["hello", "bundle", "spawn", "exit"]
    assert {each["tenant"] for each in trail()} == {"alice"}
    assert all(each["peer"].startswith("ipv4:127.0.0.1:") for each in (hello, sent, spawn))
    assert sent["kind"] == "OBJECT"
    assert spawn["session"] == end["session"] == name
    assert spawn["tier"] == shared.tier
    assert end["inputs"] == 1
    assert end["cpu_seconds"] > 0
    assert end["reason"]
    for secret in ("the payload", ALICE, session._opened.session):
        assert secret not in caplog.text


def test_refusals_are_in_the_trail(shared, trail, caplog) -> None:
    with pytest.raises(Denied):
        client(shared, "guessed-token")
    with client(shared, ALICE) as alice, pytest.raises(avlab.AvlabError):
        alice.open(replace(bundle.pack(far.twice), manifest=Bundle(BundleKind.OBJECT, object="0" * 64)))
    first, last = [each for each in trail() if each["event"] == "deny" and each["what"] != "resume"]
    assert (first["error"], first["what"]) == ("Unauthenticated", "Describe")
    assert (last["error"], last["tenant"]) == ("BundleError", "alice")
    assert "guessed-token" not in caplog.text


def test_nobody_writes_a_line_of_his_own_into_the_trail(shared, trail, caplog) -> None:
    name = 'Resize\n{"event": "hello", "tenant": "root"}\r\x1b[2J\u2028' + "x" * 5000
    opening = encode_batch([Open(Bundle(BundleKind.NODE, name))])
    assert any(isinstance(message, Failure) for message in decode_batch(rpc(shared, "StreamNode", opening, ALICE)))
    lines = [r.getMessage() for r in caplog.records if r.name == "avlab.audit"]
    assert all(line.isprintable() and line.isascii() and len(line) < 4000 for line in lines)
    assert all(each["event"] != "hello" or each["tenant"] == "alice" for each in trail())
    assert any(each.get("name", "").startswith("Resize\n{") for each in trail())


# The report.


def test_a_status_survives_its_trip() -> None:
    sessions = (SessionStatus("a", "s", "n", "landlock", 1.5, 1, 2, 3, 4, 5, 0.25), SessionStatus())
    quotas = (QuotaStatus("a", "sessions", 1, None, None), QuotaStatus("a", "bytes", 0, 5, 0.0))
    status = Status("a", True, 2.5, "landlock", sessions, quotas)
    assert decode_status(encode_status(status)) == status
    impossible = (
        encode_status(replace(status, uptime=math.inf)),
        encode_status(Status(quotas=(QuotaStatus(used=math.nan),))),
        b"\x2a\x00" * (MAX_ENTRIES + 1),  # two bytes each, and an object here
        b"\x32\x00" * (MAX_ENTRIES + 1),
    )
    for wrong in (b"\xff\xff", bytes(MAX_STATUS + 1), *impossible):
        with pytest.raises(avlab.CodecError):
            decode_status(wrong)


def test_the_embedded_executor_has_a_status_too(local) -> None:
    with local.open(Callee()) as session:
        session.call("add", 1)
        (mine,) = [each for each in local.status().sessions if each.session == label(session._opened.session)]
        assert mine.inputs == 1
        assert local.status().tier == session.tier
