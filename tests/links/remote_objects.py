"""What the tests of the links run on the other bank. Imports nothing that a worker does not have."""

import asyncio
import enum
import logging
import os
import sys
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field

GATE = threading.Event()
"""Opened by the tests where the object is in their own process; elsewhere they interrupt who waits at it."""


def at_the_gate() -> str:
    try:
        print("waiting", flush=True)
        GATE.wait()
    except KeyboardInterrupt:
        return "opened by an interrupt"
    return "opened"


Point = namedtuple("Point", "x y")


class Colour(str, enum.Enum):  # noqa: UP042  the kind whose str() is not its value
    RED = "red"


@dataclass
class Box:
    left: int
    name: str = "box"
    points: list = field(default_factory=list)


class Custom:
    """A class that has no codec."""

    def __init__(self, number: int) -> None:
        self.number = number


class Unruly:
    """Raises what pickling does not expect."""

    def __reduce__(self) -> str:
        raise LookupError("not me")


class Callee:
    """Methods to call."""

    def __init__(self) -> None:
        self.count = 0
        self.log: list[object] = []

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def gather(self, *args: object, **kwargs: object) -> tuple:
        return args, kwargs

    def same(self, value: object) -> object:
        return value

    def increase(self) -> int:
        self.count += 1
        return self.count

    def increase_by(self, number: int) -> int:
        self.count += number
        return self.count

    def total(self) -> int:
        return self.count

    def fail(self, kind: str, text: str) -> None:
        raise getattr(__builtins__, kind, None) or __builtins__[kind](text)

    def fail_in_parts(self, text: str, count: int = 0) -> None:
        if count:
            raise ExceptionGroup(text, [KeyError(n) for n in range(count)])
        raise ExceptionGroup(text, [KeyError("lost"), ExceptionGroup("inner", [ValueError("deep")])])

    def type_of(self, value: object) -> str:
        return type(value).__name__

    def number_of(self, value: Custom) -> int:
        return value.number

    def custom(self) -> Custom:
        return Custom(1)

    def box(self) -> Box:
        return Box(1, "result", [Box(2)])

    def me(self) -> "Callee":
        self.count += 1
        return self

    def both(self) -> list:
        return [self, 1]

    def sized(self, size: int) -> bytes:
        return bytes(size)

    def length(self, data: bytes) -> int:
        return len(data)

    def numbers(self, count: int):
        for number in range(count):
            self.count = number + 1
            yield number

    def opens(self, path: str):
        return open(path)

    def refuses(self, *args: object):
        raise ValueError(*args)

    def sums_up(self, numbers: list[int]):
        total = 0
        for number in numbers:
            total += number
            yield total
        return {"sum": total}

    def endless(self):
        number = 0
        while True:
            yield number
            number += 1

    def held_back(self):
        yield "first"
        yield at_the_gate()

    def breaks_after(self, count: int):
        yield from range(count)
        raise LookupError(f"after {count}")

    def say(self, text: str, to: str = "stdout") -> str:
        if to == "logging":
            logging.getLogger("remote").warning(text)
        else:
            print(text, file=getattr(sys, to))
        return "said"

    def flood(self, lines: int) -> int:
        for _ in range(lines):
            print("x" * 99)
        return lines

    def draw(self) -> str:
        from matplotlib import pyplot

        pyplot.plot([1, 2, 3])
        pyplot.show()
        return "drawn"

    def spin(self) -> None:
        while True:
            pass

    def spin_saying(self) -> None:
        print("spinning")
        self.spin()

    def say_and_sleep(self, text: str, seconds: float) -> str:
        print(text, flush=True)
        time.sleep(seconds)
        return text

    def one_then_spin(self):
        yield 1
        print("spinning", flush=True)
        self.spin()

    def stubborn(self) -> None:
        print("spinning")
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                continue

    def die(self, code: int) -> None:
        print("last words")
        os._exit(code)

    def die_answering(self, seconds: float) -> bytes:
        threading.Timer(seconds, os._exit, (9,)).start()
        return bytes(60 << 20)

    def crash(self) -> None:
        import ctypes

        ctypes.string_at(0)

    def leave(self) -> None:
        raise SystemExit(3)

    def base_exception(self) -> None:
        raise asyncio.CancelledError("of its own")

    async def later(self, value: object) -> object:
        await asyncio.sleep(0)
        return value

    async def forever(self) -> None:
        print("waiting")
        await asyncio.sleep(3600)

    async def numbers_later(self, count: int):
        for number in range(count):
            await asyncio.sleep(0)
            yield number

    async def endless_later(self):
        number = 0
        while True:
            await asyncio.sleep(0)
            yield number
            number += 1

    def frame(self, frame):
        plane = frame.to_ndarray()
        return frame.width, frame.height, frame.pts, int(plane.sum())

    def pid(self) -> int:
        return os.getpid()

    def allocate(self, size: int) -> int:
        self.kept = bytearray(size)
        self.kept[::4096] = b"x" * len(self.kept[::4096])
        return len(self.kept)

    def write(self, size: int) -> int:
        with open("file", "wb") as stream:
            return stream.write(bytes(size))

    def files(self, count: int) -> int:
        kept = [open(os.devnull) for _ in range(count)]  # noqa: SIM115
        return len(kept)

    def forks(self, count: int) -> int:
        made = []
        for _ in range(count):
            pid = os.fork()
            if not pid:
                time.sleep(60)
                os._exit(0)
            made.append(pid)
        return len(made)

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


