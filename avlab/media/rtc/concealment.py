"""Making up sound that was lost: by the Opus decoder itself, or by repeating the last pitch period with a fade-out."""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 48000  # of Opus timestamps, whatever the sound's own rate
_SILK, _HYBRID, _CELT = (480, 960, 1920, 2880), (480, 960), (120, 240, 480, 960)
_LONGEST = 5760


def opus_frame(packet: bytes) -> int:
    """Samples at 48 kHz of each frame in an Opus packet, by its first byte (RFC 6716, 3.1). Raises ValueError if empty."""
    if not packet:
        raise ValueError("an Opus packet has at least one byte")
    config = packet[0] >> 3
    if config < 12:
        return _SILK[config % 4]
    return _HYBRID[config % 2] if config < 16 else _CELT[config % 4]


def opus_duration(packet: bytes) -> int:
    """Samples at 48 kHz that an Opus packet holds. Raises ValueError for an empty one, one without its frame count, and one of no
    frame or of more than 120 ms (RFC 6716, 3.2.5)."""
    frame, code = opus_frame(packet), packet[0] & 3
    if code == 3 and len(packet) < 2:
        raise ValueError("an Opus packet of code 3 has a second byte")
    samples = frame * (1 if code == 0 else 2 if code < 3 else packet[1] & 63)
    if not 0 < samples <= _LONGEST:
        raise ValueError(f"an Opus packet of {samples} samples: it holds up to {_LONGEST}")
    return samples


def opus_lost(previous: bytes) -> bytes:
    """A packet of one empty frame like those of ``previous``: the decoder takes it as lost and conceals it, with a fade-out
    (RFC 6716, 4.4; a frame of no bytes is how discontinuous transmission looks, 2.1.9)."""
    return bytes([previous[0] & ~3])


class Repetition:
    """Conceals in any sound: repeats the last pitch period, fading to silence within 60 ms (after ITU-T G.711 Appendix I).

    Blocks are int16 arrays of shape (samples, channels); ``rate`` in samples per second.
    """

    def __init__(self, rate: int) -> None:
        self._shortest, self._longest = rate // 200, rate // 66
        self._hold, self._fade = rate // 100, rate // 20
        self._overlap = rate // 250
        self._history: Any = np.zeros((0, 1), np.int16)
        self._lost = 0
        self._period: Any = None

    def heard(self, block: Any) -> Any:
        """A real block; after a lost one its first 4 ms are faded in over what was made up."""
        if self._lost:
            length = min(self._overlap, len(block))
            made, up = self._made(length), np.linspace(0, 1, length, dtype=np.float32)[:, None]
            block = block.copy()
            block[:length] = (made * (1 - up) + block[:length] * up).astype(np.int16)
            self._lost, self._period = 0, None
        if self._history.shape[1] != block.shape[1]:
            self._history = block[:0]
        self._history = np.concatenate((self._history, block))[-3 * self._longest :]
        return block

    def lost(self, samples: int) -> Any:
        """A block in the place of a lost one; silence before anything was heard."""
        made = self._made(samples).astype(np.int16)
        self._lost += samples
        return made

    def _made(self, samples: int) -> Any:
        if self._period is None:
            self._period = self._last_period()
        at: Any = self._lost + np.arange(samples)
        gain = np.clip(1 - (at - self._hold) / self._fade, 0, 1).astype(np.float32)[:, None]
        return self._period[at % len(self._period)] * gain

    def _last_period(self) -> Any:
        history = self._history.astype(np.float32)
        if len(history) < 2 * self._longest:
            return np.zeros((1, history.shape[1]), np.float32)
        mono = history.mean(axis=1)
        end, best, lag = mono[-self._longest :], -1.0, self._longest
        for each in range(self._shortest, self._longest + 1):
            past = mono[-self._longest - each : -each]
            energy = float(past @ past) or 1.0
            match = float(end @ past) / energy**0.5
            if match > best:
                best, lag = match, each
        period = history[-lag:].copy()
        # The seam where the period begins again: its end fades into what came before its beginning.
        seam = min(lag // 4, len(history) - lag)
        if seam:
            up = np.linspace(0, 1, seam, dtype=np.float32)[:, None]
            period[-seam:] = period[-seam:] * (1 - up) + history[-lag - seam : -lag] * up
        return period
