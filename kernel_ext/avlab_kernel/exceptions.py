"""Exception classes with methods of the cell's own: they can be named here, and are made where the cell's code runs."""

from __future__ import annotations

import builtins
from typing import Any

from avlab.core.errors import nearest_builtin

from .home import Home
from .kinds import Kind, defined
from .tracebacks import CannotBeRemote


class ExceptionTwin(type):
    """The type of what stands here for such a class. Nothing of the original runs: not made, not extended, without its methods."""

    __avlab_stands_for__ = True
    __avlab__: Kind

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        raise CannotBeRemote(
            f"{name} cannot extend {bases[0].__name__} in a plain cell: its methods would run here. Put %%remote on the first line of "
            "this cell"
        )

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise CannotBeRemote(
            f"{cls.__name__} is raised by remote code only, because its methods would run here: to raise it here as well, define it "
            "in a plain cell or a module"
        )

    def __getattr__(cls, name: str) -> Any:
        if name in defined(cls.__avlab__.original):
            raise CannotBeRemote(f"{cls.__name__}.{name} exists in remote code only: define the class in a plain cell or a module")
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")

    def __repr__(cls) -> str:
        return f"<remote exception {cls.__name__}>"


def exception_twin(original: type[BaseException], home: Home) -> Any:
    """What stands for ``original`` here: an exception class that is the builtin which it derives from."""
    namespace = {
        "__avlab__": Kind(original, home, settings=False),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    made = type.__new__(ExceptionTwin, original.__name__, (getattr(builtins, nearest_builtin(original)),), namespace)
    home.desk.stand(original, made)
    return made
