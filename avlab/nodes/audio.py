"""Nodes on sound: AudioConvert, Resample, AudioFilter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from avlab.core.errors import ConfigError
from avlab.core.node import Node
from avlab.media.chain import option_text, parse_chain
from avlab.media.graph import FilterGraph


class AudioConvert(Node):
    """Converts sound to a sample format ("s16", "fltp" …), channel layout ("mono", "stereo", "5.1" …) and rate in Hz.

    What is None stays as it is; pts go on in samples of the new rate. No sample is lost: the resampler's delay comes out at the
    end. Raises ConfigError for formats, layouts and rates that do not exist.
    """

    format: str | None = None
    layout: str | None = None
    rate: int | None = None

    _graph: FilterGraph | None = None
    _form: tuple[Any, ...] = ()

    def open(self) -> None:
        """Check the parameters."""
        self._checked()

    def process(self, frame: av.AudioFrame) -> Iterator[Any]:
        """The frames that are ready once this one has gone in: usually one, none while the resampler fills."""
        form = self.format, self.layout, self.rate
        if self._graph is None or form != self._form:
            yield from self.flush()
            options = self._checked()
            self._graph = FilterGraph([("aformat", option_text(options)) if options else ("anull", "")])
            self._form = form
        yield from self._graph.push(frame)

    def flush(self) -> Iterator[Any]:
        """What the resampler still holds."""
        if self._graph is not None:
            yield from self._graph.flush()

    def close(self) -> None:
        """Free the converter."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _checked(self) -> dict[str, Any]:
        """Options of the filter aformat."""
        options: dict[str, Any] = {}
        if self.format is not None:
            options["sample_fmts"] = _existing(av.AudioFormat, self.format, "sample format", "s16, fltp, flt, s32")
        if self.layout is not None:
            options["channel_layouts"] = _existing(
                av.AudioLayout, self.layout, "channel layout", "mono, stereo, 5.1, 7.1"
            )
        if self.rate is not None:
            if type(self.rate) is not int or not 1000 <= self.rate <= 768000:
                raise ConfigError(
                    f"rate of {type(self).__name__} is {self.rate!r}, not a number of Hz from 1000 to 768000"
                )
            options["sample_rates"] = self.rate
        return options


class Resample(AudioConvert):
    """Resamples sound to ``rate`` Hz (FFmpeg's libswresample); format and layout stay unless given too."""

    rate: int
    format: str | None = None
    layout: str | None = None


class AudioFilter(Node):
    """Any chain of FFmpeg's audio filters: ``AudioFilter("highpass=f=200,volume=0.5")``.

    filter: text as for ffmpeg's -af, or a list of names and [name, options] pairs (options as text or a dict). threads: how
    many threads a filter may use, 0 for one per core. Filters may hold sound back and change its rate; some make pictures of
    it. A new input format or a new value of ``filter`` begins the chain anew. Raises ConfigError for unknown filters (with
    close matches) and wrong options, MediaError for frames that they cannot take.
    """

    filter: Any
    threads: int = 1

    _graph: FilterGraph | None = None
    _chain: tuple[Any, ...] = ()

    def open(self) -> None:
        """Read the chain."""
        parse_chain(self.filter)

    def process(self, frame: av.AudioFrame) -> Iterator[Any]:
        """The frames that come out once this one has gone in."""
        chain = self.filter, self.threads
        if self._graph is None or chain != self._chain:
            yield from self.flush()
            self._graph, self._chain = FilterGraph(parse_chain(self.filter), self.threads), chain
        yield from self._graph.push(frame)

    def flush(self) -> Iterator[Any]:
        """The frames that the filters still hold."""
        if self._graph is not None:
            yield from self._graph.flush()

    def close(self) -> None:
        """Free the filters."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None


def _existing(kind: Any, name: Any, what: str, usual: str) -> str:
    try:
        kind(name)
    except (ValueError, TypeError):
        raise ConfigError(f"no {what} is named {name!r}; usual ones: {usual}") from None
    return str(name)
