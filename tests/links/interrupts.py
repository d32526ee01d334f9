"""Ctrl-C at random moments: ``python tests/links/interrupts.py [local|grpc] [seconds] [seed]``.

Opens sessions, calls, streams, iterates, leaves early and closes, while another process sends SIGINT, now and then twice at once. After
each of these the session must go on, or say that it is over; results must be right; and nothing may be left when all is closed.
Prints what was interrupted and what went wrong; the exit code says whether anything did.
"""

import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from serving import served, until

import avlab
from avlab.core.errors import SessionError

HANG = 60.0
_SENDER = """
import os, random, signal, sys, time
pid, dice = int(sys.argv[1]), random.Random(sys.argv[2])
while os.getppid() == pid:
    time.sleep(dice.choice((0.01, 0.1, 0.5)) * dice.random() * 2)
    os.kill(pid, signal.SIGINT)
"""


class Target:
    def process(self, value: object) -> object:
        return value

    def add(self, a: object, b: object) -> object:
        return a + b

    def count(self, number: int):
        yield from range(number)

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


class Stateless(Target):
    stateless = True


def early(session: avlab.Session) -> list[int]:
    """A stream that is left."""
    taken = []
    for value in session.stream(range(100)):
        taken.append(value)
        if value == 20:
            break
    return taken


LARGE = bytes(3_000_000)
USES: dict[str, tuple[Callable[[avlab.Session], object], object]] = {
    "call": (lambda session: session.call("add", 1, 2), 3),
    "large call": (lambda session: session.call("add", LARGE, b"x"), LARGE + b"x"),
    "long call": (lambda session: session.call("sleep", 0.05), 0.05),
    "stream of a list": (lambda session: list(session.stream([*range(150)])), [*range(150)]),
    "stream of a generator": (lambda session: list(session.stream(n for n in range(150))), [*range(150)]),
    "large stream": (lambda session: list(session.stream([LARGE] * 5)), [LARGE] * 5),
    "iteration": (lambda session: list(session.iterate("count", 60)), [*range(60)]),
    "early end": (early, [*range(21)]),
}


class Interrupted:
    """Calls functions, with SIGINT as in a script only meanwhile."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._deaf()

    def __call__(self, name: str, function: Callable[[], object]) -> list[object]:
        """The result, or nothing when it was interrupted."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                return [function()]
            finally:
                self._deaf()
        except KeyboardInterrupt:
            self.counts[name] += 1
            return []
        finally:
            self._deaf()

    def _deaf(self) -> None:
        while True:
            try:
                signal.signal(signal.SIGINT, lambda *_: None)
                return
            except KeyboardInterrupt:  # the last one came in this instant
                continue


def interrupts(executor: avlab.Executor, seconds: float, seed: str) -> tuple[Counter[str], Counter[str]]:
    """Run it: what was interrupted, and what went wrong."""
    dice, wrong, interrupted = random.Random(seed), Counter[str](), Interrupted()
    sender = subprocess.Popen([sys.executable, "-c", _SENDER, str(os.getpid()), seed])
    end = time.monotonic() + seconds
    session: avlab.Session | None = None
    while time.monotonic() < end:
        if session is None:
            target = dice.choice((Target, Stateless))()
            (session,) = interrupted("open", lambda target=target: executor.open(target)) or (None,)
            continue
        name = dice.choice([*USES])
        use, expected = USES[name]
        try:
            for result in interrupted(name, lambda use=use, session=session: use(session)):
                wrong[f"{name}: another result"] += result != expected
            wrong["another result afterwards"] += session.call("add", 2, 5) != 7
        except SessionError as error:
            if not session.closed:
                wrong[f"{name}: not over after {error}"] += 1
            interrupted.counts["workers killed by a second interrupt"] += 1
            session.close()
            session = None
        except Exception as error:  # noqa: BLE001  it is the finding
            wrong[f"{name}: {type(error).__name__}: {error}"] += 1
        if session is not None and dice.random() < 0.05:
            interrupted("close", session.close)
            session.close()
            session = None
    sender.kill()
    sender.wait()
    if session is not None:
        session.close()
    if not until(lambda: not executor.status().sessions):
        wrong["sessions that nobody has"] += len(executor.status().sessions)
    return interrupted.counts, wrong


def main() -> int:
    given = sys.argv[1:]
    link, seconds, seed = (*given, *("local", "60", str(random.randrange(10_000)))[len(given) :])
    print(f"{link}, {seconds} s, seed {seed}", flush=True)
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        url = stack.enter_context(served())[0] if link == "grpc" else f"{link}:"
        with avlab.connect(url) as executor:
            counts, wrong = interrupts(executor, float(seconds), seed)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("avlab")]
    wrong["threads are left: " + ", ".join(left)] += len(left)
    if link == "local":  # gRPC keeps some of its own
        wrong["descriptors are left"] += len(os.listdir("/proc/self/fd")) - before
    faulthandler.cancel_dump_traceback_later()
    print(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    found = {name: count for name, count in wrong.items() if count}
    print(*(f"{count} times {name}" for name, count in found.items()), sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
