"""Sessions under random cuts, silences, killed and stopped workers: ``python tests/links/soak.py [seconds] [seed]``.

Three sessions stream through one bad network: one with state that nobody can restore, one stateless, one with snapshots. The first
one's worker is only stopped for a while; those of the others are killed too. Every stream's results are compared with its inputs,
and the state of the first and the last with the number of results they ever made. Prints what was lost, duplicated and
reordered, and how memory grew after the first quarter; the exit code says whether all was well.
"""

import ctypes
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from avlab_executor import allocator
from avlab_executor.server import Server, ServerConfig

import avlab
from avlab.testing.faults import TcpRelay, check_history

STREAM = 200  # items of one stream
PAUSE = (0.4, 1.6)  # seconds between two faults
GROWTH = 16 << 10  # KiB in all: what is under way goes up and down by that
_libc = ctypes.CDLL(None)


class Counting:
    """0 to 3 results for each input, numbered over the life of the object."""

    made: int = 0

    def process(self, value: list) -> Iterator[list]:
        number, payload = value
        for k in range(number % 4):
            self.made += 1
            yield [number, k, self.made, payload[:100]]


class Snapshots(Counting):
    def snapshot(self) -> int:
        return self.made

    def restore(self, made: int) -> None:
        self.made = made


class Stateless(Counting):
    stateless = True


@dataclass
class Tally:
    """What one session's streams have shown."""

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    items: int = 0
    results: int = 0
    restarts: int = 0
    errors: list[str] = field(default_factory=list)


def streams(
    executor: avlab.Executor, target: Counting, tally: Tally, ended: threading.Event, opened: dict[str, avlab.Session]
) -> None:
    """Stream after stream through one session, until the end."""
    payload = os.urandom(20_000)
    try:
        with executor.open(target) as session:
            opened[type(target).__name__] = session
            while not ended.is_set():
                expected = [(n, k) for n in range(STREAM) for k in range(n % 4)]
                results = list(session.stream([n, payload] for n in range(STREAM)))
                found = check_history(expected, [(n, k) for n, k, *_ in results])
                tally.lost += found.lost
                tally.duplicated += found.duplicated
                tally.reordered += found.reordered
                if not isinstance(target, Stateless):  # the state has counted every result once
                    made = [made for _, _, made, _ in results]
                    tally.lost += made != list(range(tally.results + 1, tally.results + len(made) + 1))
                tally.items += STREAM
                tally.results += len(results)
            tally.restarts = session.statistics().restarts
    except Exception as error:  # noqa: BLE001  it is the finding
        tally.errors.append(f"{type(target).__name__}: {type(error).__name__}: {error}")


def worker_of(server: Server, session: avlab.Session | None) -> int | None:
    """The process of a session's present worker."""
    if session is None:
        return None
    link = getattr(session._link, "_link", session._link)  # of one that can go on with another worker
    served = next((each for each in server._service._named.all() if each.name == link._replay.session), None)
    return served._link.pid if served is not None and served._link is not None else None


def memory() -> float:
    """KiB in use by this process, which is the caller and the executor's server, without what the allocator merely keeps."""
    gc.collect()
    _libc.malloc_trim(0)
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return float(next(row[1] for row in rows if row[0] == "RssAnon:"))


def slope(samples: list[tuple[float, float]]) -> float:
    """KiB a second, by least squares."""
    n = len(samples)
    mean_x, mean_y = sum(x for x, _ in samples) / n, sum(y for _, y in samples) / n
    below = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / below if below else 0.0


class Trouble:
    """One fault after the other; counts them."""

    def __init__(self, relay: TcpRelay, pids: Callable[[str], int | None], seed: int) -> None:
        self._relay, self._pids, self._dice = relay, pids, random.Random(seed)
        self._killed = dict.fromkeys(("Stateless", "Snapshots"), 0.0)
        self.counts = dict.fromkeys(("cuts", "silences", "kills", "stops"), 0)

    def make(self, ended: threading.Event) -> None:
        """One fault, and its end."""
        what = self._dice.choices(("cut", "byte", "silence", "kill", "stop"), (4, 4, 1, 3, 3))[0]
        if what in ("cut", "byte"):
            if what == "cut":
                self._relay.cut()
            else:
                self._relay.cut_after(self._dice.randrange(60_000), self._dice.choice(("forth", "back")))
            if self._relay.wait_until_cut(2):
                self.counts["cuts"] += 1
                ended.wait(self._dice.uniform(0.05, 0.8))
            self._relay.heal()
        elif what == "silence":
            self._relay.hole()
            self.counts["silences"] += 1
            ended.wait(self._dice.uniform(0.5, 6))
            self._relay.heal()
        elif what == "kill":
            name = self._dice.choice(tuple(self._killed))
            if time.monotonic() - self._killed[name] > 5:  # three on one input would be poison
                self._killed[name] = time.monotonic()
                self.counts["kills"] += self._signal(name, signal.SIGKILL)
        else:
            name = self._dice.choice(("Counting", "Stateless", "Snapshots"))
            self.counts["stops"] += self._signal(name, signal.SIGSTOP)
            ended.wait(self._dice.uniform(0.1, 1))
            self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> bool:
        pid = self._pids(name)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False


def soak(seconds: float, seed: int, say: Callable[[str], None] = print) -> tuple[list[Tally], float, dict[str, int]]:
    """Run it: the tallies, KiB a second of growth, and the faults that were made."""
    allocator.settle()
    ended = threading.Event()
    opened: dict[str, avlab.Session] = {}
    with (
        Server(ServerConfig(port=0, sessions=8)) as server,
        TcpRelay(("127.0.0.1", server.port), seed=seed, jitter=0.001, slicer=30_000) as relay,
        avlab.connect("grpc://{}:{}".format(*relay.address)) as executor,
    ):
        targets = (Counting(), Stateless(), Snapshots())
        tallies = [Tally() for _ in targets]
        threads = [
            threading.Thread(target=streams, args=(executor, target, tally, ended, opened))
            for target, tally in zip(targets, tallies, strict=True)
        ]
        for thread in threads:
            thread.start()
        trouble, dice = Trouble(relay, lambda name: worker_of(server, opened.get(name)), seed), random.Random(seed)
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        while (now := time.monotonic() - began) < seconds and any(thread.is_alive() for thread in threads):
            if now > seconds / 4:
                samples.append((now, memory()))
            trouble.make(ended)
            ended.wait(dice.uniform(*PAUSE))
        relay.heal()
        ended.set()
        for thread in threads:
            thread.join(120)
        grown = slope(samples)
    for target, tally in zip(targets, tallies, strict=True):
        say(
            f"{type(target).__name__:<10} {tally.items:>7} items {tally.results:>7} results {tally.restarts:>3} restarts: "
            f"lost {tally.lost}, duplicated {tally.duplicated}, reordered {tally.reordered}"
        )
        for error in tally.errors:
            say(f"  {error}")
    say(", ".join(f"{count} {name}" for name, count in trouble.counts.items()) + f"; memory {grown:+.1f} KiB/s")
    return tallies, grown, trouble.counts


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10_000)
    print(f"{seconds:g} s, seed {seed}", flush=True)
    tallies, grown, _ = soak(seconds, seed)
    good = (
        all(not (t.lost or t.duplicated or t.reordered or t.errors) for t in tallies)
        and grown * seconds * 3 / 4 < GROWTH
    )
    print("all was delivered once and in order" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
