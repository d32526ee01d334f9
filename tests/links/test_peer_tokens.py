"""An executor that a peer serves: being connected to it does not suffice to run code there."""

import pytest
from avlab_executor.peers import MAX_SHOWN, PeerExecutor
from avlab_executor.tenants import Tenant
from serving import PEER_TOKEN, peer

import avlab
from avlab.core.errors import Denied, LinkClosed
from avlab.core.message import Failure
from avlab.core.wire import MAX_MESSAGE, decode_batch
from avlab.remote.client import Executor
from avlab.remote.links.datachannel import SERVICE, ChannelConnection, name_of


def test_who_shows_no_valid_token_runs_nothing() -> None:
    with peer() as partner:
        for auth in (None, "wrong", PEER_TOKEN[:-1]):
            with pytest.raises(Denied, match="valid token"):
                avlab.connect(partner, auth=auth)
            settings = avlab.RemoteExecutorConfig.from_url(f"datachannel:{name_of(partner)}", auth=auth)
            executor = Executor(ChannelConnection(partner, settings), settings)  # goes on without asking first
            with pytest.raises(Denied, match="valid token"):
                executor.open(abs).call("__call__", -1)
        with avlab.connect(partner, auth=PEER_TOKEN) as executor, executor.open(abs) as session:
            assert session.call("__call__", -1) == 1


def test_of_a_stranger_no_more_than_a_token_is_taken() -> None:
    with peer() as partner:
        for first in (bytes(MAX_SHOWN + 1), bytes(MAX_MESSAGE)):
            channel = partner.open_channel(SERVICE + "StreamObject", 10)
            with pytest.raises(LinkClosed):  # instead of an answer
                channel.send(first)
                channel.recv(20)
        channel = partner.open_channel(SERVICE + "StreamObject", 10)
        channel.send(b"Bearer wrong")
        (refused,) = decode_batch(channel.recv(20))  # before it has said what it wants
        assert isinstance(refused, Failure) and "valid token" in refused.message
        channel.close()
        with avlab.connect(partner, auth=PEER_TOKEN) as executor:
            assert executor.execute(abs, "__call__", -1) == 1


def test_strangers_fill_no_log(caplog) -> None:
    caplog.set_level("INFO", logger="avlab.audit")
    with PeerExecutor(token="known", warm=0) as executor:
        assert all(executor._caller(b"Bearer no") is None for _ in range(1000))
        assert executor._caller(b"Bearer known") is not None
    assert 0 < len(caplog.records) < 100


@pytest.mark.parametrize(
    "options",
    [{}, {"token": "a", "anybody": True}, {"token": "a", "tenants": [Tenant(tokens=("b",))]}, {"tenants": [Tenant()]}],
)
def test_who_may_call_must_be_said(options: dict) -> None:
    with pytest.raises(avlab.ConfigError, match="token"):
        PeerExecutor(**options)
