"""The server and its client over real sockets: tokens, origins, bounds, TLS, and coming back after a cut."""

import asyncio
import json
import ssl
import subprocess
import sys

import aiohttp
import pytest

from avlab.core.errors import ConfigError, ConnectError, Denied, LinkClosed
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.address import Address
from avlab.media.signaling.client import Joined, Left, Received, SignalClient, invite
from avlab.media.signaling.rooms import Bounds
from avlab.media.signaling.server import SignalConfig, SignalServer


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


@pytest.fixture
def serve(runtime):
    servers = []

    def serve(**options) -> SignalServer:
        servers.append(SignalServer(SignalConfig(port=options.pop("port", 0), **options), runtime=runtime))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


async def joined(server: SignalServer, role: str = "script", **options) -> SignalClient:
    token = await invite(server.url, "studio", server.secret, options.get("authority", ""))
    client = SignalClient(Address(server.url, "studio", token), role=role, **options)
    await client.open()
    return client


async def raw(server: SignalServer, *texts, headers=None, limit: float = 5.0) -> list:
    """What a hand-made client hears: messages and the close code."""
    heard = []
    async with (
        asyncio.timeout(limit),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/socket", headers=headers) as socket,
    ):
        for text in texts:
            await (socket.send_bytes(text) if isinstance(text, bytes) else socket.send_str(text))
        async for message in socket:
            heard.append(json.loads(message.data))
        heard.append(socket.close_code)
    return heard


def test_members_meet_talk_and_part(serve, runtime):
    server = serve()

    async def scenario():
        first = await joined(server)
        second = await joined(server, "view")
        assert await first.next() == Joined(second.id, "view")
        assert await second.next() == Joined(first.id, "script", before=True)
        await second.send(first.id, {"text": "grüß Gott"})
        assert await first.next() == Received(second.id, {"text": "grüß Gott"})
        await second.close()
        assert await first.next() == Left(second.id)
        await first.close()
        with pytest.raises(LinkClosed):
            await first.next()
        with pytest.raises(LinkClosed):
            await first.send("x", 1)

    runtime.run(scenario(), 20)


def test_nobody_comes_in_without_a_token_of_their_own(serve, runtime):
    server = serve()
    invitation = server.invite("studio")

    async def scenario():
        client = SignalClient(invitation.address)
        await client.open()
        for address in (invitation.address, Address(server.url, "studio", "wrong"), Address(server.url, "studio")):
            with pytest.raises(Denied, match="invitation"):
                await SignalClient(address).open()
        with pytest.raises(Denied, match="secret"):
            await invite(server.url, "studio", "wrong secret")
        with pytest.raises(ConfigError, match="room"):
            await invite(server.url, "a room", server.secret)
        await client.close()

    runtime.run(scenario(), 20)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "5",
        "{}",
        '{"resume": 1}',
        '{"join": "studio"}',
        '{"join": [], "token": {}}',
        b"bytes",
        "[" * 5000,
    ],
)
def test_hostile_greetings_are_refused(serve, runtime, text):
    assert runtime.run(raw(serve(), text), 20) == [4001]


@pytest.mark.parametrize("text", ["x", "[]", '{"to": 5, "data": 1}', '{"to": "x"}', b"\x00", "[" * 5000])
def test_hostile_messages_end_the_membership(serve, runtime, text):
    server = serve()
    token = server.invite("studio").address.token
    heard = runtime.run(raw(server, json.dumps({"join": "studio", "token": token}), text), 20)
    assert heard[-1] == 4001 and len(heard) == 2


def test_too_large_too_fast_and_too_silent(serve, runtime):
    server = serve(bounds=Bounds(message=1000, burst=20, join_seconds=0.2))
    greet = [json.dumps({"join": "studio", "token": server.invite("studio").address.token}) for _ in range(2)]
    assert runtime.run(raw(server, greet[0], "x" * 1001), 20)[-1] == 1009
    assert runtime.run(raw(server, greet[1], *[json.dumps({"to": "x", "data": 1})] * 21), 20)[-1] == 4001
    assert runtime.run(raw(server), 20) == [4001]


def test_who_does_not_read_is_cut_off_and_what_waits_for_them_is_bounded(serve, runtime):
    bounds = Bounds(rate=1e6, burst=10**6, waiting_bytes=1 << 20, away_seconds=0.2)
    server = serve(bounds=bounds)

    async def scenario():
        talker = await joined(server)
        token, brief = server._rooms.invite("studio"), aiohttp.ClientWSTimeout(ws_close=0.1)
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/socket", timeout=brief) as deaf:
            await deaf.send_json({"join": "studio", "token": token})
            await deaf.receive()
            deaf._conn.transport.pause_reading()
            event = await talker.next()
            sending = asyncio.create_task(shout(talker, event.member))
            while not isinstance(event := await talker.next(), Left):
                pass
            sending.cancel()
            await asyncio.wait({sending})
            (only,) = server._rooms._rooms["studio"].values()
            assert only.id == talker.id
        await talker.close()

    async def shout(talker, member):
        while True:
            await talker.send(member, "x" * 100_000)
            waiting = [len(text) for each in server._rooms._rooms["studio"].values() for text in each.waiting]
            assert sum(waiting) <= bounds.waiting_bytes

    runtime.run(scenario(), 30)


