"""The latch."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from avlab.core.latch import Latch

SOON = 10.0


def test_it_lets_everybody_go_once_and_for_all():
    latch = Latch()
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(latch.wait, SOON) for _ in range(8)]
        setting = [pool.submit(latch.set) for _ in range(8)]
        assert all(each.result(SOON) for each in waiting)
        assert not any(each.result(SOON) for each in setting)
    assert latch.is_set()
    assert latch.wait()


def test_it_times_out():
    latch = Latch()
    assert not latch.wait(0)
    assert not latch.wait(0.01)
    assert not latch.is_set()


def test_interrupts_at_any_moment_leave_it_working():
    """Every wait is interrupted at another moment; afterwards it can still be set and waited for."""
    for _ in range(200):
        latch, go = Latch(), threading.Event()

        def interrupt(go=go):
            go.wait(SOON)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            go.set()
            while True:
                latch.wait(0.001)
        thread.join(SOON)
        latch.set()
        assert latch.wait(SOON)
