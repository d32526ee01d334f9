"""What user code displays reaches the caller as PNG or as text, never as HTML."""

import threading

import avlab
from avlab.core.message import Log


class Plotter:
    def show(self) -> str:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([1, 2])
        display(figure)  # noqa: F821  a builtin in the worker, as in a notebook
        return "shown"

    def rich(self) -> None:
        class Html:
            def _repr_html_(self) -> str:
                return "<script>alert(1)</script>"

            def __repr__(self) -> str:
                return "plain"

        display(Html())  # noqa: F821


class Showing:
    """Shows pictures from a thread of its own while it works."""

    def __init__(self) -> None:
        self.thread = None

    def process(self, value: bytes) -> int:
        if self.thread is None:
            self.thread = threading.Thread(target=self.show)
            self.thread.start()
        return len(value)

    def show(self) -> None:
        class Picture:
            def _repr_png_(self) -> bytes:
                return b"\x89PNG\r\n\x1a\n" + bytes(400_000)

        for _ in range(60):
            display(Picture())  # noqa: F821

    def wait(self) -> None:
        self.thread.join()


def test_a_thread_that_shows_pictures_does_not_read_what_others_wait_for() -> None:
    logs: list[Log] = []
    results: list[int] = []
    with avlab.connect("local:") as executor, executor.open(Showing(), on_log=logs.append) as session:

        def use() -> None:
            results.extend(session.stream([bytes(7000)] * 1000))
            session.call("wait")

        user = threading.Thread(target=use, daemon=True)
        user.start()
        user.join(240)  # it would wait for ever
        assert not user.is_alive()
    assert results == [7000] * 1000
    assert sum(log.stream == "display" for log in logs) * 400_008 + sum(log.dropped for log in logs) == 60 * 400_008


def test_figures_come_as_png_and_everything_else_as_text() -> None:
    logs: list[Log] = []
    with avlab.connect("local:") as executor, executor.open(Plotter(), on_log=logs.append) as session:
        assert session.call("show") == "shown"
        pictures = [log for log in logs if log.stream == "display"]
        assert [log.mime for log in pictures] == ["image/png"]
        assert pictures[0].data.startswith(b"\x89PNG\r\n\x1a\n")
        logs.clear()
        session.call("rich")
    assert b"".join(log.data for log in logs).decode() == "plain\n"
