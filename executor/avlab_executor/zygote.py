"""The zygote: a single-threaded process that has imported what workers need and forks them on request.

Its parent, the keeper, only watches: when the host dies, by whatever signal, it kills the zygote and with it all workers, and
removes the folders that the pool has left behind.

The control socket (SEQPACKET) carries JSON. From the host: a configuration, then orders {order, profile} with the descriptors
stdout, stderr, session, inbox, outbox. To the host: {tier, reports, administrator} or {refused}, {ready}, and for each order
{started} with a pidfd or {failed}, then {exited, status, cpu, memory}.
"""

from __future__ import annotations

import gc
import json
import os
import select
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from avlab.core.errors import AvlabError
from avlab_executor import guest, newborn
from avlab_executor.sandbox import cgroup, kernel, reap, scratch, tiers
from avlab_executor.sandbox.nest import Nest
from avlab_executor.sandbox.profile import GVISOR, PROCESS, Profile

LARGEST_WORDS = 1 << 17
_DESCRIPTORS = 5


def main(control_fd: str) -> None:
    """The keeper, which forks the zygote."""
    control = socket.socket(fileno=int(control_fd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    words = control.recv(LARGEST_WORDS)
    if not words:
        return
    config = json.loads(words)
    try:
        host = os.pidfd_open(config["host"])
    except OSError as error:
        with control:
            return _tell(control, refused=f"pidfd_open: {error.strerror}: workers need Linux 5.3, or a gVisor that has it")
    if os.getppid() != config["host"]:
        return
    nest = _choose(control, config)
    if nest is None:
        return
    reap.adopt_orphans()
    keeper = os.getpid()
    nest.isolate_children()
    zygote = os.fork()
    if zygote == 0:
        _for_ever(lambda: _run(nest, control, config, keeper))
    control.close()
    _keep(zygote, host, config["folder"], config["groups"])


def _choose(control: socket.socket, config: dict[str, Any]) -> Nest | None:
    reports = []
    try:
        for name in tiers.candidates(config["tier"], config["minimum"]):
            reports.append(tiers.report(name, config["folders"]))
            if reports[-1].available:
                break
        tier = tiers.pick(reports, config["tier"], config["minimum"])
    except AvlabError as error:
        _tell(control, refused=str(error))
        return None
    nest = Nest(tier)
    _tell(control, tier=tier, reports=[report.to_json() for report in reports], administrator=nest.administrator)
    return nest


def _keep(zygote: int, host: int, folder: str, groups: str) -> None:
    child = os.pidfd_open(zygote)
    select.select([child, host], [], [])
    reap.end_children()
    scratch.remove(folder)
    if groups:
        cgroup.remove_all(groups)


def _for_ever(run: Callable[[], None]) -> None:
    try:
        run()
    except BaseException:  # noqa: BLE001  shown to the host; a fork must not run on in the keeper's code
        traceback.print_exc()
    finally:
        os._exit(1)


def _run(nest: Nest, control: socket.socket, config: dict[str, Any], keeper: int) -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (keeper, 0):
        return
    gc.disable()  # nothing that imports make is garbage
    nest.build(config["folders"])
    bear = _bear_guests(nest, config) if nest.tier == GVISOR else _bear_forks(nest, config)
    gc.freeze()
    gc.enable()
    _tell(control, ready=True)
    _Zygote(nest, control, bear).serve()


Bear = Callable[[Profile, int, list[int]], NoReturn]
"""Become a worker, in a fork: its profile, the zygote's pid, its descriptors."""


def _bear_forks(nest: Nest, config: dict[str, Any]) -> Bear:
    entry = newborn.load(newborn.Work(*config["work"]))
    return lambda profile, zygote, descriptors: newborn.live(nest, profile, zygote, entry, descriptors)


def _bear_guests(nest: Nest, config: dict[str, Any]) -> Bear:
    def bear(profile: Profile, zygote: int, descriptors: list[int]) -> NoReturn:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        guest.start(nest, profile, config["work"], sys.path, descriptors)

    return bear


class _Zygote:
    def __init__(self, nest: Nest, control: socket.socket, bear: Bear) -> None:
        self._nest, self._control, self._bear = nest, control, bear
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd: order, pid
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        """Fork and bury workers until the host hangs up; then kill the rest."""
        hung_up = False
        while not hung_up:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    hung_up = not self._obey()
                else:
                    self._bury(key.fd)
        for _, pid in self._workers.values():
            os.kill(pid, signal.SIGKILL)
        for _, pid in self._workers.values():
            os.waitpid(pid, 0)
        os._exit(0)

    def _obey(self) -> bool:
        words, descriptors, _, _ = socket.recv_fds(self._control, LARGEST_WORDS, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not words:
            return False
        order = json.loads(words)
        zygote = os.getpid()
        try:
            pid = self._nest.fork()
            if pid == 0:
                self._selector.close()
                self._control.detach()  # its number is about to be another file
                self._become(Profile.from_json(order["profile"]), zygote, descriptors)
        except OSError as error:
            _tell(self._control, failed=order["order"], error=str(error))
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        handle = os.pidfd_open(pid)
        self._workers[handle] = (order["order"], pid)
        self._selector.register(handle, selectors.EVENT_READ)
        _tell(self._control, [handle], started=order["order"])
        return True

    def _become(self, profile: Profile, zygote: int, descriptors: list[int]) -> NoReturn:
        try:
            self._bear(profile, zygote, descriptors)
        except BaseException:  # noqa: BLE001  shown on the worker's stderr; a fork must not run on in the zygote's code
            os.dup2(descriptors[1], 2)
            traceback.print_exc()
        finally:
            os._exit(newborn.CANNOT_START)

    def _bury(self, handle: int) -> None:
        order, pid = self._workers.pop(handle)
        self._selector.unregister(handle)
        os.close(handle)
        _, status, usage = os.wait4(pid, 0)
        if self._nest.tier == PROCESS:
            _kill_group(pid)
        _tell(
            self._control,
            exited=order,
            status=status,
            cpu=usage.ru_utime + usage.ru_stime,
            memory=usage.ru_maxrss << 10,
        )


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tell(control: socket.socket, descriptors: tuple[int, ...] | list[int] = (), **words: Any) -> None:
    try:
        socket.send_fds(control, [json.dumps(words).encode()], descriptors)
    except BrokenPipeError:
        return  # the host has just hung up: the next read says so
