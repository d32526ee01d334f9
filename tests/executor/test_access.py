"""Who may use a server: addresses, tokens, certificates. Nothing secret is shown, nothing is sent in the clear."""

import logging
import re
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from avlab_executor.server import Server, ServerConfig
from serving import certificate, served

import avlab
from avlab._pb import SERVICE
from avlab.core.errors import ConfigError, ConnectError, Denied, RemoteError
from avlab.core.message import Failure, Log
from avlab.remote.client import MAX_PRINTED, print_log
from avlab.remote.config import RemoteExecutorConfig
from avlab.remote.failure import restore

TOKEN = "correct-horse-battery-staple"
METHODS = tuple(SERVICE.methods)
HEALTH = "/grpc.health.v1.Health/Check"


class Far:
    def twice(self, number: int) -> int:
        return 2 * number


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("own"), "own")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server that wants a token."""
    with Server(ServerConfig(port=0, token=TOKEN, warm=1)) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(own: tuple[Path, Path]) -> Iterator[Server]:
    """A server that wants a token and speaks TLS."""
    cert, key = (path.read_bytes() for path in own)
    with Server(ServerConfig(port=0, token=TOKEN, certificate=cert, key=key, warm=1)) as server:
        yield server


@pytest.fixture(scope="module")
def channel(guarded: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as made:
        yield made


def status(channel: grpc.Channel, method, metadata) -> grpc.StatusCode:
    """How the server answers an empty call of this method."""
    path = f"/{SERVICE.full_name}/{method.name}"
    form = (method.client_streaming, method.server_streaming)
    kind = {(False, False): "unary_unary", (True, False): "stream_unary", (True, True): "stream_stream"}[form]
    try:
        answer = getattr(channel, kind)(path)(iter(()) if form[0] else b"", metadata=metadata, timeout=20)
        if form[1]:
            list(answer)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# Tokens.


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", TOKEN, f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Basic x"],
)
def test_every_call_needs_the_token(channel, method, given) -> None:
    metadata = () if given is None else (("authorization", given),)
    assert status(channel, method, metadata) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_is_served_with_the_token(channel, method) -> None:
    answer = status(channel, method, (("authorization", f"Bearer {TOKEN}"),))
    empty_is_wrong = method.name.startswith("Execute")
    assert answer is (grpc.StatusCode.INVALID_ARGUMENT if empty_is_wrong else grpc.StatusCode.OK)


def most_memory(process: subprocess.Popen) -> int:
    """MiB that a process has held at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) >> 10


@pytest.fixture(scope="module")
def strict(tmp_path_factory) -> Iterator[tuple[str, subprocess.Popen, int]]:
    """A server of its own that wants a token: its URL, its process, and MiB that it needed at most to refuse the first call."""
    token = tmp_path_factory.mktemp("strict") / "token"
    token.write_text(TOKEN)
    with served("--token-file", str(token), "--warm", "0") as (url, process):
        with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
            status(channel, METHODS[0], ())
        yield url, process, most_memory(process)


@pytest.mark.parametrize("method", ["HasBlobs", "ExecuteObject", "PutBlobs", "StreamObject"])
def test_a_stranger_is_refused_before_his_message_is_read(strict, method) -> None:
    url, process, before = strict
    request, option = bytes(60 << 20), [("grpc.max_send_message_length", 64 << 20)]
    (found,) = [each for each in METHODS if each.name == method]
    for _ in range(3):
        with grpc.insecure_channel(url.removeprefix("grpc://"), option) as channel:
            kind = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
            call = getattr(channel, kind)(f"/{SERVICE.full_name}/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                answer = call(iter([request]) if found.client_streaming else request, timeout=30)
                list(answer)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert most_memory(process) - before < 50


def test_whether_it_is_healthy_may_be_asked_without_a_token(channel) -> None:
    assert channel.unary_unary(HEALTH)(b"", timeout=20) == b"\x08\x01"  # SERVING


def test_a_client_with_the_token_works_and_others_are_denied(guarded) -> None:
    url = f"grpc://127.0.0.1:{guarded.port}"
    with avlab.connect(url, auth=TOKEN) as executor, executor.open("VideoConvert", {"format": "gray"}) as session:
        assert session.tier == guarded.tier
    for wrong in (None, "guess"):
        with pytest.raises(Denied, match="auth=") as caught:
            avlab.connect(url, auth=wrong)
        assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("auth", ["tail\n", "tökén", "nul\0", " spaced", "\u200b\u200b"])
def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(guarded, auth) -> None:
    with pytest.raises(ConfigError, match="auth") as caught:
        avlab.connect(f"grpc://127.0.0.1:{guarded.port}", auth=auth)
    assert auth.strip("\n\0 ") not in str(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "[2001:db8::1]", "127.0.0.1.example.invalid"])
