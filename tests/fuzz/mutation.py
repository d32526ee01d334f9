"""Seeded damage: bytes and JSON values that are almost right, or not at all. How much, and from which seed, is for the environment."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import psutil

CASES = int(os.environ.get("AVLAB_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("AVLAB_FUZZ_SEED", "20240229"))

_NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    255,
    256,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 63,
    -(1 << 63),
    1 << 64,
    10**30,
]
_ODD = [
    None,
    True,
    False,
    "",
    "x",
    "\0",
    "\ud800",
    "é" * 50,
    "x" * 5000,
    [],
    {},
    [[]],
    {"": None},
    0.5,
    -0.0,
    1e308,
    float("inf"),
]


def dice(*names: object) -> random.Random:
    """Numbers for one test, the same in every run with the same seed."""
    return random.Random(f"{SEED} {names}")


def damaged(data: bytes, of: random.Random, others: list[bytes] = [b""]) -> bytes:  # noqa: B006  never changed
    """The bytes with one to six faults: flipped, cut, doubled, moved, overwritten with numbers, mixed with others."""
    out = bytearray(data)
    for _ in range(of.choice((1, 1, 1, 2, 3, 6))):
        at, end = sorted((of.randrange(len(out) + 1), of.randrange(len(out) + 1)))
        match of.randrange(8):
            case 0 if out:
                out[of.randrange(len(out))] ^= 1 << of.randrange(8)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end][: 1 << 12]
            case 3:
                out[at:at] = of.randbytes(of.randrange(1, 20))
            case 4:
                out[at:end] = _varint(of.choice(_NUMBERS) & (1 << 70) - 1)
            case 5:
                del out[at:]
            case 6:
                other = of.choice(others)
                out[at:] = other[of.randrange(len(other) + 1) :]
            case _ if out:
                out[of.randrange(len(out))] = of.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(out)


def twisted(value: Any, of: random.Random) -> Any:
    """A copy of a JSON value with one to three faults: a part replaced, left out, doubled, put elsewhere."""
    out = json.loads(json.dumps(value))
    for _ in range(of.choice((1, 1, 2, 3))):
        places = list(_places(out))
        if not places:
            return strange(of)
        holder, key = of.choice(places)
        match of.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 2 if isinstance(holder, dict):
                holder[of.choice(("", "x", "kind", "to", "join", "\0"))] = holder.pop(key)
            case 3:
                other, place = of.choice(places)
                holder[key] = json.loads(json.dumps(_at(other, place)))
            case _:
                holder[key] = strange(of)
    return out


def strange(of: random.Random) -> Any:
    """A JSON value that nobody expects."""
    return copy.deepcopy(of.choice((of.choice(_ODD), of.choice(_NUMBERS), [of.choice(_ODD)] * of.randrange(4))))


def as_text(value: Any) -> str:
    """JSON, also of what JSON cannot say."""
    return json.dumps(value)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _at(holder: Any, key: Any) -> Any:
    try:
        return holder[key]
    except (KeyError, IndexError):  # changed by an earlier fault
        return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def grown(work: Callable[[], object]) -> int:
    """Bytes that this process uses more after ``work``, at its peak since the last look."""
    process = psutil.Process()
    before = process.memory_info().rss
    work()
    return int(process.memory_info().rss - before)
