"""Sound that tells its own time: a tone that climbs from 400 to 3400 Hz each second. Heard again, every 10 ms show what was really
received: silence, the sound that belongs there, or sound that somebody made up for what was lost."""

from dataclasses import dataclass
from functools import cache

import numpy as np

RATE = 48000
LOW, CLIMB = 400.0, 3000.0  # Hz, Hz per second
WINDOW, HOP = 960, 480  # samples
SILENT = 0.02  # of full scale, where the tone has 0.3
MADE_UP = 0.012  # seconds by which a tone may be beside its place: a repeated block of 20 ms is 10 to 20 ms behind
SEAM = 0.03  # seconds around the fall of the tone that are not judged


@cache
def second() -> np.ndarray:
    """One second of it, int16, mono; it repeats without a click."""
    t = np.arange(RATE) / RATE
    turns = LOW * t + CLIMB * t * t / 2  # 1900 whole turns
    return (0.3 * 32767 * np.sin(2 * np.pi * turns)).astype("<i2")


@dataclass
class Heard:
    """Every 10 ms: when (seconds), how loud (0 to 1), and which moment of the second is heard there."""

    times: np.ndarray
    levels: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray, start: float | np.ndarray = 0.0) -> "Heard":
        """What is in samples (mono, float, 48 kHz). ``start``: when they begin, or when each of as many equal parts does."""
        count = max(0, (len(samples) - WINDOW) // HOP + 1)
        if not count:
            return cls(*(np.zeros(0) for _ in range(3)))
        blocks = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:count]
        size = 4096
        spectrum = np.abs(np.fft.rfft(blocks * np.hanning(WINDOW), size))
        peak = np.clip(spectrum.argmax(axis=1), 1, spectrum.shape[1] - 2)
        rows = np.arange(count)
        left, middle, right = (np.log(spectrum[rows, peak + step] + 1e-12) for step in (-1, 0, 1))
        curve = left - 2 * middle + right
        beside = np.where(curve < 0, (left - right) / (2 * np.where(curve < 0, curve, 1)), 0)
        frequency = (peak + beside) * RATE / size
        starts = np.atleast_1d(start)
        part, offset = np.divmod(rows * HOP + WINDOW // 2, max(1, len(samples) // len(starts)))
        times = starts[np.minimum(part, len(starts) - 1)] + offset / RATE
        return cls(times, np.sqrt((blocks**2).mean(axis=1)), (frequency - LOW) / CLIMB)

    def between(self, begin: float, end: float) -> "Heard":
        """A part of it."""
        part = (self.times >= begin) & (self.times < end)
        return Heard(self.times[part], self.levels[part], self.moments[part])

    @property
    def silent(self) -> np.ndarray:
        """Where nothing is heard."""
        return self.levels < SILENT

    def longest_silence(self) -> float:
        """Seconds."""
        longest = run = 0
        for each in self.silent:
            run = run + 1 if each else 0
            longest = max(longest, run)
        return longest * HOP / RATE

    def lateness(self) -> np.ndarray:
        """How much later than sent each moment is heard: seconds, but for whole ones; NaN where it cannot be told."""
        known = ~self.silent & (self.moments > SEAM) & (self.moments < 1 - SEAM)
        return np.where(known, (self.times - self.moments) % 1.0, np.nan)

    def made_up(self) -> float:
        """Share of what is heard that is not in its place between what comes before and after."""
        late = self.lateness()
        late = late[~np.isnan(late)]
        if len(late) < 100:
            return 0.0
        turned = wrapped(late - middle(late))  # the median itself may lie at the turn
        reach = 40  # 0.4 s to each side: buffers shift the whole, slowly
        smooth = np.array([np.median(turned[max(0, i - reach) : i + reach + 1]) for i in range(len(turned))])
        return float((np.abs(wrapped(turned - smooth)) > MADE_UP).mean())


def wrapped(seconds: np.ndarray) -> np.ndarray:
    """Differences of moments, between −0.5 and 0.5 s."""
    return (seconds + 0.5) % 1.0 - 0.5


def middle(seconds: np.ndarray) -> float:
    """The median of moments on the circle of one second."""
    angle = np.angle(np.exp(2j * np.pi * seconds).mean()) / (2 * np.pi)
    return float((angle + np.median(wrapped(seconds - angle))) % 1.0)
