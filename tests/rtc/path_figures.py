"""What each path between two Python peers costs: ``python tests/rtc/path_figures.py [seconds]`` prints a table. Needs root.

Two processes in network namespaces: side by side for the direct path, else in two networks that only coturn joins. *round trip*: of a
small item, over the DataChannel; *throughput*: of arrays of 1 MiB, one way, for so many seconds; *picture*: from `put` to delivery by the
other's `frames`, 640x360, 30 a second, for as long: encoding and decoding are in it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from networks import PORT, RELAY, SERVER, TLS_PORT, Networks
from turn_server import SECRET, turnserver

import avlab
from avlab.media.rtc.manager import WebRTCManager
from avlab.media.rtc.turn import ShortLived
from avlab.media.runtime import MediaRuntime
from avlab.media.sources.test import read_frame_number

BLOCK = np.zeros(1 << 20, "u1")
TRIPS = 200
PATHS = {
    "direct": "",
    "turn udp": f"turn:{SERVER}:{PORT}",
    "turn tcp": f"turn:{SERVER}:{PORT}?transport=tcp",
    "turn tls": f"turns:{SERVER}:{TLS_PORT}",
}


def first(partner, manager: WebRTCManager, seconds: float) -> dict[str, object]:
    """The side that sends; its figures. Clocks are one: both processes are on this machine."""
    trips = []
    for number in range(TRIPS):
        begun = time.perf_counter()
        partner.send(number)
        partner.receive(20)
        trips.append(time.perf_counter() - begun)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        partner.send(BLOCK)
    partner.send("over")
    rate = partner.receive(60).value
    put = {}
    source = avlab.TestSource(size=(640, 360), audio=False, realtime=True, duration=seconds)
    source.open()
    for item in source.items():
        put[item.seq] = time.monotonic()
        manager.put(item)
    source.close()
    partner.send({str(number): at for number, at in put.items()})
    return {"path": partner.path, "trips": trips, "rate": rate, "delays": partner.receive(20).value}


def second(partner, seconds: float) -> None:
    """The side that answers and measures what comes."""
    for _ in range(TRIPS):
        partner.send(partner.receive(20).value)
    begun, count = None, 0
    while not isinstance(partner.receive(20).value, str):
        begun, count = begun or time.monotonic(), count + 1
    partner.send((count - 1) * len(BLOCK) / (time.monotonic() - begun))
    came: dict[str, float] = {}

    def watch() -> None:
        for item in partner.frames():
            came.setdefault(str(read_frame_number(item.value)), time.monotonic())

    watching = threading.Thread(target=watch, daemon=True)  # ends with the partner
    watching.start()
    put = partner.receive(20 + seconds).value
    partner.send([came[number] - at for number, at in put.items() if number in came])


def peer(role: str, servers: str, seconds: float) -> None:
    """One of the two processes: it talks JSON lines with the one that prints the table."""
    runtime = MediaRuntime()
    manager = WebRTCManager(ice_servers=json.loads(servers), runtime=runtime)
    try:
        if role == "first":
            print(json.dumps(manager.offer()), flush=True)
            partner = manager.accept(sys.stdin.readline())
            print(json.dumps(first(partner, manager, seconds)), flush=True)
        else:
            print(json.dumps(manager.answer(sys.stdin.readline())), flush=True)
            second(manager.wait(), seconds)
        sys.stdin.readline()  # the other one may still be reading
    finally:
        manager.close()
        runtime.close()


def measured(networks: Networks, authority: Path, path: str, seconds: float) -> dict[str, object]:
    """The figures of one path."""
    url = PATHS[path]
    servers = json.dumps(ShortLived([url], SECRET)() if url else [])
    places = {"first": "a", "second": "b" if url else "a"}
    peers, pipe = [], subprocess.PIPE
    environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
    try:
        for role, place in places.items():
            command = [*networks.inside(place), sys.executable, __file__, role, servers, str(seconds)]
            peers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        one, other = peers
        for speaker, listener in ((one, other), (other, one)):
            print(json.loads(speaker.stdout.readline()), file=listener.stdin, flush=True)
        found = json.loads(one.stdout.readline())
        for each in peers:
            each.communicate("done\n", 20)
        return found
    finally:
        for each in peers:
            each.kill()
            each.wait()


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print("| path | round trip ms | throughput MB/s | picture ms p50 | p95 | of pictures |\n" + "|---" * 6 + "|")
    with tempfile.TemporaryDirectory() as folder, Networks() as networks:
        inside = networks.inside("t")
        with turnserver(Path(folder), (RELAY, SERVER), inside=inside, port=PORT, tls_port=TLS_PORT) as turn:
            for path in PATHS:
                found = measured(networks, turn.authority, path, seconds)
                assert found["path"] == path, found["path"]
                delays = np.array(found["delays"]) * 1e3
                trip, half, most = np.median(found["trips"]) * 1e3, *np.percentile(delays, [50, 95])
                share = len(delays) / (30 * seconds)
                print(f"| {path} | {trip:.1f} | {found['rate'] / 1e6:.1f} | {half:.0f} | {most:.0f} | {share:.0%} |", flush=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] in (["first"], ["second"]):
        peer(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    else:
        main()