def test_a_token_is_never_sent_elsewhere_in_the_clear(host) -> None:
    with pytest.raises(ConfigError, match="without TLS: use grpcs://") as caught:
        avlab.connect(f"grpc://{host}:7411", auth=TOKEN)
    assert TOKEN not in str(caught.value)


def test_no_text_shows_a_token_or_a_key(guarded) -> None:
    url = f"grpc://127.0.0.1:{guarded.port}"
    client = RemoteExecutorConfig.from_url(url, auth=TOKEN)
    server = ServerConfig(token=TOKEN, certificate=b"public", key=b"private key")
    with avlab.connect(client) as executor, executor.open("VideoConvert", {"format": "gray"}) as session:
        shown = [
            client,
            client.url,
            client.with_limits({"memory": "1G"}),
            server,
            executor,
            executor.describe(),
            session,
        ]
    text = " ".join(f"{each!r} {each}" for each in shown)
    assert TOKEN not in text
    assert "private" not in text
    for url in (f"grpc://user:{TOKEN}@127.0.0.1:1", f"grpcs://{TOKEN}@host", f"grpc://{TOKEN}@host:many"):
        with pytest.raises(ConfigError, match="auth=") as caught:
            RemoteExecutorConfig.from_url(url)
        assert TOKEN not in str(caught.value)


# Addresses.


@pytest.mark.parametrize("address", [None, 7411, b"local:"])
def test_what_is_no_address_is_refused(address) -> None:
    with pytest.raises(ConfigError, match="no address of an executor"):
        avlab.connect(address)


@pytest.mark.parametrize(
    "options",
    [{"port": "7411"}, {"port": 0}, {"port": True}, {"timeout": -1}, {"timeout": "1"}, {"timeout": float("nan")}],
)
def test_numbers_that_cannot_be_are_refused(options) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        RemoteExecutorConfig(host="127.0.0.1", **options)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "executor.example", "::ffff:0.0.0.0", ""])
@pytest.mark.parametrize(
    "given", [{}, {"token": TOKEN}, {"certificate": b"c", "key": b"k"}], ids=["neither", "token", "tls"]
)
def test_an_address_that_others_reach_needs_tls_and_a_token(host, given) -> None:
    with pytest.raises(ConfigError, match=r"TLS \(--tls-cert, --tls-key\) and a token \(--token-file\)"):
        ServerConfig(host=host, **given)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.10"])
def test_loopback_needs_neither(host) -> None:
    assert ServerConfig(host=host).host == host


@pytest.mark.parametrize("given", [{"certificate": b"c"}, {"key": b"k"}])
def test_a_certificate_and_its_key_come_together(given) -> None:
    with pytest.raises(ConfigError, match="both a certificate and its key"):
        ServerConfig(**given)


def test_an_address_that_is_taken_or_not_ours_is_an_error(guarded) -> None:
    for host, port in (("127.0.0.1", guarded.port), ("127.0.0.1.example.invalid", 0)):
        config = ServerConfig(port=port, warm=0)
        object.__setattr__(config, "host", host)  # past the check of the address
        with pytest.raises(ConfigError, match=f"cannot listen on {host}:{port}"):
            Server(config)


