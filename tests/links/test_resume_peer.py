"""Sessions at another peer's executor outlive the connection between the peers, which is made anew over their room."""

import threading
from collections.abc import Iterator

import pytest
from avlab_executor.peers import PeerExecutor
from counted import Counted
from remote_objects import Callee
from serving import until

import avlab
from avlab.core.errors import ConnectError, LinkClosed, SessionError, WorkerDied
from avlab.media.rtc.channel import MessageChannel
from avlab.media.rtc.partner import Partner
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.server import SignalConfig, SignalServer
from avlab.testing.faults import check_history

ITEMS = 60
EXPECTED = [(value, k) for value in range(ITEMS) for k in range(value % 4)] + [(-1, 0)]


def cut(*partners: Partner) -> None:
    """From now on packets of their present connection go nowhere."""

    async def swallow(partner: Partner) -> None:
        for transport in partner._peer._transports():
            for protocol in transport.transport._connection._protocols:
                protocol.datagram_received = lambda *_: None

    for partner in partners:
        partner._runtime.run(swallow(partner), 5)


@pytest.fixture
def runtimes() -> Iterator[list[MediaRuntime]]:
    made = [MediaRuntime(), MediaRuntime()]
    yield made
    for runtime in made:
        runtime.close()


@pytest.fixture
def partners(runtimes) -> Iterator[tuple[Partner, Partner]]:
    """The way to a peer that serves sessions, and that peer's way back; both meet in a room."""
    with SignalServer(SignalConfig(port=0), runtime=runtimes[0]) as server, PeerExecutor(anybody=True) as executor:
        room = {"room": "a", "secret": server.secret, "media": False}
        with (
            avlab.WebRTCManager(server.url, runtime=runtimes[0], **room) as here,
            avlab.WebRTCManager(server.url, runtime=runtimes[1], **room) as there,
        ):
            there.serve(executor)
            yield here.wait(), there.wait()


def test_a_stream_goes_on_over_the_next_connection(partners) -> None:
    here, there = partners
    broken = threading.Event()

    def items() -> Iterator[int]:
        for number in range(ITEMS):
            if number == 20:
                cut(here, there)
                broken.set()
            yield number

    with avlab.connect(here) as executor, executor.open(Counted()) as session:
        pid = session.call("pid")
        results = list(session.stream(items()))
        assert broken.is_set()
        assert check_history(EXPECTED, [(value, k) for value, k, _, _ in results]) == (0, 0, 0)
        assert {process for *_, process in results} == {pid}
        assert results[-1][2] == len(EXPECTED) - 1
        assert here.reconnections + there.reconnections == 1
        assert session.call("pid") == pid
    assert until(lambda: avlab.connect(here).describe().sessions == 0)


def test_a_partner_that_will_not_come_back_ends_the_session_at_once(partners) -> None:
    here, _ = partners
    with avlab.connect(here, grace=600) as executor:
        session = executor.open(Counted())
        assert session.call("pid")
        here.close()
        with pytest.raises(SessionError, match="the connection to the other peer has ended"):
            session.call("pid")
        session.close()
        with pytest.raises(ConnectError):
            executor.open("Resize", {"width": 8})


def test_closing_a_session_whose_worker_has_died_does_not_ask_for_it_again_and_again(partners, monkeypatch) -> None:
    """It did, for a second."""
    here, _ = partners
    opened: list[str] = []
    open_channel = Partner.open_channel
    monkeypatch.setattr(Partner, "open_channel", lambda self, label, within: (opened.append(label), open_channel(self, label, within))[1])
    with avlab.connect(here) as executor:
        session = executor.open(Callee())
        with pytest.raises(WorkerDied):
            session.call("die", 1)
        opened.clear()
        session.close()
        assert len(opened) <= 4  # two: to end it, and to hear that it has ended


class Closing:
    """What aiortc's channel is while the other side closes it."""

    label, readyState, bufferedAmount = "x", "open", 0

    def on(self, event: str, function: object) -> None: ...

    def close(self) -> None: ...

    def send(self, data: bytes) -> None:
        assert self.readyState == "open"


def test_a_channel_that_the_other_side_is_closing_says_so(runtimes) -> None:
    channel = Closing()

    async def send() -> None:
        made = MessageChannel(channel, runtimes[0])
        await made.asend(b"while it is open")
        channel.readyState = "closing"
        await made.asend(b"too late")

    with pytest.raises(LinkClosed):
        runtimes[0].run(send(), 10)
