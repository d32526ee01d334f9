"""The system calls that a worker may make: an allowlist with rules on arguments; everything else is refused with EPERM.

Landlock does not see changes of mode, owner, time and attributes, so a worker that shares its files' owner with the host must
not make them. Changes of mode and time then succeed without effect: shutil.copy and its like would fail otherwise.
"""

from __future__ import annotations

from avlab_executor.sandbox import bpf
from avlab_executor.sandbox.kernel import set_seccomp_filter
from avlab_executor.sandbox.numbers import AUDIT_ARCH, machine, table


def _names(text: str) -> list[str]:
    return text.split()


_ALLOWED = _names("""
read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64
readv writev access pipe select sched_yield mremap msync mincore madvise dup dup2 pause nanosleep getitimer alarm setitimer getpid
sendfile sendto recvfrom sendmsg recvmsg shutdown getsockname getpeername setsockopt getsockopt exit wait4 uname flock fsync fdatasync
ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink umask gettimeofday getrlimit getrusage
sysinfo times getuid getgid geteuid getegid getppid getpgrp getgroups getresuid getresgid getpgid getsid capget rt_sigpending
rt_sigtimedwait rt_sigsuspend sigaltstack statfs fstatfs getpriority sched_getparam sched_getscheduler sched_get_priority_max
sched_get_priority_min sched_rr_get_interval mlock munlock arch_prctl setrlimit gettid readahead getxattr lgetxattr fgetxattr
listxattr llistxattr flistxattr time futex sched_getaffinity epoll_create getdents64 set_tid_address restart_syscall fadvise64
timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_gettime clock_getres clock_nanosleep exit_group
epoll_wait epoll_ctl mbind set_mempolicy get_mempolicy waitid openat mkdirat newfstatat unlinkat renameat linkat symlinkat
readlinkat faccessat pselect6 ppoll set_robust_list get_robust_list splice tee sync_file_range epoll_pwait signalfd timerfd_create
eventfd fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 preadv pwritev sched_getattr renameat2
getrandom membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx rseq close_range openat2
faccessat2 epoll_pwait2 futex_waitv getcpu cachestat map_shadow_stack mseal
""")
_ABSENT = _names("clone3 io_uring_setup io_uring_enter io_uring_register memfd_create")  # libraries fall back on ENOSYS
_WITH_PROCESSES = _names("fork vfork execve setsid setpgid kill tkill")
_CHANGE_FILES = _names("chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat")
_OWN_FILES_ONLY = _names("chown fchown fchownat setxattr fsetxattr truncate")

_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # every CLONE_NEW* that clone accepts
_AF_UNIX = 1
# Datagram sockets could send to any socket file of the host without connect: streams and SEQPACKET cannot.
_SOCKET_KINDS, _SOCKET_FLAGS = [1, 5], 0x80800
# FIONREAD FIONBIO FIOCLEX FIONCLEX, TCGETS TCGETS2 TIOCGWINSZ (isatty, terminal size)
_IOCTL = [0x541B, 0x5421, 0x5451, 0x5450, 0x5401, 0x802C542A, 0x5413]
# F_SETOWN F_SETSIG F_SETOWN_EX F_SETLEASE F_NOTIFY F_ADD_SEALS
_FCNTL_REFUSED = [8, 10, 15, 1024, 1026, 1033]
# get: PDEATHSIG DUMPABLE KEEPCAPS NAME SECCOMP CAPBSET TIMERSLACK NO_NEW_PRIVS; set: NAME NO_NEW_PRIVS VMA
_PRCTL = [2, 3, 7, 16, 21, 23, 30, 39, 15, 38, 0x53564D41]


def program(own_pid: int, processes: bool, shared_owner: bool, architecture: str | None = None) -> bytes:
    """The filter's bytes for a worker whose pid, as itself sees it, is ``own_pid``.

    processes: fork and exec are allowed (the worker must be alone in a pid namespace). shared_owner: files of the host may belong
    to the worker's user, so changes that Landlock does not see are refused.
    """
    architecture = architecture or machine()
    known = table(architecture)
    rules = _rules(own_pid, processes)
    allowed = set(_ALLOWED)
    allowed.update(_WITH_PROCESSES if processes else ())
    if shared_owner:
        rules |= {name: [bpf.give(bpf.refuse(0))] for name in _CHANGE_FILES}
    else:
        allowed.update(_CHANGE_FILES, _OWN_FILES_ONLY)
    allowed -= rules.keys()

    code = [bpf.load(bpf.ARCH), (bpf.JUMP_EQUAL, 1, 0, AUDIT_ARCH[architecture]), bpf.give(bpf.KILL_PROCESS)]
    code += [bpf.load(bpf.NUMBER), (bpf.JUMP_GREATER_EQUAL, 0, 1, _X32), bpf.give(bpf.KILL_PROCESS)]
    for first, last in bpf.ranges({known[name] for name in allowed if name in known}):
        code += bpf.in_range(first, last, bpf.ALLOW)
    for name, block in rules.items():
        if name in known:
            code += bpf.case(known[name], block)
    return bpf.assemble([*code, bpf.give(bpf.EPERM)])


def install(own_pid: int, processes: bool, shared_owner: bool) -> None:
    """Put the filter on this process, for ever. Raises OSError."""
    set_seccomp_filter(program(own_pid, processes, shared_owner))


def _rules(own_pid: int, processes: bool) -> dict[str, bpf.Block]:
    allow, deny = bpf.ALLOW, bpf.EPERM
    on_itself = bpf.is_one_of(0, [0, own_pid], allow, deny)
    signal_itself = bpf.is_one_of(0, [own_pid], allow, deny)
    clone_mask = _CLONE_NEW if processes else _CLONE_NEW | _CLONE_THREAD
    rules: dict[str, bpf.Block] = {name: [bpf.give(bpf.ENOSYS)] for name in _ABSENT}
    rules |= {
        "clone": bpf.is_one_of(0, [0 if processes else _CLONE_THREAD], allow, deny, clone_mask),
        "socketpair": [
            *[bpf.load(bpf.low(0)), (bpf.JUMP_EQUAL, 1, 0, _AF_UNIX), bpf.give(deny)],
            *bpf.is_one_of(1, _SOCKET_KINDS, allow, deny, 0xFFFFFFFF ^ _SOCKET_FLAGS),
        ],
        "setpriority": [
            *[bpf.load(bpf.low(0)), (bpf.JUMP_EQUAL, 1, 0, 0), bpf.give(deny)],
            *bpf.is_one_of(1, [0, own_pid], allow, deny),
        ],
        "ioctl": bpf.is_one_of(1, _IOCTL, allow, deny),
        "fcntl": bpf.is_one_of(1, _FCNTL_REFUSED, deny, allow),
        "prctl": bpf.is_one_of(0, _PRCTL, allow, deny),
        "personality": bpf.is_one_of(0, [0xFFFFFFFF], allow, deny),
    }
    rules |= dict.fromkeys(
        ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"), on_itself
    )
    if not processes:
        rules |= dict.fromkeys(("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"), signal_itself)
    return rules