@pytest.mark.parametrize("wrong", [{"port": 70000}, {"port": -1}, {"sessions": 0}, {"warm": -1}, {"token": "line\n"}])
def test_numbers_and_tokens_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServerConfig(**wrong)


# TLS.


def test_tls_end_to_end(own, encrypted) -> None:
    for name in ("127.0.0.1", "localhost"):
        with avlab.connect(f"grpcs://{name}:{encrypted.port}", auth=TOKEN, tls=str(own[0])) as executor:
            assert executor.url == f"grpcs://{name}:{encrypted.port}"
            assert executor.execute(Far(), "twice", 21) == 42


def test_tls_does_not_replace_the_token(own, encrypted) -> None:
    with pytest.raises(Denied, match="token"):
        avlab.connect(f"grpcs://127.0.0.1:{encrypted.port}", tls=str(own[0]))


def test_a_server_that_the_wrong_authority_signed_is_not_trusted(tmp_path, encrypted) -> None:
    other, _ = certificate(tmp_path, "other")
    url = f"grpcs://127.0.0.1:{encrypted.port}"
    for tls in (str(other), True):
        with pytest.raises(ConnectError, match=f"{url} .*is not trusted here: give tls=") as caught:
            avlab.connect(url, auth=TOKEN, tls=tls)
        assert TOKEN not in str(caught.value)


def test_both_sides_speak_tls_or_none_does(own, encrypted, guarded) -> None:
    with pytest.raises(ConnectError, match="write grpcs://"):
        avlab.connect(f"grpc://127.0.0.1:{encrypted.port}", auth=TOKEN)
    with pytest.raises(ConnectError, match="speaks no TLS: write grpc://"):
        avlab.connect(f"grpcs://127.0.0.1:{guarded.port}", auth=TOKEN, tls=str(own[0]))


def test_a_certificate_for_another_name_is_told_apart(tmp_path) -> None:
    cert, key = certificate(tmp_path, "elsewhere", "DNS:elsewhere.example")
    config = ServerConfig(port=0, token=TOKEN, certificate=cert.read_bytes(), key=key.read_bytes(), warm=0)
    with Server(config) as server, pytest.raises(ConnectError, match="is for another name"):
        avlab.connect(f"grpcs://127.0.0.1:{server.port}", auth=TOKEN, tls=str(cert))


def test_files_that_are_no_certificates_are_named(tmp_path) -> None:
    missing, garbage = tmp_path / "missing.pem", tmp_path / "garbage.pem"
    garbage.write_text("not a certificate\n")
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        avlab.connect("grpcs://127.0.0.1:1", tls=str(missing))
    with pytest.raises((ConfigError, ConnectError)):
        avlab.connect("grpcs://127.0.0.1:1", tls=str(garbage))
    with pytest.raises(ConfigError, match="certificate"):
        Server(ServerConfig(port=0, certificate=b"not a certificate", key=b"not a key", warm=0))


