"""What a bad network does to each packet: decided by a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from avlab.core.errors import ConfigError

HELD = 0.03
"""Seconds by which a packet that is to come out of order is held back: more than from one block of sound (20 ms) to the next."""
QUEUE = 0.2
"""Seconds of packets that wait for a narrow network."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with one direction of a network. All shares are between 0 and 1, all times are in seconds.

    loss: share of packets that vanish. burst: how many vanish in a row on average; at least 1/(1 − loss), which is what
    independent losses have, and what smaller values mean. delay: how long each packet takes. jitter: delays are even between
    ``delay − jitter`` and ``delay + jitter``, which changes the order; a delay below the jitter counts as the jitter.
    reorder: share of packets held back by 30 ms more. duplicate: share of packets that come twice. bandwidth: bytes per second, 0: any;
    what would have to wait for more than 0.2 s is lost, as in a router.

    Losses follow the model of Gilbert (1960): a good state without and a bad one with loss.
    Raises ConfigError for what is no share, and for negative times.
    """

    loss: float = 0.0
    burst: float = 1.0
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    bandwidth: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            limit = 1.0 if each.name in ("loss", "reorder", "duplicate") else float("inf")
            if not 0 <= value <= limit or (value == float("inf")):
                raise ConfigError(
                    f"{each.name} is {value!r}: it is a share between 0 and 1, or a time, a length or a rate from 0 on"
                )


class Bottleneck:
    """Packets one after the other through a network of so many bytes per second; times are seconds."""

    def __init__(self) -> None:
        self._free = 0.0

    def passes(self, now: float, size: int, bandwidth: float) -> float | None:
        """How much later a packet is through, or None for one that finds the queue full."""
        if not bandwidth:
            return 0.0
        self._free = max(now, self._free)
        if self._free - now > QUEUE:
            return None
        self._free += size / bandwidth
        return self._free - now


class Fate:
    """The fates of the packets of one direction, in the order in which they come.

    Three things are fixed by ``seed``: which packets vanish, how much later than the fastest each one is, which come twice.
    One fault never changes the dice of another: with jitter added, the same packets are lost. ``seed``: a number or text.
    """

    def __init__(self, faults: Faults, seed: int | str = 0) -> None:
        self._faults = faults
        self._dice = [random.Random(f"{seed}:{name}") for name in ("loss", "delay", "reorder", "duplicate", "second")]
        self._bad = False

    @property
    def faults(self) -> Faults:
        """What is wrong now; may be replaced at any time, the dice go on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults

    def next(self) -> tuple[float, ...]:
        """The next packet's delays in seconds, one for each of its copies; none for a lost one."""
        faults = self._faults
        lost, late, held, twice, second = (each.random() for each in self._dice)
        if self._lose(lost):
            return ()
        first = self._delay(late) + HELD * (held < faults.reorder)
        return (first, self._delay(second)) if twice < faults.duplicate else (first,)

    def _lose(self, dice: float) -> bool:
        """Whether this packet falls into the bad state: a chain whose share of bad packets is ``loss``."""
        loss = self._faults.loss
        if loss in (0.0, 1.0):
            self._bad = loss == 1.0
        else:
            burst = max(self._faults.burst, 1 / (1 - loss))
            self._bad = dice < (1 - 1 / burst if self._bad else loss / (burst * (1 - loss)))
        return self._bad

    def _delay(self, dice: float) -> float:
        faults = self._faults
        return max(faults.delay, faults.jitter) + faults.jitter * (2 * dice - 1)
