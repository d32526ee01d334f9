"""What another side tells of errors and of times: whatever it is, it becomes an error that can be shown, and figures that are numbers."""

import builtins
import json
import traceback

import pytest
from mutation import CASES, dice, strange, twisted

from avlab.core import errors
from avlab.core.clock import FakeClock
from avlab.core.errors import AvlabError, ItemTooLarge, blame
from avlab.core.item import Item
from avlab.core.message import Failure, ItemMessage
from avlab.core.scrub import MAX_TEXT
from avlab.core.wire import decode_batch, encode_batch
from avlab.remote.failure import restore
from avlab.remote.statistics import Meter

TEXTS = ["", "x", "no", "\x1b[2J", "\u202egnp.exe", "<script>alert(1)</script>", "x\0y", "%s {0} {", "e" * 70_000, "\n" * 3000]
ARGS = [[2, "No such file", "/etc/passwd"], ["key"], [1, 2, 3, 4, 5, 6], [None] * 3, ["a", "b", "c", "d", "e"], [True, 1e308], ["\x1b[2J", "\u202e"]]


def names() -> list[str]:
    kinds = [name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, BaseException)]
    return [*kinds, *kinds, *dir(errors), *dir(builtins), "os.system", "", "\x1b[2J"]


def failure(of, kinds: list[str], depth: int = 0) -> Failure:
    args = json.dumps(twisted(of.choice(ARGS), of)) if of.randrange(3) else of.choice(("[", "{}", "[" * 900, "[1e999]", "[NaN]", "9" * 999))
    return Failure(
        type=of.choice((*kinds, *TEXTS)),
        builtin=of.choice(kinds),
        message=of.choice(TEXTS),
        traceback=of.choice(TEXTS),
        reason=of.choice(("",) * 12 + ("oom", "wall", "x\x1b", "signal")),
        kind=of.choice(kinds) if of.randrange(3) == 0 else "",
        input=of.choice((0, 1, (1 << 64) - 1)),
        members=[failure(of, kinds, depth + 1) for _ in range(of.randrange(4))] if depth < 3 and of.randrange(4) == 0 else [],
        args=args if of.randrange(2) else "",
    )


def test_failures_of_any_kind_are_errors_that_can_be_shown() -> None:
    of, kinds = dice("failures"), names()
    for _ in range(CASES // 10):
        told = failure(of, kinds)
        try:
            (item,) = decode_batch(encode_batch([ItemMessage(1, 1, failure=told)]))
        except ItemTooLarge:
            continue
        error = restore(item.failure)
        assert isinstance(error, AvlabError), told
        assert not isinstance(error, (StopIteration, StopAsyncIteration)), told
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error)
        assert "\x1b" not in shown and "\u202e" not in shown and "\0" not in shown, told
        assert len(str(error)) < 6 * MAX_TEXT
        with pytest.raises(AvlabError) as caught:  # as a pipeline does
            blame(object(), Item(None), error)
        assert "\x1b" not in str(caught.value)
        assert getattr(error, "errno", None) is None or isinstance(error, OSError)


def test_stamps_of_any_size_give_figures() -> None:
    of, clock = dice("stamps"), FakeClock(10**9)
    meter = Meter(clock)
    times = [0, 1, -1, 10**9, (1 << 63) - 1, -(1 << 63), 1 << 40]
    for number in range(1, CASES // 10):
        clock.advance(of.random())
        if of.randrange(9):
            meter.sent(ItemMessage(number))
        output = ItemMessage(number, 1, last=bool(of.randrange(2)), codec="json", meta=b"1")
        output.stamps = tuple(of.choice(times) for _ in range(of.choice((0, 1, 2, 3, 3, 3, 4, 64))))
        (output,) = decode_batch(encode_batch([output]))
        meter.received(output)
        for hop in meter.hops().values() if number % 50 == 0 else ():
            assert -1e14 < hop.p50 < 1e14 and -1e14 < hop.p95 < 1e14
    assert abs(meter.busy / 1e9) < 1e12 * CASES and abs(meter.offset) < 1 << 65


def test_strange_arguments_are_left_out() -> None:
    of = dice("arguments")
    for _ in range(CASES // 10):
        args = json.dumps([strange(of) for _ in range(of.randrange(1, 5))])
        error = restore(Failure("OSError", "OSError", "text", args=args))
        assert str(error) == "text"
        assert all(type(each) in (type(None), bool, int, float, str) for each in error.args)
