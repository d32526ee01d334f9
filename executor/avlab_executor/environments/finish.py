"""From what an installer has left to an environment that nobody can change: kept files, plain modes, a note of what it is."""

from __future__ import annotations

import json
import os
import stat
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from avlab_executor.environments.installer import SITE
from avlab_executor.environments.spec import OWN, Environment, Spec, hidden, own_packages
from avlab_executor.sandbox import scratch

NOTE = "environment.json"
_LARGEST_POINTS = 1 << 16


def finish(folder: Path, spec: Spec) -> None:
    """Turn a folder whose installer, and all that it started, has ended into an environment. Raises OSError."""
    for entry in list(os.scandir(folder)):
        if entry.name != SITE:
            scratch.remove(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    site = folder / SITE
    site.mkdir(exist_ok=True)
    _settle(site)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, 0, 0)
    names = sorted(os.listdir(site))
    if not spec.interpreter.is_own:
        _show_own(folder / OWN)
    packages = [name.removesuffix(".dist-info") for name in names if name.endswith(".dist-info")]
    note = {
        "requirements": [str(each) for each in spec.requirements],
        "python": spec.interpreter.minor,
        "packages": packages,
        "bytes": scratch.usage(str(folder), 1 << 62),
        "hides": hidden(names),
        "extends": any(_has_points(site / name) for name in names),
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1))


def read_note(folder: Path) -> dict[str, Any]:
    """What `finish` has noted. Raises OSError, ValueError."""
    return dict(json.loads((folder / NOTE).read_text()))


def load(key: str, folder: Path, spec: Spec) -> Environment:
    """The environment in a finished folder. Raises OSError, ValueError, KeyError."""
    note = read_note(folder)
    return Environment(key, folder, spec.interpreter, frozenset(note["hides"]), bool(note["extends"]))


def _settle(top: Path) -> None:
    """Everybody may read, its owner is whoever runs the executor, nothing is set-uid; only files, folders and links are left."""
    pending = [str(top)]
    while pending:
        folder = pending.pop()
        _own(folder, 0o755)
        for entry in list(os.scandir(folder)):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                pending.append(entry.path)
            elif stat.S_ISREG(mode):
                _own(entry.path, 0o755 if mode & stat.S_IXUSR else 0o644)
            elif not stat.S_ISLNK(mode):
                os.unlink(entry.path)


def _own(path: str, mode: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    os.chmod(path, mode)


def _has_points(path: Path) -> bool:
    """Whether a distribution extends avlab: its codecs and nodes are looked for while a worker starts."""
    points = path / "entry_points.txt"
    if not path.name.endswith(".dist-info") or points.is_symlink() or not points.is_file():
        return False
    with open(points, encoding="utf-8", errors="replace") as file:
        return "[avlab." in file.read(_LARGEST_POINTS)


def _show_own(folder: Path) -> None:
    folder.mkdir()
    for name, real in own_packages().items():
        (folder / name).symlink_to(real)
    told = folder / f"avlab-{version('avlab')}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: avlab\nVersion: {version('avlab')}\n")
    (told / "entry_points.txt").write_text(distribution("avlab").read_text("entry_points.txt") or "")
