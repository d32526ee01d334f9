"""What a config refuses, whatever it is given."""

import math

import pytest
from avlab_kernel.options import REMOTE, limits, pairs
from IPython.core.error import UsageError

import avlab
from avlab import RemoteExecutorConfig
from avlab.core.errors import ConfigError
from avlab.remote.latest import Latest

ODD = (True, -1, 1.5, math.nan, b"x", [1], object())


@pytest.mark.parametrize("name", ["host", "protocol", "auth", "tier", "python", "delivery"])
@pytest.mark.parametrize("given", ODD, ids=lambda given: type(given).__name__)
def test_what_is_text_is_nothing_else(name, given) -> None:
    with pytest.raises(ConfigError, match=f"{name}= is text") as caught:
        RemoteExecutorConfig(**{name: given})
    assert repr(given) not in str(caught.value)


@pytest.mark.parametrize("tier", ["moon", "Landlock", " "])
def test_a_tier_that_is_none_is_refused_where_it_is_said(tier) -> None:
    words = "no isolation tier: write one of gvisor, namespaces, landlock, process"
    for say in (
        lambda: RemoteExecutorConfig(tier=tier),
        lambda: avlab.connect("grpc://127.0.0.1:1", tier=tier),
        lambda: RemoteExecutorConfig().with_limits({"tier": tier}),
    ):
        with pytest.raises(ConfigError, match=words):
            say()
    with pytest.raises(UsageError, match=words):
        limits(REMOTE.parse(f"--tier {tier!r}"))


@pytest.mark.parametrize("url", ["grpc://user:hidden@host", "https://user:hidden@host/x", "grpc://a:hidden@[::1:1", "docker:a:hidden@b"])
def test_credentials_in_a_url_are_refused_and_not_shown(url) -> None:
    with pytest.raises(ConfigError, match="no credentials") as caught:
        RemoteExecutorConfig.from_url(url)
    assert "hidden" not in str(caught.value)


def test_a_token_of_digits_is_text() -> None:
    assert pairs(["auth=12345", "timeout=5", "grace=0.5", "x=true"]) == {"auth": "12345", "timeout": 5, "grace": 0.5, "x": True}


@pytest.mark.parametrize("given", [None, *ODD[:4], object()], ids=lambda given: type(given).__name__)
def test_requirements_and_limits_are_what_they_are(given) -> None:
    with pytest.raises(ConfigError, match="pip="):
        RemoteExecutorConfig(pip=given)
    with pytest.raises(ConfigError, match="limits="):
        RemoteExecutorConfig(limits=given)


@pytest.mark.parametrize("size", ["9" * 400, "9" * 310 + "T", 10**400, "-1", "", "nan", True])
def test_a_size_that_is_no_number_is_refused(size) -> None:
    with pytest.raises(ConfigError):
        RemoteExecutorConfig(limits={"memory": size})


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="Invalid IPv6"):
        avlab.connect("grpc://[::1:7411")


@pytest.mark.parametrize("depth", [0, -1, 1.5, math.nan, "1", True, None])
def test_a_live_stream_keeps_at_least_one_item(depth) -> None:
    with pytest.raises(ConfigError, match="one item is kept at least"):
        Latest([], {"video": depth}, lambda dropped: None)
