"""Stock aiortc beside avlab's receiver on the same lossy network: ``python tests/rtc/receive_figures.py [seconds]``.

Two peers in one process; flash-and-beep source; what is delivered is measured, not what counters say. audio: share of the time
for which sound was delivered; gap: longest stretch without; made up: share of the delivered sound that was concealed, by the
receiver's own count; added: how long the fastest packets of sound are held back at the end, in ms; skew: sound delivered before its picture, negative after it (median, ms);
frozen: share of the time in pauses of the picture beyond 100 ms.
"""

import asyncio
import sys
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from aiortc.mediastreams import MediaStreamError
from lossy_pair import Network, connect, peers

from avlab.media.rtc.receive import Receiver

CASES = {"clean": (0.0, 0.0), "1 %": (0.01, 0.0), "5 %": (0.05, 0.0), "10 %": (0.1, 0.0), "±50 ms": (0.0, 0.1)}
WARM = 2.0  # seconds that are not judged: connecting, first key picture

Seen = list[tuple[float, float, Any]]
"""(delivered at, media time, frame)"""


async def stock(connection: Any, seen: dict[str, Seen]) -> None:
    """Read a connection's tracks with aiortc alone."""
    loop = asyncio.get_running_loop()

    async def read(track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                seen[track.kind].append((loop.time(), float(frame.pts * frame.time_base), frame))
        except MediaStreamError:
            return

    await asyncio.gather(*(read(receiver.track) for receiver in connection.getReceivers()))


async def ours(receiver: Receiver, seen: dict[str, Seen]) -> None:
    """Read them with a Receiver."""
    loop = asyncio.get_running_loop()
    async for item in receiver.items():
        seen[item.track].append((loop.time(), item.time, item.value))


async def measure(case: tuple[float, float], mode: str, seconds: float) -> dict[str, str]:
    """One run."""
    forth, back, seen = Network(1, *case), Network(2, *case), {"audio": [], "video": []}
    async with peers() as (sender, there):
        made_up = added = "-"
        receiver = None if mode == "stock" else Receiver(there, sync=mode)  # type: ignore[arg-type]
        await connect(sender, there, forth, back)
        task = asyncio.create_task(stock(there, seen) if receiver is None else ours(receiver, seen))
        ended = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds + WARM, ended.set)
        await ended.wait()
        if receiver is not None:
            sound = receiver.statistics().tracks["audio"]
            made_up = f"{sound.counts.concealed / (sound.counts.concealed + sound.counts.played):.1%}"
            added = f"{1e3 * sound.delay:.0f}"
            await receiver.close()
        else:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    judged = {kind: [one for one in each if one[0] > each[0][0] + WARM] for kind, each in seen.items()}
    return figures(judged) | {"made up": made_up, "added": added}


def figures(seen: dict[str, Seen]) -> dict[str, str]:
    """What was delivered, as text."""
    sound, pictures = seen["audio"], seen["video"]
    times = [time for _, time, _ in sound]
    span = times[-1] - times[0] + 0.02
    frozen = sum(max(0.0, b[0] - a[0] - 0.1) for a, b in pairwise(pictures))
    flashes = begins(pictures, lambda frame: frame.to_ndarray(format="gray").mean() > 150)
    beeps = begins(sound, lambda frame: np.abs(frame.to_ndarray().astype(int)).max() > 6000)
    skews = [min((flash - beep for beep in beeps), key=abs) for flash in flashes[1:-1]] if beeps else []
    return {
        "audio": f"{min(1.0, len(sound) * 0.02 / span):.1%}",
        "gap": f"{1e3 * max(b - a - 0.02 for a, b in pairwise(times)):.0f}",
        "skew": f"{1e3 * median(skews):.0f}" if skews else "-",
        "frozen": f"{frozen / (pictures[-1][0] - pictures[0][0]):.1%}",
    }


def begins(seen: Seen, is_on: Any) -> list[float]:
    """When something that was off went on."""
    on = [is_on(frame) for _, _, frame in seen]
    return [
        at[0]
        for at, now, recently in zip(seen[3:], on[3:], zip(on, on[1:], on[2:], strict=False), strict=False)
        if now and not any(recently)
    ]


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    columns = ("audio", "gap", "made up", "added", "skew", "frozen")
    print(f"{'network':10}{'receiver':14}" + "".join(f"{column:>9}" for column in columns))
    for name, case in CASES.items():
        for mode in ("stock", "low-latency", "lips"):
            found = asyncio.run(measure(case, mode, seconds))
            print(f"{name:10}{mode:14}" + "".join(f"{found[column]:>9}" for column in columns), flush=True)


if __name__ == "__main__":
    main()
