"""The filter's program on both architectures, run by a small interpreter of classic BPF: the kernel of the other one is not here."""

import errno
import struct

import pytest
from avlab_executor.sandbox import bpf, seccomp
from avlab_executor.sandbox.numbers import AUDIT_ARCH, table

OWN = 4711
THREAD = 0x003D0F00  # the flags of pthread_create
ALLOW, KILL = "allow", "kill"


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...]) -> str | int:
    data = struct.pack("=IIQ6Q", number, arch, 0, *(a & (1 << 64) - 1 for a in (*arguments, *[0] * 6)[:6]))
    accumulator = at = 0
    while True:
        code, yes, no, value = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        match code:
            case bpf.LOAD:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case bpf.AND:
                accumulator &= value
            case bpf.JUMP_EQUAL:
                at += yes if accumulator == value else no
            case bpf.JUMP_GREATER:
                at += yes if accumulator > value else no
            case bpf.JUMP_GREATER_EQUAL:
                at += yes if accumulator >= value else no
            case bpf.RETURN:
                return {bpf.ALLOW: ALLOW, bpf.KILL_PROCESS: KILL}.get(value, value & 0xFFFF)
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.fixture(params=list(AUDIT_ARCH))
def ask(request):
    """What the filter answers to a call by name."""

    def answer(name: str, *arguments: int, processes: bool = False, shared_owner: bool = True):
        program = seccomp.program(OWN, processes, shared_owner, request.param)
        return run(program, AUDIT_ARCH[request.param], table(request.param)[name], arguments)

    return answer


@pytest.mark.parametrize(
    "name", ["read", "mmap", "futex", "openat", "exit_group", "getrandom", "rt_sigreturn", "clock_nanosleep"]
)
def test_ordinary_calls_pass(ask, name):
    assert ask(name) == ALLOW


@pytest.mark.parametrize(
    "name", ["socket", "ptrace", "bpf", "mount", "unshare", "setns", "keyctl", "userfaultfd", "execve", "pidfd_open"]
)
def test_dangerous_calls_fail(ask, name):
    assert ask(name) == errno.EPERM


@pytest.mark.parametrize("name", ["clone3", "io_uring_setup", "memfd_create"])
def test_calls_that_libraries_can_do_without_are_absent(ask, name):
    assert ask(name) == errno.ENOSYS


def test_threads_and_processes(ask):
    assert ask("clone", THREAD) == ALLOW
    assert ask("clone", 17) == errno.EPERM
    assert ask("clone", 17, processes=True) == ALLOW
    for processes in (False, True):
        assert ask("clone", THREAD | 0x10000000, processes=processes) == errno.EPERM
    assert ask("execve", processes=True) == ALLOW


@pytest.mark.parametrize("name", ["kill", "tgkill", "rt_sigqueueinfo"])
def test_signals_reach_the_worker_only(ask, name):
    assert ask(name, OWN) == ALLOW
    assert ask(name, OWN + 1) == ask(name, 0) == ask(name, -1) == errno.EPERM
    assert ask(name, OWN + 1, processes=True) == (ALLOW if name == "kill" else errno.EPERM)


@pytest.mark.parametrize("name", ["prlimit64", "sched_setaffinity", "sched_setscheduler"])
def test_settings_of_others(ask, name):
    assert ask(name, 0) == ask(name, OWN) == ALLOW
    assert ask(name, 1) == errno.EPERM


def test_only_pairs_of_connected_sockets(ask):
    stream, datagram, seqpacket, raw, nonblocking = 1, 2, 5, 3, 0x800
    assert ask("socketpair", 1, stream | nonblocking) == ask("socketpair", 1, seqpacket) == ALLOW
    assert ask("socketpair", 1, datagram) == ask("socketpair", 1, raw) == ask("socketpair", 2, stream) == errno.EPERM


def test_high_halves_of_integers_do_not_hide_them(ask):
    assert ask("ioctl", 0, 1 << 32 | 0x5412) == ask("fcntl", 3, 1 << 32 | 8) == errno.EPERM
    assert ask("clone", 1 << 32 | 17) == errno.EPERM


def test_a_shared_owner_changes_no_mode_and_no_owner(ask):
    assert ask("fchmodat") == ask("utimensat") == 0
    assert ask("fchmodat", shared_owner=False) == ask("fchown", shared_owner=False) == ALLOW
    assert ask("fchown") == ask("truncate") == errno.EPERM


@pytest.mark.parametrize("architecture", list(AUDIT_ARCH))
def test_other_architectures_kill(architecture):
    program = seccomp.program(OWN, False, True, architecture)
    other = next(value for name, value in AUDIT_ARCH.items() if name != architecture)
    assert run(program, other, 0, ()) == KILL
    assert run(program, 0x40000003, 20, ()) == KILL  # i386
    assert run(program, AUDIT_ARCH[architecture], 0x40000000, ()) == KILL  # x32
