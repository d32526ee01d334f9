"""What a hostile session would try, with what it must get; and the worker's entry that tries it on request.

A row: what is attempted, how, and the errno that each tier must answer (one name, or several with ``|`` where kernels differ).
"no effect" stands for a call that pretends to succeed and changes nothing, "its own" for one that finds only what belongs to the
session: its own process, or the kernel that gVisor gives it. Whatever else succeeds is an escape.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import avlab_executor
from avlab_executor.sandbox.kernel import SECCOMP_MODE_FILTER, prctl, syscall
from avlab_executor.sandbox.visible import SYSTEM, SYSTEM_FILES

import avlab

NO_EFFECT, ITS_OWN = "no effect", "its own"
PR_GET_SECCOMP = 21


@dataclass(frozen=True)
class Attempt:
    name: str
    run: Callable[[SimpleNamespace], object]
    expected: dict[str, str] = field(default_factory=dict)


def main(fds) -> None:
    """Worker entry: {"attempt", "facts"} in, {"outcome"} out, one JSON line each."""
    refuse_unless_confined()
    by_name = {attempt.name: attempt for attempt in ATTEMPTS}
    with socket.socket(fileno=fds.session) as link, link.makefile("rw") as lines:
        for line in lines:
            request = json.loads(line)
            outcome = outcome_of(by_name[request["attempt"]], SimpleNamespace(**request["facts"]))
            lines.write(json.dumps({"outcome": outcome}) + "\n")
            lines.flush()


def when_told(fds) -> None:
    """Worker entry: `main` after a first byte, which who acquires the worker sends when it has looked at it."""
    os.read(fds.session, 1)
    main(fds)


def refuse_unless_confined() -> None:
    if prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER:
        raise SystemExit("this is attack code: it runs in a locked worker only")


def outcome_of(attempt: Attempt, facts: SimpleNamespace) -> str:
    try:
        result = attempt.run(facts)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return str(result) if result in (NO_EFFECT, ITS_OWN) else f"success: {result!r:.80}"


def read(path: str) -> object:
    with open(path, "rb") as file:
        return file.read(64)


def write(path: str, flags: int = os.O_WRONLY) -> object:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        return os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def create(path: str) -> object:
    return write(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def its_own(found: object, is_own: bool) -> object:
    return ITS_OWN if is_own else found


def environment_of_first() -> object:
    found = read("/proc/1/environ")
    return its_own(found, os.getpid() == 1)


def host_name(facts: SimpleNamespace) -> object:
    found = read("/proc/sys/kernel/hostname")
    return its_own(found, found.strip() not in (b"", facts.host_name.encode()))


def without_rows(path: str) -> object:
    """A table of connections: gVisor's own has none, whatever the host has."""
    with open(path) as file:
        rows = file.read().splitlines()
    return its_own(rows, len(rows) <= 1)


def mounts(facts: SimpleNamespace) -> object:
    with open("/proc/self/mountinfo") as file:
        found = file.read()
    return its_own(found, not any(text in found for text in (facts.home, facts.checkout, facts.secret)))


def processes() -> object:
    found = [name for name in os.listdir("/proc") if name.isdigit()]
    return its_own(found, found == [str(os.getpid())] == ["1"])


def listing(path: str) -> object:
    """Names in a folder; its own are those that lead to what every session may see."""
    found = os.listdir(path)
    seen = [*SEEN, *sys.path]
    return its_own(found, all(any((s + "/").startswith(os.path.join(path, n) + "/") for s in seen) for n in found))


def signal_first() -> object:
    return ITS_OWN if os.getpid() == 1 else os.kill(1, SIGTERM)


def through_link(target: str) -> object:
    if os.path.islink("link"):
        os.unlink("link")
    os.symlink(target, "link")
    return read("link")


def unless_changed(path: str, change: Callable[[], object]) -> object:
    def look() -> tuple[int, int, int]:
        now = os.stat(path)
        return now.st_mode, now.st_mtime_ns, now.st_uid

    before = look()
    change()
    return NO_EFFECT if look() == before else "changed"