def test_connections_have_a_bound(serve, runtime):
    server = serve(bounds=Bounds(connections=1))

    async def scenario():
        client = await joined(server)
        with pytest.raises(Denied, match="503"):
            await SignalClient(Address(server.url, "studio", "x")).open()
        await client.close()

    runtime.run(scenario(), 20)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://evil.example:80", "null", "", "x", "http://127.0.0.1:1", "http://127.0.0.1", "http://[",
        "https://a.lab.example.org", "https://lab.example.org:8443", "http://lab.example.org", "https://lab.example.org.evil.example",
        "https://lab.example.org/", "https://user@lab.example.org",
    ],
)  # fmt: skip
def test_pages_of_other_origins_may_not_connect(serve, runtime, origin):
    server = serve(origins=("https://lab.example.org",))
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        runtime.run(raw(server, headers={"Origin": origin}), 20)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[", "[::1"])
def test_a_name_that_points_here_is_no_origin_of_ours(serve, runtime, host):
    server = serve()
    headers = {"Origin": f"http://{host}:{server.port}", "Host": f"{host}:{server.port}"}
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        runtime.run(raw(server, headers=headers), 20)


def test_own_and_listed_origins_may_connect(serve, runtime):
    server = serve(origins=("https://lab.example.org",))
    for headers in ({"Origin": server.url}, {"Origin": "https://lab.example.org"}, {}):  # scripts send none
        assert runtime.run(raw(server, "x", headers=headers), 20) == [4001]  # they get as far as being asked for a token


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"host": "0.0.0.0"}, "TLS"),
        ({"host": "192.168.1.2", "secret": "x" * 20}, "TLS"),
        ({"host": "example.org"}, "TLS"),
        ({"cert": "a.pem"}, "key"),
        ({"port": 70000}, "port"),
        ({"secret": "short"}, "secret"),
        ({"origins": ("lab.example.org",)}, "origin"),
        ({"origins": ("https://lab.example.org/path",)}, "origin"),
        ({"host": "192.0.2.200", "cert": "a", "key": "b", "secret": "x" * 20}, "cannot be used for TLS"),
    ],
)
def test_it_refuses_to_serve_others_unprotected(serve, options, match):
    with pytest.raises(ConfigError, match=match):
        serve(**options)


def test_a_cut_connection_is_taken_up_under_the_same_name(serve, runtime):
    server = serve()

    async def scenario():
        first, second = await joined(server), await joined(server)
        assert await first.next() == Joined(second.id, "script")
        name = second.id
        second._socket._response.connection.transport.abort()  # as a network that goes away
        await second.next()  # first was there before
        await second.send(first.id, "still there?")
        assert await first.next() == Received(second.id, "still there?")
        await first.send(second.id, "yes")
        assert await second.next() == Received(first.id, "yes")
        assert (second.id, second.reconnections) == (name, 1)
        await asyncio.gather(first.close(), second.close())

    runtime.run(scenario(), 20)


def test_a_client_gives_up_when_its_patience_ends(serve, runtime):
    server = serve()

    async def scenario():
        client = await joined(server, patience=0.5)
        await server._stop()
        with pytest.raises(LinkClosed, match=r"not answered for 0\.5 s"):
            await asyncio.wait_for(client.next(), 10)
        await client.close()
        with pytest.raises(ConnectError, match="avlab signal"):
            await SignalClient(Address(server.url, "studio", "x")).open()

    runtime.run(scenario(), 20)


def test_health_and_the_page_are_served_with_strict_headers(serve, runtime):
    server = serve()

    async def get(path):
        async with aiohttp.ClientSession() as http, http.get(server.url + path) as response:
            return response.status, response.headers, await response.text()

    status, _, text = runtime.run(get("/health"), 10)
    assert (status, json.loads(text)) == (200, {"status": "ok", "rooms": 0, "members": 0})
    for path, kind in (("/", "text/html"), ("/join.js", "text/javascript"), ("/style.css", "text/css")):
        status, headers, text = runtime.run(get(path), 10)
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, kind) and text
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
    assert runtime.run(get("/../server.py"), 10)[0] == 404


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_is_spoken_and_checked(serve, runtime, certificate):
    cert, key = certificate
    server = serve(host="0.0.0.0", public="localhost", cert=cert, key=key, secret="a secret of the test")

    async def scenario():
        first = await joined(server, authority=str(cert))
        with pytest.raises(ConnectError):
            await SignalClient(Address(server.url, "studio", "x")).open()  # an authority that we do not know
        await first.close()

    assert server.url.startswith("https://localhost:")
    runtime.run(scenario(), 20)
    assert ssl.get_server_certificate(("127.0.0.1", server.port), timeout=5)


def test_the_command_prints_an_invitation_and_ends_when_told(runtime):
    command = [sys.executable, "-m", "avlab", "signal", "--port", "0", "--room", "lab"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("serving http://127.0.0.1:") and lines[0].endswith("room lab\n"), (
            process.stderr.read()
        )

        async def scenario():
            client = SignalClient(Address.parse(lines[2].removeprefix("join once: ")))
            await client.open()
            await client.close()

        runtime.run(scenario(), 20)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
