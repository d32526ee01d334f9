"""Home: where and how the definitions of one cell run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avlab.core.node import node
from avlab.remote.arguments import dataclasses_of
from avlab.remote.bundle import Packed, needing, pack, pack_source
from avlab.remote.construct import Construct
from avlab.remote.session import Session
from avlab.remote.stand_ins import original_of

from .handle import Handle
from .sessions import Desk
from .values import value_of

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_CONFIGURED = compile(
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


@dataclass(frozen=True)
class Home:
    """The options of a cell, its source, and the folder that its modules lie in."""

    desk: Desk
    base: Path
    sources: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    on: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def open(self, handle: Handle, target: object) -> Session:
        """A session on this cell's executor that holds what ``target`` makes."""
        executor = self.desk.executor(self.on)
        types = [] if isinstance(target, Packed) else [value_of(t, self) for t in dataclasses_of(target).values()]
        session = executor.open(self.pack(target), types=types, on_log=handle.feed, **self.limits)
        self.desk.opened()
        return session

    def pack(self, target: object) -> Packed:
        """The bundle of an object of this cell. Raises BundleError naming what cannot travel."""
        return pack(
            target,
            files=self.files,
            sources=self.sources,
            base=self.base,
            originals=original_of,
            missing_ok="pip" in self.limits,
        )

    def explain(self, target: object) -> str:
        """What would be sent, and what the executor would install, for an object of this cell."""
        packed = self.pack(target)
        needed = needing(packed.manifest, self.limits.get("pip", ()), self.limits.get("python", ""))
        return replace(packed, manifest=needed).explain()

    def instance(self, original: type, arguments: Arguments, settings: bool) -> object:
        """What makes an instance over there. ``settings``: the keyword arguments are attributes to set."""
        args, kwargs = arguments
        if not settings:
            return Construct(original, args, kwargs)
        # Pickled by value, under the class's name: where it runs, this package may not be installed.
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(_CONFIGURED, namespace)
        maker = namespace["configured"]
        maker.__name__ = maker.__qualname__ = original.__name__
        return Construct(maker, (original, kwargs))

    def function(self, original: Callable[..., Any], is_node: bool) -> object:
        """What a function's session holds: the function, or the node made of it."""
        return node(original)() if is_node else original


@dataclass(frozen=True)
class SourceHome(Home):
    """The home of a cell that is executed over there only: it travels as text, with the plain state that it reads."""

    state: Mapping[str, Any] = field(default_factory=dict)

    def pack(self, target: Any) -> Packed:
        """The bundle of a definition of this cell, or one that is packed already."""
        return target if isinstance(target, Packed) else self._source(target.__name__)

    def instance(self, original: type, arguments: Arguments, settings: bool) -> Packed:
        """The cell's text, and the arguments for its class."""
        name = original.__name__
        if not settings:
            return self._source(name, arguments)
        lines = f"def {_MADE}(**values):\n    made = {name}()\n    made.__dict__.update(values)\n    return made\n"
        return self._source(_MADE, arguments, lines)

    def function(self, original: Callable[..., Any], is_node: bool) -> Packed:
        """The cell's text, and how to make a node of its function."""
        name = original.__name__
        if not is_node:
            return self._source(name)
        return self._source(
            _MADE, ((), {}), f"from avlab.core.node import node as {_MADE}\n{_MADE} = {_MADE}({name})\n"
        )

    def _source(self, name: str, arguments: Arguments | None = None, more: str = "") -> Packed:
        (filename, text), *_ = self.sources.items()
        state = {n: v for n, v in self.state.items() if not n.startswith("_")}
        return pack_source(
            f"{text}\n{more}", filename, name, state=state, files=self.files, base=self.base, arguments=arguments
        )


_MADE = "__avlab_made__"
