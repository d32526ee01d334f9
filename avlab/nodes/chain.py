"""What the nodes on filter chains have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from avlab.core.node import Node
from avlab.media.chain import Step, parse_chain
from avlab.media.graph import FilterGraph


class ChainNode(Node):
    """Base of nodes that push frames through a chain of filters, made anew when their parameters change."""

    _graph: FilterGraph | None = None
    _made_of: tuple[Any, ...] = ()

    def open(self) -> None:
        """Check the parameters."""
        self._steps()

    def flush(self) -> Iterator[Any]:
        """The frames that the filters still hold."""
        if self._graph is not None:
            yield from self._graph.flush()

    def close(self) -> None:
        """Free the filters."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _steps(self) -> Sequence[Step]:
        """The chain that the parameters ask for. Raises ConfigError."""
        raise NotImplementedError

    def _through(self, frame: Any, made_of: tuple[Any, ...], threads: int = 1) -> Iterator[Any]:
        """What comes out once ``frame`` has gone in; ``made_of``: the parameters as they are now."""
        if self._graph is None or made_of != self._made_of:
            yield from self.flush()
            self._graph, self._made_of = FilterGraph(self._steps(), threads), made_of
        yield from self._graph.push(frame)


class FilterNode(ChainNode):
    """Base of VideoFilter and AudioFilter."""

    filter: Any
    threads: int = 1

    def _steps(self) -> Sequence[Step]:
        return parse_chain(self.filter)