# Certificates of clients.


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that may sign others, and its key."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority"
    command = ["openssl", *request.split(), "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def signed(folder: Path, name: str, by: tuple[Path, Path]) -> tuple[Path, Path]:
    """A client's certificate that the authority has signed, and its key."""
    cert, key, request = (folder / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
    new = f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {key} -out {request}"
    sign = f"x509 -req -in {request} -CA {by[0]} -CAkey {by[1]} -CAcreateserial -days 2 -out {cert}"
    for command in (new, sign):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def mutual(own: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server that wants a token and a certificate of its own authority, and the folder with "client" and "other"."""
    folder = tmp_path_factory.mktemp("mutual")
    mine, foreign = authority(folder, "mine"), authority(folder, "foreign")
    signed(folder, "client", mine)
    signed(folder, "other", foreign)
    cert, key = (path.read_bytes() for path in own)
    config = ServerConfig(port=0, token=TOKEN, certificate=cert, key=key, client_ca=mine[0].read_bytes(), warm=1)
    with Server(config) as server:
        yield server, folder


def test_a_client_shows_its_certificate(own, mutual, caplog) -> None:
    caplog.set_level(logging.INFO, logger="avlab.audit")
    server, folder = mutual
    tls = avlab.TLS(ca=str(own[0]), certificate=str(folder / "client.crt"), key=str(folder / "client.key"))
    url = f"grpcs://127.0.0.1:{server.port}"
    for given in (tls, {"ca": own[0], "certificate": folder / "client.crt", "key": folder / "client.key"}):
        with avlab.connect(url, auth=TOKEN, tls=given) as executor:
            assert executor.execute(Far(), "twice", 21) == 42
    assert re.search(r'"event": "hello", "tenant": "default", "peer": "ipv4:[\d.:]+ \(client\)"', caplog.text)
    with pytest.raises(Denied, match="token"):  # the certificate does not replace it
        avlab.connect(url, tls=tls)


@pytest.mark.parametrize("shown", [None, "other"])
def test_a_client_without_the_right_certificate_is_not_let_in(own, mutual, shown) -> None:
    server, folder = mutual
    pair = {"certificate": str(folder / f"{shown}.crt"), "key": str(folder / f"{shown}.key")} if shown else {}
    with pytest.raises(ConnectError, match=r"give tls=avlab\.TLS") as caught:
        avlab.connect(f"grpcs://127.0.0.1:{server.port}", auth=TOKEN, tls=avlab.TLS(str(own[0]), **pair), timeout=5)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"certificate": "c"}, {"key": "k"}, {"unknown": "x"}, 1, b"ca.pem", {"certificate": "c", "key": "k", "x": "y"}],
)
def test_tls_that_cannot_be_is_refused(given) -> None:
    with pytest.raises(ConfigError, match="tls"):
        RemoteExecutorConfig.from_url("grpcs://127.0.0.1:1", tls=given)


@pytest.mark.parametrize("what", ["ca", "certificate", "key"])
def test_a_missing_file_of_tls_is_named(own, tmp_path, what) -> None:
    files = {"ca": str(own[0]), "certificate": str(own[0]), "key": str(own[1]), what: str(tmp_path / "missing.pem")}
    with pytest.raises(ConfigError, match=rf"{what} '.*missing\.pem' cannot be read"):
        avlab.connect("grpcs://127.0.0.1:1", tls=files)


# Words of others.


def test_an_error_of_another_is_bounded_and_steers_no_terminal() -> None:
    text = "\x1b]0;title\x07\x1b[2J\u202egnp.exe\r\x9b31m" + "x" * (1 << 20) + "\nthe end\t."
    failure = Failure(type="T" * 9000 + "\x1b", builtin="ValueError", message=text, traceback=text)
    for each in (failure, replace(failure, kind="Denied"), replace(failure, reason="oom")):
        shown = (
            str(restore(each))
            + getattr(restore(each), "remote_traceback", "")
            + getattr(restore(each), "type_name", "")
        )
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
        assert len(shown) < 200_000
        assert shown.startswith(r"\x1b]0;title\x07\x1b[2J\u202egnp.exe\r\x9b31m")
        assert "\nthe end\t." in shown


def test_names_of_errors_that_are_none_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            assert type(restore(Failure(type="E", builtin=f"{'E' * 100_000}{number}", message="no"))) is RemoteError
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()


def test_output_of_a_worker_is_printed_in_bounded_pieces(capsys) -> None:
    print_log(Log("stdout", b"x" * (4 << 20)))
    assert MAX_PRINTED <= len(capsys.readouterr().out) < 2 * MAX_PRINTED


def test_output_of_a_worker_keeps_its_colours_and_steers_no_terminal(capsys) -> None:
    text = "\x1b[1;31mred\x1b[0m 10%\r20%\b\t\u200f\n"
    print_log(Log("stdout", text.encode()))
    assert capsys.readouterr().out == text
    print_log(Log("stderr", "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b5A\x1bc\x00".encode()))
    assert capsys.readouterr().err == r"\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b5A\x1bc\x00"
