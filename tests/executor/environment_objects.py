"""What tests of environments run in sessions."""

import sys
from typing import Any


class Inside:
    """Looks around in its worker."""

    def module(self, name: str) -> list[str]:
        """Version and file of a module."""
        module = __import__(name)
        return [str(getattr(module, "__version__", "")), str(module.__file__)]

    def attribute(self, module: str, name: str) -> Any:
        """An attribute of a module, imported now."""
        __import__(module)
        return getattr(sys.modules[module], name)

    def files(self, name: str) -> list[str]:
        """The files of a package that are imported."""
        modules = [module for full, module in sys.modules.items() if full.partition(".")[0] == name]
        return [file for module in modules if (file := getattr(module, "__file__", None))]

    def write(self, path: str) -> int:
        """The errno of writing there, 0 if it succeeds."""
        try:
            with open(path, "w"):
                return 0
        except OSError as error:
            return error.errno or -1

    def numbers(self, count: int) -> Any:
        """An array."""
        import numpy

        return numpy.arange(count)

    def plot(self) -> list[Any]:
        """matplotlib with its fonts, imported now: whether they were looked for, and that a figure can be drawn."""
        import io
        import logging

        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("matplotlib").addHandler(handler)
        import matplotlib.pyplot as plt

        buffer = io.BytesIO()
        plt.figure().text(0, 0, "x")
        plt.savefig(buffer, format="png")
        return [said, len(buffer.getvalue())]