def twice(value):
    return 2 * value


class Double:
    factor: int = 2

    def process(self, value):
        return value * self.factor


@dataclass(frozen=True)
class Frozen:
    factor: int = 2

    def process(self, value):
        return value * self.factor


class Text:
    """A node that takes one type."""

    def process(self, value: str) -> str:
        return value.upper()


class BreaksClosing:
    def process(self, value: int) -> int:
        return value

    def close(self) -> None:
        raise ValueError("not closed")


class Expand:
    def process(self, value):
        for step in range(value):
            yield value, step


class Endless:
    def process(self, value):
        number = 0
        while True:
            yield number
            number += 1


class HeldBack:
    def process(self, value):
        yield "first"
        yield at_the_gate()


class Drop:
    def process(self, value):
        return value if value % 2 else None


class FailsAt:
    def __init__(self, number: int) -> None:
        self.number = number

    def process(self, value):
        if value == self.number:
            raise ValueError(f"no {value}")  # the line that the traceback shows
        return value


class AsyncDouble:
    async def process(self, value):
        await asyncio.sleep(0)
        return 2 * value


class AsyncExpand:
    async def process(self, value):
        for step in range(value):
            await asyncio.sleep(0)
            yield step


class Sum:
    """Holds everything back until the end of its stream."""

    def __init__(self) -> None:
        self.total = 0

    def process(self, value):
        self.total += value

    def flush(self):
        total, self.total = self.total, 0
        return [total, "end"]


class Counting:
    """Says how many inputs it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def process(self, value):
        self.seen += 1
        return value

    def count(self) -> int:
        return self.seen


class Sleeper:
    def process(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


class Dies:
    def process(self, value):
        if value == 3:
            os._exit(7)
        return value


class Noisy:
    def process(self, value):
        print(value)
        return value


class Lifecycle:
    def open(self):
        print("opened")

    def process(self, value):
        return value

    def close(self):
        print("closed")


class OpensBadly:
    def open(self):
        raise OSError("no device")

    def process(self, value):
        return value


class Frames:
    """Mirrors video frames."""

    def process(self, frame):
        import av

        made = av.VideoFrame.from_ndarray(frame.to_ndarray()[:, ::-1].copy(), format=frame.format.name)
        return made


class SlowNoisy:
    def __init__(self) -> None:
        self.seen = 0

    def process(self, seconds: float) -> float:
        print(f"item {self.seen}", flush=True)
        self.seen += 1
        time.sleep(seconds)
        return seconds
