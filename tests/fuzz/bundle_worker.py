"""A worker's entry for the fuzzer of bundles: unpacks damaged ones in its locked process and says what came of them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import socket
import stat
import sys
import traceback
from collections import Counter
from pathlib import Path

from avlab_executor.worker.load import load
from mutation import damaged, twisted
from sandbox_attempts import refuse_unless_confined

from avlab.core.errors import AvlabError
from avlab.core.message import Bundle, BundleKind, File, Source
from avlab.remote.manifest import MODULES, cloudpickle_version, python_version

PARTS = [
    "a", "A", "b", "é", "e\u0301", "ß", "ss", "pkg", "__init__.py", "numpy.py", "json.py", "os.py", "modules", "kit.py", "data.bin",
    "..", ".", "", "/", "C:", "a\\b", "\0", "a\n", " ", "-", "~", "$HOME", "x" * 255, "x" * 256, "\udcff", "con", "nul.txt", "link",
    "\u202e", "😀", ".hidden", "%2e%2e",
]  # fmt: skip
CONTENTS = [b"", b"x = 1\n", b"\0" * 100, b"y" * 5000, b"raise SystemExit", bytes(range(256))]
SOURCE = {"text": "class C:\n    def __init__(self, *a, **k): pass\n", "filename": "<cell>", "name": "C", "state": {"n": {"json": 1}}, "args": [{"json": 2}], "kwargs": {}}  # fmt: skip


def main(fds) -> None:
    """{"seed", "cases"} in; outcomes, escapes, errors of other types and the largest memory out; JSON lines."""
    refuse_unless_confined()
    with socket.socket(fileno=fds.session) as link, link.makefile("rw") as lines:
        for line in lines:
            lines.write(json.dumps(run(**json.loads(line))) + "\n")
            lines.flush()


def run(seed: str, cases: int) -> dict[str, object]:
    of, counts, wrong = random.Random(seed), Counter(), []
    root, path = Path.cwd() / "case", list(sys.path)
    canary = Path.cwd() / "canary"
    canary.write_text("untouched")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    for _ in range(cases):
        root.mkdir()
        bundle, blobs = case(of)
        try:
            load(bundle, blobs, root)
            counts["loaded"] += 1
            wrong += misplaced(root, bundle, blobs)
        except AvlabError as error:
            counts[type(error).__name__] += 1
        except Exception:  # noqa: BLE001  reported to the test
            wrong.append(traceback.format_exc()[-600:] + repr(bundle)[:400])
        wrong += strangers(root)
        sys.path[:] = path
        shutil.rmtree(root)
        if len(wrong) > 5:
            break
    outside = sorted(set(os.listdir(root.parent)) - {"canary"})
    if outside or canary.read_text() != "untouched":
        wrong.append(f"outside of its folder: {outside}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    return {"counts": counts, "wrong": wrong, "grown": grown}


def case(of: random.Random) -> tuple[Bundle, dict[str, bytes]]:
    """A bundle whose parts are right most of the time, and the blobs that it needs, most of the time."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        match of.randrange(60):
            case 0:
                return of.choice(("", name.upper(), name[:-1], "../" + name, "0" * 64))
            case 1:
                blobs[name] = damaged(content, of)
            case 2:
                pass  # it was not sent
            case _:
                blobs[name] = content
        return name

    kind = of.choice((BundleKind.OBJECT, BundleKind.OBJECT, BundleKind.SOURCE, BundleKind.NODE))
    files = []
    for number in range(of.choice((0, 1, 1, 2, 3, 8, 40))):
        content = of.choice(CONTENTS)
        odd = of.randrange(12) == 0
        parts = (
            [of.choice(PARTS) for _ in range(of.choice((1, 1, 2, 3, 40)))]
            if odd
            else [f"f{number}"] * of.choice((1, 2))
        )
        size = of.choice((len(content),) * 30 + (0, 1 << 40, 1 << 63, len(content) + 1))
        files.append(File(of.choice("/////\\")[:1].join(parts), blob(content), size, bool(of.randrange(2))))
    sources = [
        Source(of.choice(("<cell>", "/etc/passwd", "\0", "x" * 9999)), blob(b"text")) for _ in range(of.randrange(3))
    ]
    config = json.dumps(twisted({"width": 16, "height": 8}, of)).encode() if of.randrange(2) else b'{"width":16}'
    content = pickle.dumps([1, 2])
    if kind is BundleKind.SOURCE:
        value = SOURCE if of.randrange(2) else twisted(SOURCE, of)
        if isinstance(value, dict):
            value |= {key: SOURCE[key] for key in ("text", "name") if key in value}  # user code may raise what it likes
        content = json.dumps(value).encode()
    bundle = Bundle(
        kind,
        of.choice(("Resize",) * 20 + ("", "no such", "../Resize", "os.system")),
        damaged(config, of) if of.randrange(4) == 0 else config,
        blob(content),
        files,
        (),
        of.choice((python_version(),) * 40 + ("", "2.7", "x")),
        of.choice((cloudpickle_version(),) * 40 + ("", "99.0")),
        of.choice((1,) * 60 + (0, 2, 1 << 31)),
        sources,
    )
    return bundle, blobs


def strangers(root: Path) -> list[str]:
    """Entries that no bundle may make: links, devices, executables."""
    found = []
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if (not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)) or (stat.S_ISREG(mode) and mode & 0o111):
                found.append(f"{folder}/{name} has mode {mode:o}")
    return found


def misplaced(root: Path, bundle: Bundle, blobs: dict[str, bytes]) -> list[str]:
    """Files of a bundle that was accepted that are not there, or more than those."""
    if bundle.kind is BundleKind.NODE:
        return []
    wanted = {os.path.join(MODULES, f.path) if f.module else f.path: blobs[f.blob] for f in bundle.files}
    there = {
        os.path.relpath(os.path.join(folder, name), root): Path(folder, name).read_bytes()
        for folder, folders, files in os.walk(root)
        for name in files
        if "__pycache__" not in folder
    }
    return [] if there == wanted else [f"{sorted(there)} instead of {sorted(wanted)}"]