def on_read_descriptor(path: str, change: Callable[[int], object]) -> object:
    with open(path, "rb") as file:
        return unless_changed(path, lambda: change(file.fileno()))


def new_socket(family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> object:
    with socket.socket(family, kind, protocol) as made:
        return made


def raw(name: str, *arguments: int | bytes | None) -> Callable[[SimpleNamespace], object]:
    return lambda facts: syscall(name, *arguments)


def shared_write(descriptor: int) -> object:
    with mmap.mmap(descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        memory[0] = 1
        return "written"


INTERPRETER = os.path.realpath(sys.executable)
MODULE = os.path.realpath(json.__file__)
STDLIB = os.path.dirname(MODULE)
SEEN = [*SYSTEM, *SYSTEM_FILES, sys.prefix, sys.base_prefix, "/proc", "/dev", "/sys", "/tmp", "/scratch"]
SEEN += [folder for package in (avlab, avlab_executor) for folder in package.__path__]
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID = 0x10000000, 0x40000000, 0x20000, 0x20000000
SIGCHLD, SIGTERM = 17, 15
UNREADABLE = "EACCES|ENOENT"


def same(expected: str, gvisor: str = "") -> dict[str, str]:
    return {"landlock": expected, "namespaces": expected, "gvisor": gvisor or expected}


def differ(landlock: str, nested: str) -> dict[str, str]:
    return {"landlock": landlock, "namespaces": nested, "gvisor": nested}


ATTEMPTS = [
    # Reading what is not the session's.
    Attempt("read a secret of the host", lambda f: read(f.secret), same(UNREADABLE)),
    Attempt("read a secret through a symbolic link", lambda f: through_link(f.secret), same(UNREADABLE)),
    Attempt("read a secret with ..", lambda f: read("../" * 20 + f.secret), same(UNREADABLE)),
    Attempt("read /etc/shadow", lambda f: read("/etc/shadow"), same(UNREADABLE)),
    Attempt("read /etc/passwd", lambda f: read("/etc/passwd"), same(UNREADABLE)),
    Attempt("read the environment of process 1", lambda f: environment_of_first(), same("EACCES", ITS_OWN)),
    Attempt("read the environment of the host", lambda f: read(f"/proc/{f.host}/environ"), same(UNREADABLE)),
    Attempt("read the memory of the host", lambda f: read(f"/proc/{f.host}/mem"), same(UNREADABLE)),
    Attempt("read the command line of the host", lambda f: read(f"/proc/{f.host}/cmdline"), same(UNREADABLE)),
    Attempt("look through the root of the host", lambda f: os.listdir(f"/proc/{f.host}/root"), same(UNREADABLE)),
    Attempt("read /proc/keys", lambda f: read("/proc/keys"), same(UNREADABLE)),
    Attempt("read /proc/kallsyms", lambda f: read("/proc/kallsyms"), same("EACCES", "ENOENT")),
    Attempt("read /proc/sys", host_name, same("EACCES", ITS_OWN)),
    Attempt("read the table of connections", lambda f: without_rows("/proc/self/net/tcp"), same(UNREADABLE, ITS_OWN)),
    Attempt(
        "the same by way of a thread",
        lambda f: without_rows(f"/proc/self/task/{os.getpid()}/net/unix"),
        same(UNREADABLE, ITS_OWN),
    ),
    Attempt("read the table of mounts", mounts, same(UNREADABLE, ITS_OWN)),
    Attempt("list the processes", lambda f: processes(), same(UNREADABLE, ITS_OWN)),
    Attempt("list /", lambda f: listing("/"), same("EACCES", ITS_OWN)),
    Attempt("list the home of the host's user", lambda f: listing(f.home), same(UNREADABLE, f"{ITS_OWN}|ENOENT")),
    Attempt("list the folder of the checkout", lambda f: listing(f.checkout), same(UNREADABLE, f"{ITS_OWN}|ENOENT")),
    Attempt("open a device", lambda f: read("/dev/mem"), same(UNREADABLE)),
    Attempt("open the terminal", lambda f: read("/dev/tty"), same("EACCES|ENOENT|ENXIO", "EIO|ENXIO")),
    Attempt("read the kernel's log", lambda f: read("/dev/kmsg"), same(UNREADABLE)),
    # Writing outside of the scratch folder.
    Attempt(
        "write /proc/sys/kernel/core_pattern",
        lambda f: write("/proc/sys/kernel/core_pattern"),
        same("EACCES|EROFS", "ENOENT"),
    ),
    Attempt(
        "write /proc/self/oom_score_adj", lambda f: write("/proc/self/oom_score_adj"), same("EACCES|EROFS", "EINVAL")
    ),
    Attempt("write /sys", lambda f: write("/sys/kernel/profiling"), same(UNREADABLE)),
    Attempt("create a file in /usr", lambda f: create("/usr/x"), same("EACCES|EROFS")),
    Attempt("create a file in /var/tmp", lambda f: create("/var/tmp/x"), same(UNREADABLE)),
    Attempt("create a file in the standard library", lambda f: create(STDLIB + "/x.py"), same("EACCES|EROFS")),
    Attempt("create a file in the host's open folder", lambda f: create(f.open_folder + "/x"), same(UNREADABLE)),
    Attempt("change a module", lambda f: write(MODULE), same("EACCES|EROFS")),
    Attempt("truncate a module", lambda f: write(MODULE, os.O_WRONLY | os.O_TRUNC), same("EACCES|EROFS")),
    Attempt("truncate a module by name", lambda f: os.truncate(MODULE, 0), same("EPERM|EACCES|EROFS")),
    Attempt("remove a module", lambda f: os.unlink(MODULE), same("EACCES|EROFS")),
    Attempt("remove a folder", lambda f: os.rmdir("/usr/lib"), same("EACCES|EROFS|EBUSY")),
    Attempt("make a folder", lambda f: os.mkdir("/usr/x"), same("EACCES|EROFS")),
    Attempt("link a module into scratch", lambda f: os.link(MODULE, "hard"), same("EXDEV|EACCES|EPERM")),
    Attempt("link a secret into scratch", lambda f: os.link(f.secret, "hard"), same("EXDEV|EACCES|EPERM|ENOENT")),
    Attempt("move a module into scratch", lambda f: os.rename(MODULE, "moved"), same("EXDEV|EACCES|EROFS")),
    Attempt(
        "change a module's mode",
        lambda f: unless_changed(MODULE, lambda: os.chmod(MODULE, 0o777)),
        differ(NO_EFFECT, "EROFS|EPERM"),
    ),
    Attempt(
        "change a module's mode by descriptor",
        lambda f: on_read_descriptor(MODULE, lambda d: os.chmod(d, 0o777)),
        differ(NO_EFFECT, "EROFS|EPERM"),
    ),
    Attempt(
        "change a module's time",
        lambda f: unless_changed(MODULE, lambda: os.utime(MODULE, (1, 1))),
        differ(NO_EFFECT, "EROFS|EPERM|EACCES"),
    ),
    Attempt("change a module's owner", lambda f: os.chown(MODULE, 1, 1), same("EPERM|EROFS")),
    Attempt(
        "set an attribute on a module",
        lambda f: os.setxattr(MODULE, "user.x", b"x"),
        same("EPERM|EROFS|EACCES|EOPNOTSUPP"),
    ),
    Attempt("make a device", lambda f: os.mknod("device", 0o020666, os.makedev(1, 1)), same("EPERM")),
    Attempt("make a FIFO", lambda f: os.mkfifo("fifo"), same("EPERM")),
    # Shared memory: the input is read-only, the sizes are fixed.
    Attempt("write to the inbox", lambda f: os.write(4, b"x"), same("EBADF")),
    Attempt("map the inbox writable", lambda f: shared_write(4), same("EACCES")),
    Attempt("open the inbox again for writing", lambda f: write("/proc/self/fd/4", os.O_RDWR), same("EACCES")),
    Attempt("shrink the inbox", lambda f: os.ftruncate(4, 0), same("EINVAL|EPERM")),
    Attempt("shrink the outbox", lambda f: os.ftruncate(5, 4096), same("EPERM")),
    Attempt("grow the outbox", lambda f: os.ftruncate(5, os.fstat(5).st_size + 4096), same("EPERM")),
    Attempt("seal the outbox", lambda f: fcntl.fcntl(5, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE), same("EPERM")),
    # Sockets.
    Attempt("a TCP socket", lambda f: new_socket(socket.AF_INET), same("EPERM")),
    Attempt("a TCP socket, IPv6", lambda f: new_socket(socket.AF_INET6), same("EPERM")),
    Attempt("a UDP socket", lambda f: new_socket(socket.AF_INET, socket.SOCK_DGRAM), same("EPERM")),
    Attempt("a raw socket", lambda f: new_socket(socket.AF_INET, socket.SOCK_RAW, 1), same("EPERM")),
    Attempt("a unix socket", lambda f: new_socket(socket.AF_UNIX), same("EPERM")),
    Attempt("a unix datagram socket", lambda f: new_socket(socket.AF_UNIX, socket.SOCK_DGRAM), same("EPERM")),
    Attempt("a netlink socket", lambda f: new_socket(socket.AF_NETLINK, socket.SOCK_RAW), same("EPERM")),
    Attempt("a VSOCK socket", lambda f: new_socket(socket.AF_VSOCK), same("EPERM")),
    Attempt("a packet socket", lambda f: new_socket(socket.AF_PACKET, socket.SOCK_RAW), same("EPERM")),
    Attempt("a kernel crypto socket", lambda f: new_socket(socket.AF_ALG, socket.SOCK_SEQPACKET), same("EPERM")),
    Attempt(
        "a datagram pair, which could reach any socket file",
        lambda f: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        same("EPERM"),
    ),
    Attempt(
        "a raw pair, which is a datagram pair",
        lambda f: socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW),
        same("EPERM"),
    ),
    # Other processes.
    Attempt("fork", lambda f: os.fork() or os._exit(0), same("EPERM")),
    Attempt("clone without a thread", raw("clone", SIGCHLD, 0, 0, 0, 0), same("EPERM")),
    Attempt("clone into a user namespace", raw("clone", CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), same("EPERM")),
    Attempt(
        "a thread in a network namespace",
        raw("clone", CLONE_NEWNET | 0x10000 | 0x100 | 0x800, 0, 0, 0, 0),
        same("EPERM"),
    ),
    Attempt("clone3", raw("clone3", bytes(88), 88), same("ENOSYS")),
    Attempt("exec", lambda f: os.execv("/usr/bin/env", ["env"]), same("EPERM")),
    Attempt("exec by descriptor", raw("execveat", -100, b"/usr/bin/env", None, None, 0), same("EPERM")),
    Attempt("spawn", lambda f: os.posix_spawn("/usr/bin/env", ["env"], {}), same("EPERM|ENOSYS")),
    Attempt("trace the host", lambda f: syscall("ptrace", 16, f.host, 0, 0), same("EPERM")),
    Attempt("be traced", raw("ptrace", 0, 0, 0, 0), same("EPERM")),
    Attempt(
        "read the host's memory", lambda f: syscall("process_vm_readv", f.host, None, 0, None, 0, 0), same("EPERM")
    ),
    Attempt(
        "write the host's memory", lambda f: syscall("process_vm_writev", f.host, None, 0, None, 0, 0), same("EPERM")
    ),
    Attempt("signal the host", lambda f: os.kill(f.host, 0), same("EPERM")),
    Attempt("signal process 1", lambda f: signal_first(), differ("EPERM", ITS_OWN)),
    Attempt("signal the zygote", lambda f: os.kill(f.zygote, 0), same("EPERM")),
    Attempt("signal everybody", lambda f: os.kill(-1, 0), same("EPERM")),
    Attempt("signal the group", lambda f: os.kill(0, 0), same("EPERM")),
    Attempt("signal a thread of the host", lambda f: syscall("tgkill", f.host, f.host, 0), same("EPERM")),
    Attempt("signal a thread, the old way", lambda f: syscall("tkill", f.host, 0), same("EPERM")),
    Attempt(
        "queue a signal to the host", lambda f: syscall("rt_sigqueueinfo", f.host, SIGTERM, bytes(128)), same("EPERM")
    ),
    Attempt("a handle on the host", lambda f: os.pidfd_open(f.host), same("EPERM")),
    Attempt("take a descriptor of the host", raw("pidfd_getfd", 3, 0, 0), same("EPERM")),
    Attempt(
        "change the host's limits",
        lambda f: syscall("prlimit64", f.host, 7, struct.pack("QQ", 1, 1), None),
        same("EPERM"),
    ),
    Attempt("raise its own limits", raw("prlimit64", 0, 7, struct.pack("QQ", 1 << 20, 1 << 20), None), same("EPERM")),
    Attempt("change the host's priority", lambda f: os.setpriority(os.PRIO_PROCESS, f.host, 19), same("EPERM")),
    Attempt("change the user's priority", lambda f: os.setpriority(os.PRIO_USER, 0, 19), same("EPERM")),
    Attempt("bind the host to a processor", lambda f: os.sched_setaffinity(f.host, {0}), same("EPERM")),
    Attempt(
        "change the host's scheduler",
        lambda f: os.sched_setscheduler(f.host, os.SCHED_BATCH, os.sched_param(0)),
        same("EPERM"),
    ),
    Attempt(
        "real-time priority",
        lambda f: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        same("EPERM", "EINVAL"),
    ),
    Attempt("compare with the host", lambda f: syscall("kcmp", f.host, f.host, 0, 0, 0), same("EPERM")),
    Attempt("move the host's memory", lambda f: syscall("migrate_pages", f.host, 0, None, None), same("EPERM")),
    Attempt("a new session", lambda f: os.setsid(), same("EPERM")),
    Attempt("a new group", lambda f: os.setpgid(0, 0), same("EPERM")),
    # Signals and input by way of descriptors.
    Attempt("type into the terminal", raw("ioctl", 0, 0x5412, b"x"), same("EPERM")),
    Attempt("paste into the console", raw("ioctl", 0, 0x541C, b"\3"), same("EPERM")),
    Attempt("have the kernel signal another", lambda f: fcntl.fcntl(3, fcntl.F_SETOWN, f.host), same("EPERM")),
    Attempt("choose that signal", lambda f: fcntl.fcntl(3, fcntl.F_SETSIG, SIGTERM), same("EPERM")),
    Attempt("the same by ioctl", lambda f: fcntl.ioctl(3, 0x8901, struct.pack("i", f.host)), same("EPERM")),
    # Kernel interfaces.
    Attempt("bpf", raw("bpf", 0, bytes(64), 64), same("EPERM")),
    Attempt("perf", raw("perf_event_open", bytes(112), 0, -1, -1, 0), same("EPERM")),
    Attempt("io_uring", raw("io_uring_setup", 1, bytes(120)), same("ENOSYS")),
    Attempt("io_uring, enter", raw("io_uring_enter", 3, 0, 0, 0, None, 0), same("ENOSYS")),
    Attempt("userfaultfd", raw("userfaultfd", 1), same("EPERM")),
    Attempt("memfd", lambda f: os.memfd_create("x"), same("ENOSYS")),
    Attempt("secret memfd", raw("memfd_secret", 0), same("EPERM")),
    Attempt("keyctl", raw("keyctl", 0, -3, 0, 0, 0), same("EPERM")),
    Attempt("add_key", raw("add_key", b"user", b"x", b"x", 1, -3), same("EPERM")),
    Attempt("request_key", raw("request_key", b"user", b"x", None, 0), same("EPERM")),
    Attempt("a file handle", raw("name_to_handle_at", -100, b"/", bytes(136), bytes(8), 0), same("EPERM")),
    Attempt("open by handle", raw("open_by_handle_at", 3, bytes(136), 0), same("EPERM")),
    Attempt("a message queue", raw("mq_open", b"x", 0o102, 0o600, None), same("EPERM")),
    Attempt("System V memory", raw("shmget", 0, 4096, 0o1600), same("EPERM")),
    Attempt("System V semaphores", raw("semget", 0, 1, 0o1600), same("EPERM")),
    Attempt("System V messages", raw("msgget", 0, 0o1600), same("EPERM")),
    Attempt("load a module", raw("init_module", None, 0, b""), same("EPERM")),
    Attempt("reboot", raw("reboot", 0, 0, 0, None), same("EPERM")),
    Attempt("swap", raw("swapon", b"x", 0), same("EPERM")),
    Attempt("the kernel's log", raw("syslog", 3, bytes(64), 64), same("EPERM")),
    Attempt("accounting", raw("acct", None), same("EPERM")),
    Attempt("quota", raw("quotactl", 0, None, 0, None), same("EPERM")),
    Attempt("watch files", raw("inotify_init1", 0), same("EPERM")),
    Attempt("watch all files", raw("fanotify_init", 0, 0), same("EPERM")),
    Attempt("flush every disk", raw("sync"), same("EPERM")),
    Attempt("set the clock", raw("settimeofday", bytes(16), None), same("EPERM")),
    Attempt("adjust the clock", raw("adjtimex", struct.pack("I204x", 1)), same("EPERM")),
    Attempt("another seccomp filter", raw("seccomp", 1, 0, None), same("EPERM")),
    Attempt("another Landlock ruleset", raw("landlock_create_ruleset", None, 0, 1), same("EPERM")),
    # Namespaces and mounts.
    Attempt("a user namespace", raw("unshare", CLONE_NEWUSER), same("EPERM")),
    Attempt("a mount namespace", raw("unshare", CLONE_NEWNS), same("EPERM")),
    Attempt("enter a namespace", lambda f: syscall("setns", 3, CLONE_NEWPID), same("EPERM")),
    Attempt("mount", raw("mount", b"none", b"/usr", b"tmpfs", 0, b""), same("EPERM")),
    Attempt("unmount", raw("umount2", b"/proc", 2), same("EPERM")),
    Attempt("another root", raw("pivot_root", b".", b"."), same("EPERM")),
    Attempt("chroot", lambda f: os.chroot("."), same("EPERM")),
    Attempt("clone a mount", raw("open_tree", -100, b"/", 1), same("EPERM")),
    Attempt("a new file system", raw("fsopen", b"tmpfs", 0), same("EPERM")),
    Attempt("change a mount", raw("mount_setattr", -100, b"/usr", 0, bytes(32), 32), same("EPERM")),
    Attempt("another host name", lambda f: socket.sethostname("x"), same("EPERM")),
    # Privileges.
    Attempt("become root", lambda f: os.setuid(0), same("EPERM")),
    Attempt("become another user", lambda f: os.setresuid(1, 1, 1), same("EPERM")),
    Attempt("another group", lambda f: os.setgid(0), same("EPERM")),
    Attempt("more groups", lambda f: os.setgroups([0]), same("EPERM")),
    Attempt("capabilities", raw("capset", struct.pack("Ii", 0x20080522, 0), b"\xff" * 24), same("EPERM")),
    Attempt("outlive the zygote", raw("prctl", 1, 0, 0, 0, 0), same("EPERM")),
    Attempt("be dumpable", raw("prctl", 4, 1, 0, 0, 0), same("EPERM")),
    Attempt("keep capabilities", raw("prctl", 8, 1, 0, 0, 0), same("EPERM")),
    Attempt("turn address randomisation off", raw("personality", 0x40000), same("EPERM")),
]
