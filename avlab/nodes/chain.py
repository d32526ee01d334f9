"""What the nodes on filter chains have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av

from avlab.core.node import Node
from avlab.media.chain import Step, parse_chain
from avlab.media.graph import FilterGraph
from avlab.media.stamp import Stamper, continued


class ChainNode(Node):
    """Base of nodes that push frames through a chain of filters, made anew when their parameters change."""

    _graph: FilterGraph | None = None
    _made_of: tuple[Any, ...] = ()
    _sound_end: Fraction | None = None

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

    @abstractmethod
    def _steps(self) -> Sequence[Step]:
        """The chain that the parameters ask for. Raises ConfigError."""

    def _through(self, frame: Any, made_of: tuple[Any, ...], threads: int = 1) -> Iterator[Any]:
        """What comes out once ``frame`` has gone in; ``made_of``: the parameters as they are now."""
        if self._graph is None or made_of != self._made_of:
            yield from self.flush()
            self._graph, self._made_of = FilterGraph(self._steps(), threads), made_of
        yield from self._graph.push(self._in_samples(frame) if isinstance(frame, av.AudioFrame) else frame)

    def _in_samples(self, frame: Any) -> Any:
        """Sound with times in samples: the filters would take ticks of milliseconds, rounded as they are, for gaps and overlaps."""
        rate, base = frame.sample_rate, frame.time_base
        if frame.pts is None or not rate or not base or base <= Fraction(1, rate):
            return frame
        begin = continued(frame.pts * base, self._sound_end, base, rate)
        self._sound_end = begin + Fraction(frame.samples, rate)
        return Stamper()(frame, round(begin * rate), Fraction(1, rate))


class FilterNode(ChainNode):
    """Base of VideoFilter and AudioFilter."""

    filter: Any
    threads: int = 1

    def _steps(self) -> Sequence[Step]:
        return parse_chain(self.filter)
