"""Limits over gRPC, and that one session's work is not another's: what the tests of each tier leave out."""

import threading

import pytest
import remote_objects as far
from remote_objects import Callee

import avlab


def test_a_result_that_exceeds_the_output_is_not_delivered(local) -> None:
    with local.open(Callee(), output="1M") as session:
        assert len(session.call("sized", 600_000)) == 600_000
        with pytest.raises(avlab.LimitExceeded, match="output limit"):
            session.call("sized", 600_000)


def test_limits_hold_over_grpc_too(remote) -> None:
    for limits, method, arguments, reason in (
        ({"item_timeout": 0.4}, "sleep", (30,), "wall"),
        ({"session_timeout": 0.6}, "spin", (), "wall"),
        ({"cpu_seconds": 1}, "spin", (), "cpu"),
        ({"output": 100_000}, "sized", (200_000,), "output"),
    ):
        with remote.open(Callee(), **limits) as session:
            with pytest.raises(avlab.LimitExceeded) as caught:
                session.call(method, *arguments)
            assert (caught.value.reason, caught.value.first_undelivered) == (reason, 1)
    with remote.open(far.Sleeper(), item_timeout=0.4) as session, pytest.raises(avlab.LimitExceeded):
        list(session.stream(iter([0.1, 30.0])))
    with pytest.raises(avlab.LimitExceeded):
        remote.execute(Callee(), "sleep", 30, item_timeout=0.4)


def test_a_busy_session_does_not_hold_up_another(local, remote) -> None:
    """While one spins, another answers; what counts is that all answers come before the first one's end."""
    for executor in (local, remote):
        with executor.open(Callee(), on_log=lambda log: None) as busy, executor.open(Callee()) as other:
            ended = threading.Event()

            def spin(busy=busy, ended=ended) -> None:
                with pytest.raises(avlab.SessionError):
                    busy.call("spin")
                ended.set()

            thread = threading.Thread(target=spin)
            thread.start()
            assert [other.call("increase") for _ in range(200)] == list(range(1, 201))
            assert not ended.is_set()
            busy.close()
            thread.join(10)
