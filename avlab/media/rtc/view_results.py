"""Structured results beside or over the picture: boxes, masks, text, numbers, at the time that they belong to."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any

from avlab.core.item import Item
from avlab.media.rtc.encoder import PICTURE_BASE
from avlab.media.rtc.view_masks import is_mask, painted
from avlab.media.rtc.view_messages import Send

MOST_BOXES = 100
LONGEST = 500  # characters of one text
_MOST_FIELDS = 24  # of one mapping


class Results:
    """Turns values into what a view can draw and sends it: never more than views look at, nothing is kept but counts.

    A box is a mapping with ``box`` (or ``bbox``) of x, y, width, height in pixels of the picture, or in parts of it when all
    are at most 1, and optionally ``label`` and ``score``. Numbers become figures with a running plot, text becomes lines,
    mappings become tables, also a mapping's ``boxes`` and ``text``.
    """

    def __init__(self, send: Send, time_of: Callable[[Item], Fraction | None]) -> None:
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
            pts = None if time is None else int(time / PICTURE_BASE)
            parts = drawn(item.value)
            masks = parts.pop("masks", None)
            image = [painted(masks)] if masks else []
            self._send({"type": "result", "pts": pts, "track": item.track, **parts}, image)


def drawn(value: Any) -> dict[str, Any]:
    """What of a value can be drawn: any of ``boxes``, ``text``, ``number`` and ``table``, as JSON values; ``masks`` as arrays."""
    value = _fields(value)
    if is_mask(value):
        return {"masks": [value]}
    if isinstance(value, str):
        return {"text": value[:LONGEST]}
    if isinstance(value, bool):
        return {"table": {"value": str(value)}}
    if isinstance(value, Real):
        return {"number": float(value)}
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
        else:
            table[str(name)[:40]] = f"{each:.4g}" if isinstance(each, float) else str(each)[:80]
    return {**parts, **({"masks": masks} if masks else {}), **({"table": table} if table else {})}


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
        numbers = [float(number) for number in corners or ()]
    except (TypeError, ValueError):
        return None
    if len(numbers) != 4:
        return None
    label, score = str(value.get("label", ""))[:60], value.get("score")
    return {"box": numbers, "label": label, "score": float(score) if isinstance(score, Real) else None}
