"""A worker's first moments: our own code between the zygote's fork and the first user byte."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import io
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from avlab_executor.sandbox import handshake, rlimits, selfprobe
from avlab_executor.sandbox.nest import Nest
from avlab_executor.sandbox.profile import GVISOR, Profile

CANNOT_START = 70  # EX_SOFTWARE of sysexits.h
_ABOVE_ALL = 64
_HIGHEST = 1 << 20


class Descriptors(NamedTuple):
    """What a worker has besides standard input (empty), output and error; its entry function is called with it.

    session: a stream socket to the host. inbox: the memory that the host writes, read-only here. outbox: the memory that the
    worker writes.
    """

    session: int = 3
    inbox: int = 4
    outbox: int = 5


Entry = Callable[[Descriptors], object]


def live(nest: Nest, profile: Profile, zygote: int, entry: Entry, descriptors: Sequence[int]) -> NoReturn:
    """Become a worker: take the descriptors, lock, prove it, hear the limits, serve.

    descriptors: stdout, stderr, session, inbox, outbox and, where signals of the host do not arrive, a pipe that stands for SIGINT.
    """
    code = CANNOT_START
    try:
        if os.getsid(0) != os.getpid():
            os.setsid()
        _arrange(nest, descriptors)
        if _lock(nest, profile, zygote):
            code = 1
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if len(descriptors) > len(Descriptors()) + 2:
                _interrupt_at(len(descriptors))
            entry(Descriptors())
            code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")  # as the interpreter does
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  shown on the worker's stderr; it must not run on in the zygote's code
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code & 0xFF)


class Work(NamedTuple):
    """What workers run, in plain values. entry: "module:function". preload: modules to import before a worker exists. late: the import
    path once it is locked, if another. bare: the entry, too, is imported only then."""

    entry: str
    preload: Sequence[str] = ()
    late: Sequence[str] = ()
    bare: bool = False


def load(work: Work) -> Entry:
    """Import what workers need, as far as it is installed, and the entry. Raises what imports raise.

    Packages that a session has asked for are strangers: they come into the import path of the locked worker only.
    """
    for name in work.preload:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    if not work.bare:
        entry = _find(work.entry)
    return partial(_enter_late, work) if work.late else entry


def _find(name: str) -> Entry:
    module, _, function = name.partition(":")
    found: Entry = getattr(importlib.import_module(module), function)
    return found


def _enter_late(work: Work, descriptors: Descriptors) -> object:
    sys.path[:] = work.late
    importlib.invalidate_caches()
    return _find(work.entry)(descriptors)


def _interrupt_at(pipe: int) -> None:
    main = threading.main_thread().ident or 0

    def listen() -> None:
        while os.read(pipe, 1):
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=listen, name="avlab-sigint", daemon=True).start()


def _arrange(nest: Nest, descriptors: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    moved = [fcntl.fcntl(d, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL) for d in (null, *descriptors)]
    # The place that locking needs comes last: its old number may be one of the targets.
    nest.move(fcntl.fcntl(nest.proc, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL))
    for target, descriptor in enumerate(moved):
        os.dup2(descriptor, target, inheritable=target <= 2)
    nest.move(len(moved))
    os.closerange(len(moved) + 1, _HIGHEST)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _lock(nest: Nest, profile: Profile, zygote: int) -> bool:
    """Lock and report; returns whether the host accepts the worker."""
    link = socket.socket(fileno=Descriptors().session)
    try:
        try:
            nest.lock(profile, zygote)
        except OSError as error:
            handshake.send(link, {"error": error.strerror or str(error)})
            return False
        _forget_the_zygote()
        report: dict[str, object] = {"answers": selfprobe.answers(profile)}
        if profile.tier == GVISOR:  # others are measured from outside
            report["size"] = rlimits.address_space(os.getpid())
        handshake.send(link, report)
        try:
            limits = handshake.receive(link)
        except EOFError:
            return False  # the pool was closed before anybody needed this worker
        rlimits.apply(limits)
        handshake.send(link, {"limits": rlimits.own()})
        return True
    finally:
        link.detach()


def _forget_the_zygote() -> None:
    # Python renews its own random generator after a fork; numpy's global one would give every session the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    tempfile.tempdir = None  # worked out before the scratch folder was there


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the host has closed its end, or user code the stream
            continue
