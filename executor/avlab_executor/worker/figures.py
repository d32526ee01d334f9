"""A matplotlib backend: ``plt.show()`` sends each open figure to the caller as PNG. Loaded by user code that plots."""

from __future__ import annotations

import io
from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase, _Backend
from matplotlib.backends.backend_agg import FigureCanvasAgg

from avlab_executor.worker import output


class FigureManager(FigureManagerBase):
    """Shows a figure by sending it."""

    def show(self) -> None:
        """Send the figure."""
        buffer = io.BytesIO()
        self.canvas.figure.savefig(buffer, format="png")
        output.show(buffer.getvalue())


class FigureCanvas(FigureCanvasAgg):
    """Agg, with our manager."""

    manager_class = FigureManager


@_Backend.export
class _BackendPng(_Backend):
    FigureCanvas = FigureCanvas
    FigureManager = FigureManager

    @classmethod
    def show(cls, *_: Any, **__: Any) -> None:
        for manager in Gcf.get_all_fig_managers():
            manager.show()
        Gcf.destroy_all()
