"""The host's handle on one keeper and zygote: starts them, sends orders, reads what they tell."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from avlab.core.errors import AvlabError, TierUnavailable
from avlab.remote.interrupts import exposed
from avlab_executor.newborn import Work
from avlab_executor.sandbox import cgroup, scratch
from avlab_executor.sandbox.launch import command, environment
from avlab_executor.sandbox.profile import Profile
from avlab_executor.sandbox.tiers import TierReport
from avlab_executor.sandbox.visible import Visible, visible
from avlab_executor.zygote import LARGEST_WORDS

ENTRY = "avlab_executor.worker.main:main"
PRELOAD = ("numpy", "av", "cloudpickle", "avlab.core.codec", "avlab.core.wire", "avlab.core.drive", "avlab.core.node")

_DECISION_SECONDS = 30.0
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a zygote shall be. entry: "module:function" that a worker runs; preload: modules to import once for all workers; seen: what
    they see, if not what this interpreter and ``paths`` give."""

    tier: str | None = None
    minimum: str | None = None
    entry: str = ENTRY
    preload: tuple[str, ...] = PRELOAD
    paths: tuple[str, ...] = ()
    seen: Visible | None = None


class ZygoteEndedError(AvlabError):
    """The process that starts workers is gone."""


class Spawner:
    """A zygote that starts; once it has ``chosen`` its tier, orders may be sent from any thread, and one thread reads. Raises OSError."""

    def __init__(self, recipe: Recipe) -> None:
        self.ended = threading.Event()  # set by the thread that reads
        self._seen = recipe.seen or visible(recipe.paths)
        self.folder = tempfile.mkdtemp(prefix="avlab-")
        self.groups = _make_groups()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in close
        self._closing = threading.Lock()
        try:
            self._configure(recipe)
            self._process = subprocess.Popen(
                command(
                    "avlab_executor.zygote:main", self._seen.import_path, str(theirs.fileno()), executable=self._seen.executable
                ),
                env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
                pass_fds=[theirs.fileno()], start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError:
            self._release()
            raise
        finally:
            theirs.close()

    def chosen(self) -> Self:
        """Wait until it has chosen its tier. Raises TierUnavailable, ZygoteEndedError; it is closed then."""
        try:
            first = self._first_words()
            self.tier = str(first["tier"])
            self.administrator = bool(first["administrator"])
            self.reports = [TierReport.from_json(report) for report in first["reports"]]
        except BaseException:
            self.close()
            raise
        return self

    @property
    def folders(self) -> tuple[str, ...]:
        """What its workers may read besides the system."""
        return self._seen.folders

    def order(self, number: int, profile: Profile, descriptors: Sequence[int]) -> None:
        """Ask for a worker. Raises ZygoteEndedError."""
        words = json.dumps({"order": number, "profile": profile.to_json()}).encode()
        try:
            socket.send_fds(self.control, [words], descriptors)
        except OSError:
            raise self.obituary() from None

    def read(self) -> tuple[dict[str, Any], list[int]] | None:
        """What the zygote tells next, with descriptors; None at its end."""
        try:
            words, descriptors, _, _ = socket.recv_fds(self.control, LARGEST_WORDS, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        return (json.loads(words), descriptors) if words else None

    def obituary(self) -> ZygoteEndedError:
        """An error with the last words of a zygote that is gone."""
        return ZygoteEndedError(f"the process that starts workers has ended: {self._last_words()}")

    def _last_words(self) -> str:
        if self._errors.closed:
            return "it was closed"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def close(self) -> None:
        """End the zygote and all its workers, wait, and release everything. Idempotent."""
        with self._closing:
            if self.control.fileno() < 0:
                return
            self.control.close()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._release()

    def _configure(self, recipe: Recipe) -> None:
        config = {
            "host": os.getpid(),
            "tier": recipe.tier,
            "minimum": recipe.minimum,
            "work": Work(recipe.entry, recipe.preload, self._seen.late, self._seen.bare),
            "folders": self.folders,
            "folder": self.folder,
            "groups": self.groups.folder if self.groups else "",
        }
        self.control.send(json.dumps(config).encode())

    def _first_words(self) -> dict[str, Any]:
        self.control.settimeout(_DECISION_SECONDS)
        try:
            with exposed:
                first = self.read()
        finally:
            self.control.settimeout(None)
        if first is None:
            raise self.obituary()
        if "refused" in first[0]:
            raise TierUnavailable(first[0]["refused"])
        return first[0]

    def _release(self) -> None:
        self.control.close()
        self._errors.close()
        # The keeper has done this already, unless it was killed.
        scratch.remove(self.folder)
        if self.groups:
            self.groups.close()


def _make_groups() -> cgroup.Groups | None:
    try:
        return cgroup.Groups()
    except OSError:
        return None  # reported as a layer that is off; the pool watches memory instead
