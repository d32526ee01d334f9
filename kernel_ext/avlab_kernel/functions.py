"""Remote functions: one session per function, opened on the first call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from avlab.core.errors import ConfigError, PipelineError
from avlab.core.node import join, node
from avlab.remote.construct import same

from . import nodes
from .handle import Handle
from .home import Home
from .operators import forwarder
from .proxy import is_dunder


class RemoteFunction:
    """Calls ``original`` in a session of its own, in its own shape: coroutine functions give coroutines, and so on.

    In a pipeline it is a node that takes one value.
    """

    __avlab_stands_for__ = True

    def __init__(self, original: Callable[..., Any], home: Home) -> None:
        functools.update_wrapper(self, original)
        self.__avlab__ = SimpleNamespace(original=original)
        name = getattr(original, "__name__", type(original).__name__)
        # A node calls it through ``process``, everybody else through ``function``: one session serves both.
        self._node = _as_node(original)
        self._handle = Handle(home, name, name, lambda: home.function(original, self._node is not None))
        self._call = forwarder("__call__" if self._node is None else "function", original, self._find)
        home.desk.adopt(self, self._handle)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._call(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        text = f"the remote function {type(self).__name__ if is_dunder(name) else self._handle.made} has no attribute {name!r}"
        if not is_dunder(name) and hasattr(self.__avlab__.original, name):
            text = f"{name} of the remote function {self._handle.made} exists in remote code only: use it inside of the %%remote cell"
        raise AttributeError(text, name=name, obj=self)

    def _find(self, value: Any, name: str) -> Handle:
        return self._handle

    def __avlab_node__(self) -> Any:
        """The node that stands in a pipeline for this function. Raises PipelineError if it takes no single value."""
        if self._node is None:
            raise PipelineError(
                f"{self._handle.made} cannot be a node: it must take one value, with defaults for the rest"
            )
        return nodes.node_of(self, self._handle, self._node)

    def __rshift__(self, other: object) -> Any:
        return join.pipeline([self, other])

    def __rrshift__(self, other: object) -> Any:
        return join.pipeline([other, self])

    def __reduce_ex__(self, protocol: object) -> Any:
        return same, (self.__avlab__.original,)

    def __repr__(self) -> str:
        return f"<remote function {self._handle.made}>"


def _as_node(original: Callable[..., Any]) -> Any:
    try:
        taken = [p for p in inspect.signature(original).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):  # a callable of C code has no signature
        return None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if len([p for p in taken if p.kind not in variable]) != 1 or not inspect.isfunction(original):
        return None
    try:
        return node(original)()
    except ConfigError:
        return None
