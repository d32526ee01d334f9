"""What stands in a pipeline for a remote object."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from typing import Any

from avlab.core.errors import PipelineError
from avlab.core.node import consumes
from avlab.remote.nodes import RemoteNode

from .handle import Handle


def node_of(owner: object, handle: Handle, like: object) -> Any:
    """The node of a remote object. ``like`` has the annotations of its class; ``owner`` lives as long as the node."""
    node = handle.node() if handle.node is not None else None
    if node is not None:
        return node  # one object is one node, however often it is asked for
    if callable(getattr(like, "process", None)):
        # Statistics and errors call a node by its class's name.
        node = type(handle.name, (_Remote,), {})(owner, handle, consumes(like))
    elif callable(getattr(like, "items", None)):
        node = type(handle.name, (_Source,), {})(owner, handle)
    else:
        raise PipelineError(f"{handle.made} is not a node: it has neither process(value) nor items()")
    handle.node = weakref.ref(node)
    return node


def likeness(original: type) -> object:
    """An object with the annotations of the class's node methods and nothing else: none of its own code runs here."""
    names = ("process", "items", "consumes")
    found = {n: inspect.getattr_static(original, n) for n in names if hasattr(original, n)}
    like: object = type(original.__name__, (), {"__qualname__": original.__qualname__, **found})()
    return like


class _Remote(RemoteNode):
    """Runs the object's ``process``; the session belongs to the object, not to the pipeline."""

    def __init__(self, owner: object, handle: Handle, takes: tuple[type, ...] | None) -> None:
        super().__init__(handle.session, consumes=takes, name=handle.name, owned=False)
        self._owner = owner  # unreferenced objects lose their session
        self._made = handle.made

    def __repr__(self) -> str:
        return f"<remote {self._made}>"


class _Source:
    """A remote object that makes items from nothing."""

    def __init__(self, owner: object, handle: Handle) -> None:
        self._owner, self._handle = owner, handle
        self.name = handle.name

    def __repr__(self) -> str:
        return f"<remote {self._handle.made}>"

    def items(self) -> Iterator[Any]:
        """The values that the object's ``items`` yields."""
        return self._handle.iterate(self._owner, "items", (), {})
