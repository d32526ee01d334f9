"""What stands in a pipeline for a remote object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avlab.core.errors import PipelineError
from avlab.core.node import consumes
from avlab.remote.construct import Construct
from avlab.remote.nodes import RemoteNode

from .handle import Handle


def node_of(owner: object, handle: Handle, like: object) -> Any:
    """The node of a remote object. ``like`` has the annotations of its class; ``owner`` lives as long as the node."""
    if callable(getattr(like, "process", None)):
        return _Remote(owner, handle, consumes(like))
    if callable(getattr(like, "items", None)):
        return _Source(owner, handle)
    raise PipelineError(f"{handle.made} is not a node: it has neither process(value) nor items()")


class _Remote(RemoteNode):
    """Runs the object's ``process``; the session belongs to the object, not to the pipeline."""

    def __init__(self, owner: object, handle: Handle, takes: tuple[type, ...] | None) -> None:
        super().__init__(handle.session, consumes=takes, name=handle.name, owned=False)
        self._owner = owner  # unreferenced objects lose their session


class _Source:
    """A remote object that makes items from nothing."""

    def __init__(self, owner: object, handle: Handle) -> None:
        self._owner, self._handle = owner, handle
        self.name = handle.name

    def items(self) -> Iterator[Any]:
        """The values that the object's ``items`` yields."""
        return self._handle.iterate(self._owner, "items", (), {})


_CODE = compile(
    """
def configured(cls, values):
    made = cls()
    for name, value in values.items():
        setattr(made, name, value)
    return made
""",
    "<avlab>",
    "exec",
)


def configured(cls: type, values: dict[str, Any]) -> Construct:
    """Makes an instance of a class without ``__init__`` and sets its parameters, before it is opened as a node."""
    # Pickled by value, under the class's name: where it runs, this package may not be installed.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(_CODE, namespace)
    maker = namespace["configured"]
    maker.__name__ = maker.__qualname__ = cls.__name__
    return Construct(maker, (cls, values))
