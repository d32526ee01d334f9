"""Words of another, as they may be shown."""

from __future__ import annotations

import re

MAX_TEXT = 64 << 10
"""Characters of a text, unless told otherwise."""
# C0 and C1 without tab and line break; marks and overrides of the direction of writing.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The same, but for what moves within a line, and for colours.
_HARMFUL = re.compile(r"(\x1b\[[0-9;:]{0,40}m)|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_SECRET = re.compile(r"(?:(://)[^/?#\s]*(?=@))|(?:(\btoken=)[^&\s]+)")


def cut(text: str, most: int = MAX_TEXT) -> str:
    """At most about ``most`` characters: the beginning and the end."""
    return text if len(text) <= most else text[: most // 2] + "\n[…]\n" + text[-most // 2 :]


def scrubbed(text: str, most: int = MAX_TEXT) -> str:
    """`cut`, and what steers a terminal or the direction of writing as an escape."""
    return _STEERING.sub(_escaped, cut(text, most))


def harmless(text: str) -> str:
    """Output of a program that another runs, for a terminal: colours, carriage returns and backspaces stay, nothing else that steers it."""
    return _HARMFUL.sub(lambda found: found[1] or _escaped(found), text)


def cell(text: str, most: int = 400) -> str:
    """`scrubbed`, on one line."""
    return " ".join(scrubbed(text, most).split())


def address(text: str) -> str:
    """A URL as it may be shown: without user and password, and without a token."""
    return _SECRET.sub(r"\1\2…", text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
