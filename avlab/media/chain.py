"""Chains of FFmpeg filters: written as FFmpeg writes them, or as a list."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import av
import av.filter

from avlab.core.errors import ConfigError

Step = tuple[str, str]
"""Name of a filter and its options, ``name=value`` pairs joined by colons."""


def parse_chain(chain: str | Sequence[Any]) -> tuple[Step, ...]:
    """The steps of a chain.

    chain: text as for ffmpeg's -vf and -af (``"hflip,eq=brightness=0.1"``, quotes and backslashes as there), or a list whose
    entries are names or pairs of a name and its options, these as text or as a dict of values taken literally.
    Raises ConfigError for an unknown filter (with close matches), bad syntax, labels and several chains.
    """
    steps = _split(chain) if isinstance(chain, str) else [_step(entry) for entry in chain]
    if not steps:
        raise ConfigError("a chain of filters is empty: name at least one filter")
    for name, _ in steps:
        check_filter(name)
    return tuple(steps)


def check_filter(name: str) -> None:
    """Raises ConfigError with close matches for a name that this FFmpeg has no filter of."""
    if name in av.filter.filters_available:
        return
    close = difflib.get_close_matches(name, av.filter.filters_available, 3, 0.6)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise ConfigError(f"no filter is named {name!r} in FFmpeg {av.ffmpeg_version_info}{hint}")


def option_text(options: Mapping[str, Any]) -> str:
    """Options as FFmpeg reads them, values quoted where they hold special characters."""
    return ":".join(f"{key}={_escape(value)}" for key, value in options.items())


def _escape(value: Any) -> str:
    text = str(int(value)) if isinstance(value, bool) else str(value)
    return "".join("\\" + c if c in "\\':" else c for c in text)


def _step(entry: Any) -> Step:
    if isinstance(entry, str):
        return entry, ""
    if not isinstance(entry, Sequence) or len(entry) != 2 or not isinstance(entry[0], str):
        raise ConfigError(f"{entry!r} is not a filter: write a name, or a pair of a name and its options")
    name, options = entry
    if isinstance(options, Mapping):
        return name, option_text(options)
    if isinstance(options, str) or options is None:
        return name, options or ""
    raise ConfigError(f"options of filter {name!r} are {options!r}: write text (name=value:…) or a dict")


def _split(text: str) -> list[Step]:
    """Cut at commas outside quotes; one level of quotes and backslashes goes, as in FFmpeg's own parser."""
    steps: list[Step] = []
    part, kept, quoted, position = "", 0, False, 0
    while position <= len(text):
        c = text[position : position + 1]
        position += 1
        if quoted:
            if not c:
                raise ConfigError(f"a quote is not closed in the filter chain {text!r}")
            quoted = c != "'"
            part += c if quoted else ""
            kept = len(part)
        elif c in ("", ","):
            steps.append(_cut(part[: max(kept, len(part.rstrip()))].lstrip(), text))
            part, kept = "", 0
        elif c == "'":
            quoted = True
        elif c == "\\":
            part += text[position : position + 1]
            kept, position = len(part), position + 1
        elif c in "[];":
            raise ConfigError(
                f"{c!r} in the filter chain {text!r}: one chain without labels is meant; quote it if it is text"
            )
        else:
            part += c
    return steps


def _cut(part: str, text: str) -> Step:
    name, _, options = part.partition("=")
    name = name.strip().partition("@")[0]
    if not name:
        raise ConfigError(f"a filter without a name in the chain {text!r}")
    return name, options.lstrip()
