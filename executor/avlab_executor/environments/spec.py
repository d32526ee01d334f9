"""Spec: which environment a session needs; and Environment: one that is ready."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avlab.core.errors import EnvironmentFailed
from avlab.core.message import Bundle, BundleKind
from avlab.remote.manifest import check_versions, python_version
from avlab.remote.requirements import Requirement, check_minor, normal
from avlab_executor.environments import interpreters
from avlab_executor.environments.installer import SITE, needs
from avlab_executor.environments.interpreters import Interpreter
from avlab_executor.environments.policy import Policy
from avlab_executor.sandbox.visible import Visible, visible

_FORMAT = 2
_PACKAGES = ("site-packages", "dist-packages")
WORKERS_NEED = frozenset({"numpy", "av", "cloudpickle", "google", "avlab", "avlab_executor"})
OWN = "own"
"""Folder of an environment for another Python that shows avlab, and nothing beside it, to that Python."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What an environment is made of. Equal specs have equal keys."""

    interpreter: Interpreter
    requirements: tuple[Requirement, ...]
    mode: str

    @property
    def key(self) -> str:
        """Its name: a hash of the interpreter, the requirements, the mode, and what avlab itself needs."""
        own = [] if self.interpreter.is_own else list(own_packages().values())
        parts = [_FORMAT, self.interpreter.executable, self.interpreter.tag, own, self.mode]
        parts += [[str(each) for each in self.requirements], [str(each) for each in needs()]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def __str__(self) -> str:
        python = [] if self.interpreter.is_own else [f"Python {self.interpreter.minor}"]
        return ", ".join([*python, *(each.text for each in self.requirements)])


def wanted(bundle: Bundle, policy: Policy) -> Spec | None:
    """The environment that a bundle needs; None: the executor's own.

    Raises ConfigError for requirements and versions of Python that are none; Denied for those that the policy does not allow; VersionMismatch for an object
    pickled by a Python that is not here, and EnvironmentFailed for another bundle that asks for one.
    """
    requirements = normal(bundle.requirements)
    pickled = bundle.kind is BundleKind.OBJECT
    if not requirements and bundle.python in ("", python_version()):
        return None
    if not requirements and pickled and policy.mode == "off":
        return None  # the worker says which version it has
    policy.check(requirements)
    minor = check_minor(bundle.python or python_version())  # before it is looked for: it becomes the name of a program
    interpreter = interpreters.find(minor)
    if interpreter is None:
        if pickled:
            check_versions(bundle)
        raise EnvironmentFailed(
            f"there is no Python {minor} where the executor runs: it has {', '.join(interpreters.minors())}; others must be on its PATH as "
            f"python{minor}"
        )
    return Spec(interpreter, requirements, policy.mode)


@dataclass(frozen=True, slots=True)
class Environment:
    """A folder with packages, and what runs them. hides: the names that workers need themselves and that it brings: these, and what
    imports them, come from it alone, so no zygote imports them. extends: it brings codecs or nodes for avlab."""

    key: str
    folder: Path
    interpreter: Interpreter
    hides: frozenset[str] = frozenset()
    extends: bool = False

    def harmless(self, module: str) -> bool:
        """Whether a zygote may import a module of PRELOAD for all workers of this environment: nothing of it is brought by it."""
        needed = {"avlab.core.wire": "google"}.get(module, module.partition(".")[0])
        return self.interpreter.is_own and needed not in self.hides

    def visible(self) -> Visible:
        """What its workers see: its packages before the executor's own; for another Python, avlab alone besides."""
        site = str(self.folder / SITE)
        if self.interpreter.is_own:
            own = visible()
            at = next(
                (n for n, p in enumerate(own.import_path) if os.path.basename(p) in _PACKAGES), len(own.import_path)
            )
            late = (*own.import_path[:at], site, *own.import_path[at:])
            return Visible(own.import_path, (*own.folders, site), late=late, bare=bool(self.hides) or self.extends)
        first = (*self.interpreter.library, str(self.folder / OWN))
        folders = (*self.interpreter.prefixes, *own_packages().values(), str(self.folder))
        late = (*self.interpreter.library, site, str(self.folder / OWN))
        return Visible(first, folders, self.interpreter.executable, late, bare=True)


def own_packages() -> dict[str, str]:
    """avlab's own packages that run in workers, with their folders."""
    found = {}
    for name in ("avlab", "avlab_executor"):
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            found[name] = os.path.realpath(folder)
    return found


def hidden(names: Sequence[str]) -> list[str]:
    """Which of the names that workers need themselves are among these of files and folders to import."""
    return sorted(WORKERS_NEED & {name.partition(".")[0] for name in names})
