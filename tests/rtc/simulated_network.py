"""Packets of sound and pictures through a network that exists only as numbers: no clock, no socket."""

import random
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from avlab.media.rtc.delay import in_step
from avlab.media.rtc.jitter import AudioBuffer, Encoded, Packet
from avlab.media.rtc.pictures import VideoBuffer
from avlab.media.rtc.repair import Repairs
from avlab.media.rtc.timeline import Origin, Timeline, align

BASE = 0.04  # seconds that the fastest packet takes
SOUND, PICTURE = 48000, 90000


@dataclass
class Fault:
    """``loss``: share lost; ``jitter``: seconds, delays are even between 0 and this; ``burst``: every five seconds the line
    stands still for so long; ``ppm``: how much faster than ours the sender's clock runs; ``lag``: extra seconds of pictures;
    ``trip``: seconds from a request for lost sound to its packet, both of which may be lost; None: it is not sent again."""

    loss: float = 0.0
    jitter: float = 0.0
    burst: float = 0.0
    ppm: float = 0.0
    lag: float = 0.0
    trip: float | None = None


@dataclass
class Heard:
    """What came out of one track: frames with the times of their release, in seconds."""

    buffer: Any
    line: Timeline
    frames: list[tuple[float, Encoded]] = field(default_factory=list)

    def lateness(self, after: float) -> list[float]:
        """Release minus time of each frame, once so many seconds have passed."""
        return [now - frame.ticks / self.line.rate for now, frame in self.frames if now > after]


def sent(rate: int, step: int, seconds: float, packets: int, group: int, fault: Fault, seed: int) -> list[Any]:
    """(arrival, sequence, timestamp, key, marker) of what arrives, in order of arrival; asked-for packets come 30 ms later."""
    chance, made, sequence = random.Random(seed), [], chance_start(seed, 1 << 16)
    begin = chance_start(seed + 1, 1 << 32)
    for number in range(int(seconds * rate / step)):
        when = number * step / rate / (1 + fault.ppm * 1e-6) + BASE
        for part in range(packets):
            arrival = when + part * 0.0005 + chance.random() * fault.jitter
            since = arrival % 5.0
            if fault.burst and since < fault.burst and arrival > 5:
                arrival += fault.burst - since
            tries = 0
            while chance.random() < fault.loss and packets > 1:  # pictures are asked for again
                tries += 1
            lost = packets == 1 and chance.random() < fault.loss
            if not lost:
                arrival += 0.03 * tries + (fault.lag if packets > 1 else 0)
                key = number % group == 0 and part == 0
                made.append((arrival, sequence, begin + number * step, key, part == packets - 1))
            sequence += 1
    return sorted(made)


def chance_start(seed: int, size: int) -> int:
    """A start from which numbers soon wrap."""
    return size - random.Random(seed).randrange(1, 2000)


def simulate(fault: Fault, seconds: float = 60, lips: bool = False, seed: int = 7) -> tuple[Heard, Heard]:
    """Sound (20 ms) and pictures (30/s, 4 packets, a key picture each 2 s) through the network."""
    origin = Origin()
    sound = Heard(AudioBuffer(SOUND), Timeline(SOUND, origin))
    picture = Heard(VideoBuffer(PICTURE), Timeline(PICTURE, origin))
    streams = [
        (sound, sent(SOUND, 960, seconds, 1, 1, fault, seed), 11),
        (picture, sent(PICTURE, 3000, seconds, 4, 60, fault, seed + 10), 22),
    ]
    events = sorted((packet[0], index, packet) for index, (_, packets, _) in enumerate(streams) for packet in packets)
    reported = [0.0, 0.0]
    begins = [chance_start(seed + 1, 1 << 32), chance_start(seed + 11, 1 << 32)]
    if fault.trip is not None:
        sound.buffer.repairs = Repairs()
    chance = random.Random(seed + 20)

    def ask(number: int, now: float) -> None:
        """Send sound again, by the number that the buffer knows it by."""
        if chance.random() > fault.loss and chance.random() > fault.loss:
            later = now + origin.arrival + fault.trip + chance.random() * fault.jitter
            timestamp = begins[0] + (number - chance_start(seed, 1 << 16)) * 960
            insort(events, (later, 0, (later, number, timestamp, False, True)), lo=at + 1)

    def end() -> float:
        """When the next packet arrives."""
        return (events[at + 1][0] if at + 1 < len(events) else events[at][0] + 1) - origin.arrival

    at = -1
    while (at := at + 1) < len(events):
        arrival, index, (_, sequence, timestamp, key, marker) = events[at]
        heard, _, ssrc = streams[index]
        place = heard.line.place(ssrc, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, arrival)
        if place is not None:
            now = arrival - origin.arrival
            data = b"." * (1 + key)
            heard.buffer.add(Packet(*place, data, now, 960 if index == 0 else 0, marker, key))
        if arrival - reported[index] > 1.0:
            reported[index] = arrival
            capture = (timestamp - begins[index]) / heard.line.rate + 1000.0
            heard.line.report(ssrc, int(capture * (1 << 32)), timestamp & 0xFFFFFFFF)
            for line, shift in align(sound.line, [picture.line]).items():
                assert line is picture.line
                picture.buffer.delay.move(shift)
        if lips and None not in (sound.buffer.delay.value, picture.buffer.delay.value):
            sound.buffer.hold, picture.buffer.hold = in_step(sound.buffer.delay.value, picture.buffer.delay.value)
        play([sound, picture], end, ask)
    return sound, picture


def play(tracks: list[Heard], end: Callable[[], float], ask: Callable[[int, float], None]) -> None:
    """Let buffers give what is due until ``end()``, each thing at its own time; ``ask`` is told what sound is missing."""
    for heard in tracks:
        last = heard.frames[-1][0] if heard.frames else 0.0
        while (due := heard.buffer.due()) is not None and due < end():
            now = max(due, last)
            if isinstance(heard.buffer, VideoBuffer):
                heard.buffer.missing(now)
                heard.buffer.wants_key(now)
            elif heard.buffer.repairs is not None:
                for number in heard.buffer.missing(now):
                    ask(number, now)
            heard.frames += [(now, frame) for frame in heard.buffer.pop(now)]
            last = now
