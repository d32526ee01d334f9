"""Structured results beside or over the picture: boxes, masks, text, numbers, at the time that they belong to."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeGuard

from avlab.core.item import Item
from avlab.media.rtc.view_masks import is_mask, painted
from avlab.media.rtc.view_messages import Send
from avlab.media.rtc.view_time import PICTURE_TICKS

MOST_BOXES = 100
LONGEST = 500  # characters of one text
_MOST_FIELDS = 24  # of one mapping


class Results:
    """Turns values into what a view can draw and sends it: never more than views look at, nothing is kept but counts.

    A box is a mapping with ``box`` (or ``bbox``) of x, y, width, height in pixels of the picture, or in parts of it when all
    are at most 1, and optionally ``label`` and ``score``. Numbers become figures with a running plot, text becomes lines,
    mappings become tables, but for their ``boxes``, ``masks``, ``text``, ``level`` and ``levels``: a level is a number from 0 to 1,
    several are a mapping of names to them or a list, and they become bars.
    """

    def __init__(self, send: Send, time_of: Callable[[Item], int | None]) -> None:
        self._send, self._time_of, self._lock = send, time_of, threading.Lock()
        self.count = 0
        self.wanted = False
        """Whether any view is open."""

    def put(self, item: Item) -> None:
        """One result; sent at once when somebody looks, with its time, so that the view draws it where it belongs."""
        with self._lock:
            self.count += 1
        if self.wanted:
            time = self._time_of(item)
            pts = None if time is None else time // PICTURE_TICKS
            parts = drawn(item.value)
            masks = parts.pop("masks", None)
            image = [painted(masks)] if masks else []
            self._send({"type": "result", "pts": pts, "track": item.track, **parts}, image)


def drawn(value: Any) -> dict[str, Any]:
    """What of a value can be drawn: any of ``boxes``, ``text``, ``number``, ``levels`` and ``table``, as JSON values; ``masks`` as
    arrays."""
    value = _fields(value)
    if is_mask(value):
        return {"masks": [value]}
    if isinstance(value, str):
        return {"text": value[:LONGEST]}
    if isinstance(value, bool):
        return {"table": {"value": str(value)}}
    if isinstance(value, Real):
        return {"number": float(value)} if _is_number(value) else {"text": str(value)}
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        found = _boxes(value)
        if found or not value:
            return found or {"boxes": []}
    return {"text": f"{type(value).__name__}: {value!s}"[:LONGEST]}


def _fields(value: Any) -> Any:
    """A dataclass as a mapping of its fields; anything else as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    one = _boxes([value])
    if "boxes" in one:
        return one
    parts: dict[str, Any] = {}
    masks, table = one.get("masks", []), {}
    for name, each in list(value.items())[:_MOST_FIELDS]:
        if name == "mask" and is_mask(each):
            continue
        if name == "masks" and _is_list(each):
            masks = masks + [mask for mask in each if is_mask(mask)]
        elif name == "boxes" and _is_list(each):
            found = _boxes(each)
            parts["boxes"], masks = found.get("boxes", []), masks + found.get("masks", [])
        elif name == "text" and isinstance(each, str):
            parts["text"] = each[:LONGEST]
        elif name in ("level", "levels") and (levels := _levels(each)):
            parts["levels"] = parts.get("levels", {}) | levels
        else:
            table[str(name)[:40]] = f"{each:.4g}" if isinstance(each, float) else str(each)[:80]
    return {**parts, **({"masks": masks} if masks else {}), **({"table": table} if table else {})}


def _levels(value: Any) -> dict[str, float]:
    """Names and levels, empty when it is none; what lies outside of 0 to 1 is shown as the end that it is beyond."""
    if isinstance(value, Real):
        value = {"level": value}
    elif _is_list(value):
        value = {str(number): each for number, each in enumerate(value, 1)}
    levels = dict(list(value.items())[:_MOST_FIELDS]) if isinstance(value, Mapping) else {}
    if not all(map(_is_number, levels.values())):
        return {}
    return {str(name)[:40]: min(1.0, max(0.0, float(each))) for name, each in levels.items()}


def _is_number(value: Any) -> TypeGuard[float]:
    """JSON, and so a browser, knows no others."""
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _boxes(values: Sequence[Any]) -> dict[str, Any]:
    """The boxes and masks of a list, each key only if there are any."""
    each = [_fields(value) for value in values[:MOST_BOXES]]
    boxes = [box for value in each if (box := _box(value)) is not None]
    own = [value.get("mask") if isinstance(value, Mapping) else value for value in each]
    masks = [mask for mask in own if is_mask(mask)]
    return {**({"boxes": boxes} if boxes else {}), **({"masks": masks} if masks else {})}


def _box(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    corners = value.get("box", value.get("bbox"))
    try:
        numbers = [float(number) for number in (() if corners is None else corners)]
    except (TypeError, ValueError, OverflowError):
        return None
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return None
    label, score = str(value.get("label", ""))[:60], value.get("score")
    return {"box": numbers, "label": label, "score": float(score) if _is_number(score) else None}
