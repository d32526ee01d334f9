"""What user code displays reaches the caller as PNG or as text, never as HTML."""

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
