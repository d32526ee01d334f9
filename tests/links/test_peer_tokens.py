"""An executor that a peer serves: being connected to it does not suffice to run code there."""

import pytest
from avlab_executor.peers import PeerExecutor
from avlab_executor.tenants import Tenant
from serving import PEER_TOKEN, peer

import avlab
from avlab.core.errors import Denied
from avlab.remote.client import Executor
from avlab.remote.links.datachannel import ChannelConnection, name_of


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


@pytest.mark.parametrize(
    "options",
    [{}, {"token": "a", "anybody": True}, {"token": "a", "tenants": [Tenant(tokens=("b",))]}, {"tenants": [Tenant()]}],
)
def test_who_may_call_must_be_said(options: dict) -> None:
    with pytest.raises(avlab.ConfigError, match="token"):
        PeerExecutor(**options)
