"""A small assembler for classic BPF as seccomp reads it: instructions on one 32-bit accumulator, conditional jumps forward only."""

from __future__ import annotations

import errno
import struct

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_SET = 0x15, 0x25, 0x35, 0x45
RETURN = 0x06

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant
Block = list[Instruction]

NUMBER, ARCH = 0, 4  # offsets in struct seccomp_data


def low(argument: int) -> int:
    """Offset of the low 32 bits of an argument; both architectures are little-endian."""
    return 16 + 8 * argument


def refuse(code: int) -> int:
    """The action: the call returns -1 with this errno; 0 makes it a success that did nothing."""
    return 0x00050000 | code


EPERM = refuse(errno.EPERM)
ENOSYS = refuse(errno.ENOSYS)


def load(offset: int) -> Instruction:
    """accumulator = 32-bit word of struct seccomp_data."""
    return (LOAD, 0, 0, offset)


def give(action: int) -> Instruction:
    """End with this action."""
    return (RETURN, 0, 0, action)


def in_range(first: int, last: int, action: int) -> Block:
    """``action`` if first <= accumulator <= last, else go on."""
    if first == last:
        return [(JUMP_EQUAL, 0, 1, first), give(action)]
    return [(JUMP_GREATER_EQUAL, 0, 2, first), (JUMP_GREATER, 1, 0, last), give(action)]


def is_one_of(argument: int, values: list[int], action: int, otherwise: int, mask: int | None = None) -> Block:
    """``action`` if the argument (after ``mask``) is one of ``values``, else ``otherwise``."""
    block: Block = [load(low(argument))]
    if mask is not None:
        block.append((AND, 0, 0, mask))
    for value in values:
        block += [(JUMP_EQUAL, 0, 1, value & 0xFFFFFFFF), give(action)]
    return [*block, give(otherwise)]


def case(value: int, block: Block) -> Block:
    """Run ``block`` (which must end the program) if the accumulator equals ``value``."""
    return [(JUMP_EQUAL, 0, len(block), value), *block]


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """Consecutive runs of numbers, in order."""
    runs: list[tuple[int, int]] = []
    for value in sorted(numbers):
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def assemble(program: Block) -> bytes:
    """The bytes of struct sock_filter[]. Jump distances must fit a byte."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
