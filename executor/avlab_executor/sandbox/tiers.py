"""Which isolation tiers this system can apply: tried, never assumed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avlab.core.errors import TierUnavailable
from avlab.remote.limits import check_tier
from avlab_executor.sandbox import cgroup, gvisor, landlock, selfprobe
from avlab_executor.sandbox.launch import command, environment
from avlab_executor.sandbox.nest import Nest
from avlab_executor.sandbox.profile import GVISOR, LANDLOCK, NAMESPACES, NESTED, PROCESS, SCRATCH, STRENGTH, Profile
from avlab_executor.sandbox.visible import Visible, visible

_TRIAL_SECONDS = 3.0
_GVISOR_SECONDS = 20.0  # it boots a kernel and an interpreter, on a machine that may be busy
_PROBE_SECONDS = 40.0
_MASKED = "the container masks /proc: `avlab executor up --min-tier gvisor` and --security-opt systempaths=unconfined lift that"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a tier: whether it holds on this system, and why not."""

    name: str
    on: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class TierReport:
    """One tier on this system. ``reason`` says what is missing, or what the tier is worth."""

    name: str
    available: bool
    reason: str
    layers: tuple[Layer, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TierReport:
        """The inverse of to_json."""
        return cls(**{**values, "layers": tuple(Layer(**layer) for layer in values["layers"])})


def probe() -> list[TierReport]:
    """A report on every tier, strongest first. Each is tried in a process of its own, for at most a few seconds."""
    seen = visible()
    try:
        done = subprocess.run(
            command("avlab_executor.sandbox.tiers:print_reports", seen.import_path, json.dumps(asdict(seen))),
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=True, cwd="/",
        )  # fmt: skip
        return [TierReport.from_json(values) for values in json.loads(done.stdout)]
    except subprocess.TimeoutExpired:
        return [TierReport(name, False, f"the probe did not end within {_PROBE_SECONDS:g} s") for name in STRENGTH]
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return [TierReport(name, False, f"the probe failed: {last}") for name in STRENGTH]


def choose(wanted: str | None = None, minimum: str | None = None) -> str:
    """The tier to use: ``wanted``, or the strongest that works here. See ``pick``."""
    return pick(probe(), wanted, minimum)


def pick(reports: Sequence[TierReport], wanted: str | None, minimum: str | None) -> str:
    """The tier to use according to reports.

    ``process`` is never chosen on Linux: it must be wanted by name. Raises TierUnavailable, which names the missing layer, if the
    wanted tier does not work or none is at least ``minimum``; ConfigError for a name that is no tier.
    """
    check_tier(wanted)
    check_tier(minimum)
    if wanted and minimum and STRENGTH.index(wanted) > STRENGTH.index(minimum):
        raise TierUnavailable(
            f"tier {wanted!r} is weaker than the minimum {minimum!r} of this executor: ask for {minimum!r}"
        )
    by_name = {report.name: report for report in reports}
    if wanted:
        report = by_name.get(wanted)
        if report is None or not report.available:
            raise TierUnavailable(
                f"tier {wanted!r} is not possible on this system: {report.reason if report else 'not tried'}"
            )
        return wanted
    accepted = candidates(None, minimum)
    for name in accepted:
        if name in by_name and by_name[name].available:
            return name
    missing = "; ".join(f"{name}: {by_name[name].reason}" for name in accepted if name in by_name)
    raise TierUnavailable(f"no isolation tier works on this system ({missing}); 'avlab doctor' shows each layer")


def candidates(wanted: str | None, minimum: str | None) -> list[str]:
    """The tiers to try, strongest first. Raises ConfigError for a name that is no tier."""
    check_tier(wanted)
    check_tier(minimum)
    if wanted:
        return [wanted]
    names = STRENGTH[: STRENGTH.index(minimum) + 1] if minimum else STRENGTH
    # gVisor costs much per start and system call: who wants it says so.
    left_out = {PROCESS} if sys.platform.startswith("linux") else set()
    left_out |= set() if minimum == GVISOR else {GVISOR}
    return [name for name in names if name not in left_out]


def report(name: str, folders: Sequence[str]) -> TierReport:
    """Try one tier in child processes of this one, which must be single-threaded."""
    if name == GVISOR and not gvisor.program():
        why = "runsc (gVisor) is not installed in /usr or /bin: on Debian, apt install runsc"
        return TierReport(name, False, why, (Layer("gVisor", False, why),))
    if name == PROCESS:
        return TierReport(
            name, True, "resource limits only: not a security boundary, for your own code", (Layer("rlimits", True),)
        )
    answer = _try_in_child(name, folders)
    error = answer.get("error", "")
    if name == GVISOR and error.startswith("mount of proc"):
        error = f"{error}: {_MASKED}"
    if name == GVISOR and error.startswith("mount of proc on /proc"):
        error += f" ({_MASKED})"
    broken = answer.get("failures", [])
    memory = cgroup.unavailable()
    layers = [Layer("gVisor", not error, error)] if name == GVISOR else []
    layers += [Layer("namespaces", not error, error)] if name in NESTED else []
    if name == NAMESPACES and not error:
        layers.append(
            Layer(
                "/proc", answer["proc"], "" if answer["proc"] else "the container masks /proc: a few files replace it"
            )
        )
    for layer in ("seccomp",) if name == GVISOR else ("seccomp", "Landlock"):
        why = "; ".join(text for text in broken if text.startswith(layer)) or error
        if layer == "Landlock" and answer.get("landlock"):
            why = answer["landlock"]
        layers.append(Layer(layer, not why, why))
    layers += [Layer("rlimits", not error, error), Layer("memory cgroup", not memory, memory)]
    reason = "; ".join(broken) or error or (name == LANDLOCK and answer.get("landlock")) or ""
    return TierReport(name, not reason, reason or "every layer was tried and holds", tuple(layers))


def print_reports(seen: str) -> None:
    """What ``probe`` runs in its own interpreter."""
    folders = Visible(**json.loads(seen)).folders
    json.dump([report(name, folders).to_json() for name in STRENGTH], sys.stdout)


def landlock_missing() -> str:
    """Why Landlock cannot be used; empty if it can."""
    try:
        landlock.abi()
    except OSError as error:
        return f"the kernel has no Landlock ({error.strerror})"
    return ""


def _try_in_child(name: str, folders: Sequence[str]) -> dict[str, Any]:
    reader, writer = os.pipe()
    scratch = tempfile.mkdtemp(prefix="avlab-probe-")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _finish(writer, lambda: _try(name, folders, scratch, writer))
    os.close(writer)
    answer = bytearray()
    try:
        while select.select([reader], [], [], _GVISOR_SECONDS if name == GVISOR else _TRIAL_SECONDS)[0]:
            part = os.read(reader, 65536)
            if not part:
                break
            answer += part
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):  # it is about to end by itself
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        shutil.rmtree(scratch)
    if not answer:
        return {"error": "the trial gave no answer in time"}
    try:
        return dict(json.loads(answer))
    except ValueError:  # what runsc prints when it cannot start
        return {"error": answer.decode(errors="replace").strip().rpartition("\n")[2]}


