"""The loop of live media."""

import threading

from avlab.media.runtime import MediaRuntime


def test_work_that_is_dropped_unbegun_leaves_no_warning(recwarn):
    runtime, held = MediaRuntime(), threading.Event()

    async def hold() -> None:
        held.wait(5)

    async def work() -> None:
        raise AssertionError("it began")

    runtime.start(hold())
    runtime.post(work())
    closing = threading.Thread(target=runtime.close)
    closing.start()
    held.set()
    closing.join(5)
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_what_work_raises_that_nobody_waits_for_is_logged(caplog):
    runtime = MediaRuntime()

    async def work() -> None:
        raise ValueError("of no use")

    async def nothing() -> None:
        pass

    runtime.post(work())
    runtime.run(nothing(), 5)
    runtime.close()
    assert "of no use" in caplog.text
