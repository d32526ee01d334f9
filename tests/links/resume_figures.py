"""How long a cut is noticed, and how soon a session goes on: ``python tests/links/resume_figures.py [rounds]`` prints the table."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from avlab_executor.server import Server, ServerConfig
from counted import Counted
from serving import until

import avlab
from avlab.testing.faults import TcpRelay


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def call_meanwhile(session: avlab.Session) -> threading.Thread:
    thread = threading.Thread(target=session.call, args=("pid",))
    thread.start()
    return thread


def main(rounds: int) -> None:
    rows: dict[str, list[float]] = {}
    with (
        Server(ServerConfig(port=0, sessions=4)) as server,
        TcpRelay(("127.0.0.1", server.port)) as relay,
        avlab.connect("grpc://{}:{}".format(*relay.address)) as executor,
    ):

        def note(row: str, took: float) -> None:
            rows.setdefault(row, []).append(took)

        for _ in range(rounds):
            with executor.open(Counted()) as session:
                session.call("pid")
                (served,) = server._service._named.all()
                before = relay.statistics().connections
                relay.hole()
                began = time.monotonic()
                thread = call_meanwhile(session)
                noticed: dict[str, float] = {}

                def watch(noticed: dict[str, float], before: int, began: float) -> None:
                    until(lambda: relay.statistics().connections > before, 30)
                    noticed["caller"] = time.monotonic() - began

                watcher = threading.Thread(target=watch, args=(noticed, before, began))
                watcher.start()
                until(lambda served=served: served._attached is None, 30)
                note("silence noticed by the executor", time.monotonic() - began)
                watcher.join()
                note("silence noticed by the caller", noticed["caller"])
                time.sleep(1)
                relay.heal()
                note("a call answered after the silence ended", seconds(thread.join))
                for outage in (0.2, 5.0):
                    relay.cut()
                    thread = call_meanwhile(session)
                    time.sleep(outage)
                    relay.heal()
                    note(f"a call answered after a cut of {outage:g} s was healed", seconds(thread.join))
                calls = session.statistics().inputs
                thread = threading.Thread(target=_until_dead, args=(session,))
                thread.start()
                until(lambda session=session, calls=calls: session.statistics().inputs > calls)
                os.kill(served._link.pid, signal.SIGKILL)
                note("a worker's death reported", seconds(thread.join))
    print("| event | seconds, median | most |\n|---|---|---|")
    for row, values in rows.items():
        print(f"| {row} | {sorted(values)[len(values) // 2]:.2f} | {max(values):.2f} |")
    print(f"\n{rounds} rounds, load {os.getloadavg()[0]:.1f}")


def _until_dead(session: avlab.Session) -> None:
    try:
        session.call("sleep", 60)
    except avlab.WorkerDied as died:
        assert died.reason == "signal"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