def _try(name: str, folders: Iterable[str], scratch: str, writer: int) -> None:
    # The same steps as keeper, zygote and worker.
    nest = Nest(name)
    nest.isolate_children()
    _in_child(writer, lambda: _try_zygote(nest, folders, scratch, writer))


def _try_zygote(nest: Nest, folders: Iterable[str], scratch: str, writer: int) -> None:
    folders = tuple(folders)
    nest.build(folders)
    missing = landlock_missing()
    own_uid = 65534 if nest.tier in NESTED and nest.administrator else 0
    place = SCRATCH if nest.tier in NESTED else scratch
    landlock = not missing and nest.tier != GVISOR
    profile = Profile(nest.tier, place, 1 << 20, readable=folders, uid=own_uid, landlock=landlock)
    zygote = os.getpid()
    pid = nest.fork()
    if pid == 0 and nest.tier == GVISOR:
        _finish(writer, lambda: _try_guest(nest, profile, writer))
    elif pid == 0:
        _finish(writer, lambda: _try_worker(nest, profile, zygote, missing, writer))
    os.waitpid(pid, 0)


def _try_worker(nest: Nest, profile: Profile, zygote: int, missing: str, writer: int) -> None:
    nest.lock(profile, zygote)
    failures = selfprobe.failures(profile, selfprobe.answers(profile))
    os.write(writer, json.dumps({"proc": nest.has_proc, "landlock": missing, "failures": failures}).encode())


def _try_guest(nest: Nest, profile: Profile, writer: int) -> None:
    words = command("avlab_executor.guest:trial", sys.path, json.dumps(profile.to_json()))
    null = os.open(os.devnull, os.O_RDONLY)
    gvisor.start(profile, nest.administrator, nest.proc, words, (null, writer, writer))


def _in_child(writer: int, work: Any) -> None:
    pid = os.fork()
    if pid == 0:
        _finish(writer, work)
    os.waitpid(pid, 0)


def _finish(writer: int, work: Any) -> None:
    try:
        work()
    except OSError as error:
        os.write(writer, json.dumps({"error": error.strerror or str(error)}).encode())
    except Exception as error:  # noqa: BLE001  told to the parent: a forked child must not run on in its parent's code
        os.write(writer, json.dumps({"error": repr(error)}).encode())
    finally:
        os._exit(0)
