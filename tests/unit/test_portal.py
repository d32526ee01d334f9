"""The portal: coroutines on one loop thread, blocking calls from anywhere."""

import asyncio
import contextvars
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from avlab.core.errors import AvlabError, Cancelled, TimedOut
from avlab.core.portal import Portal, Scope

SOON = 10.0


@pytest.fixture
def portal():
    made = Portal("test:loop")
    yield made
    made.close()


async def echo(value):
    await asyncio.sleep(0)
    return value


async def forever(started=None, ended=None):
    try:
        if started:
            started.set()
        await asyncio.Event().wait()
    finally:
        if ended:
            ended.set()


def test_call_returns_and_raises(portal):
    async def fail():
        raise KeyError("no")

    assert portal.call(echo(3)) == 3
    with pytest.raises(KeyError, match="no"):
        portal.call(fail())


def test_it_starts_with_the_first_call_and_ends_with_close(portal):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "test:loop"]

    assert not threads()
    portal.call(echo(1))
    portal.start()
    assert len(threads()) == 1
    portal.close()
    portal.close()
    assert not threads()
    assert portal.call(echo(2)) == 2  # and again


def test_inside_a_running_loop(portal):
    async def main():
        return portal.call(echo("inside"))

    assert asyncio.run(main()) == "inside"


def test_from_several_threads_at_once(portal):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: portal.call(echo(n)), range(100))) == list(range(100))


def test_on_its_own_loop_it_refuses_instead_of_waiting_for_itself(portal):
    async def nested():
        return portal.call(echo(1))

    with pytest.raises(AvlabError, match="await the coroutine instead"):
        portal.call(nested())


def test_a_timeout_cancels(portal):
    ended = threading.Event()
    with pytest.raises(TimedOut, match=r"within 0\.01 s"):
        portal.call(forever(ended=ended), timeout=0.01)
    assert ended.is_set()


def test_a_coroutines_own_timeout_error_stays_its_own(portal):
    async def slow():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        portal.call(slow(), timeout=SOON)
    assert not isinstance(caught.value, AvlabError)


@pytest.mark.parametrize("wanted", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_coroutine_cannot_end_the_loop(portal, wanted):
    async def leave():
        raise wanted

    with pytest.raises(wanted):
        portal.call(leave())
    assert portal.call(echo("alive")) == "alive"


def test_an_interrupt_while_waiting_cancels_the_coroutine(portal):
    started, ended = threading.Event(), threading.Event()

    def interrupt():
        started.wait(SOON)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        portal.call(forever(started, ended))
    thread.join(SOON)
    assert ended.is_set()
    assert portal.call(echo(1)) == 1


def test_close_cancels_what_is_under_way(portal):
    started, ended = threading.Event(), threading.Event()
    call = portal.submit(forever(started, ended))
    assert started.wait(SOON)
    portal.close()
    assert ended.is_set()
    with pytest.raises(Cancelled):
        call.result()


def test_cancel_before_the_first_step(portal):
    blocked, go = threading.Event(), threading.Event()

    async def hold_the_loop():
        blocked.set()
        go.wait(SOON)

    portal.submit(hold_the_loop())
    assert blocked.wait(SOON)
    call = portal.submit(forever())
    call.cancel()
    go.set()
    assert call.wait(SOON)
    with pytest.raises(Cancelled):
        call.result()


def test_context_variables_of_the_caller_are_seen(portal):
    cell = contextvars.ContextVar("cell", default="none")

    async def read():
        return cell.get()

    cell.set("this one")
    assert portal.call(read()) == "this one"


def test_a_scope_cancels_its_own_calls_only(portal):
    mine, others = Scope(portal, grace=0.05), Scope(portal)
    started = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(mine, forever(started))
        assert started.wait(SOON)
        mine.cancel()
        with pytest.raises(Cancelled):
            hanging.result(SOON)
    assert others(echo(1)) == 1
    assert mine(echo("cleaning up")) == "cleaning up"
    with pytest.raises(Cancelled):
        mine(forever())


def test_a_forked_process_is_refused_clearly(portal):
    portal.call(echo(1))

    def child(pipe):
        try:
            portal.call(echo(2))
        except AvlabError as error:
            pipe.send(str(error))
        portal.close()

    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(far,))
    process.start()
    assert near.poll(SOON)
    assert "forked" in near.recv()
    process.join(SOON)
    assert process.exitcode == 0
    near.close()
    far.close()


def test_a_script_that_ends_with_the_portal_running_ends_quietly():
    script = """
        import asyncio
        from avlab.core.portal import portal
        print(portal.call(asyncio.sleep(0, "ok")))
    """
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
