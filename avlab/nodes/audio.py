"""Nodes on sound: AudioConvert, Resample, AudioFilter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from avlab.core.errors import ConfigError
from avlab.media.chain import Step, option_text
from avlab.nodes.chain import ChainNode, FilterNode


class AudioConvert(ChainNode):
    """Converts sound to a sample format ("s16", "fltp" …), channel layout ("mono", "stereo", "5.1" …) and rate in Hz.

    What is None stays as it is; pts go on in samples of the new rate. No sample is lost: the resampler's delay comes out at the
    end. Raises ConfigError for formats, layouts and rates that do not exist.
    """

    format: str | None = None
    layout: str | None = None
    rate: int | None = None

    def process(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """The frames that are ready once this one has gone in: usually one, none while the resampler fills."""
        yield from self._through(frame, (self.format, self.layout, self.rate))

    def _steps(self) -> list[Step]:
        options: dict[str, Any] = {}
        if self.format is not None:
            options["sample_fmts"] = _existing(av.AudioFormat, self.format, "sample format", "s16, fltp, flt, s32")
        if self.layout is not None:
            options["channel_layouts"] = _existing(
                av.AudioLayout, self.layout, "channel layout", "mono, stereo, 5.1, 7.1"
            )
        if self.rate is not None:
            options["sample_rates"] = _possible(self.rate)
        return [("aformat", option_text(options)) if options else ("anull", "")]


class Resample(ChainNode):
    """Resamples sound to ``rate`` Hz (FFmpeg's libswresample); format and layout stay, pts count samples of the new rate.

    No sample is lost: the resampler's delay comes out at the end. Raises ConfigError for a rate that cannot be.
    """

    rate: int

    def process(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """The frames that are ready once this one has gone in: usually one, none while the resampler fills."""
        yield from self._through(frame, (self.rate,))

    def _steps(self) -> list[Step]:
        return [("aformat", option_text({"sample_rates": _possible(self.rate)}))]


class AudioFilter(FilterNode):
    """Any chain of FFmpeg's audio filters: ``AudioFilter("highpass=f=200,volume=0.5")``.

    filter: text as for ffmpeg's -af, or a list of names and [name, options] pairs (options as text or a dict). threads: how
    many threads a filter may use, 0 for one per core. Filters may hold sound back and change its rate; some make pictures of
    it. A new input format or a new value of ``filter`` begins the chain anew. Raises ConfigError for unknown filters (with
    close matches) and wrong options, MediaError for frames that they cannot take.
    """

    def process(self, frame: av.AudioFrame) -> Iterator[Any]:
        """The frames that come out once this one has gone in."""
        yield from self._through(frame, (self.filter, self.threads), self.threads)


def _existing(kind: Any, name: Any, what: str, usual: str) -> str:
    try:
        kind(name)
    except (ValueError, TypeError):
        raise ConfigError(f"no {what} is named {name!r}; usual ones: {usual}") from None
    return str(name)


def _possible(rate: Any) -> int:
    if type(rate) is not int or not 1000 <= rate <= 768000:
        raise ConfigError(f"sample rate {rate!r} is not a number of Hz from 1000 to 768000")
    return rate
