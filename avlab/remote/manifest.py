"""Rules for a bundle's manifest, the same for who packs it and for who loads it. Nothing is unpickled here."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

from avlab.core.errors import BundleError, VersionMismatch
from avlab.core.message import WIRE_VERSION, Bundle, BundleKind, File

MODULES = "modules"
"""Folder of the worker's scratch that shipped modules go to; it is appended to ``sys.path``."""
MAX_FILES = 4096
MAX_BYTES = 256 << 20
"""Most bytes of all files of one bundle: 256 MiB."""
MAX_PATH = 1024
MAX_DEPTH = 32
"""Most folders above one file: each is made where the bundle is unpacked."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|com[¹²³]|lpt[¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_SHA = re.compile(r"[0-9a-f]{64}")


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def cloudpickle_version() -> str:
    """Version of the installed cloudpickle, found without importing it; empty if there is none."""
    from importlib import metadata  # 20 ms that `import avlab` need not pay

    try:
        return metadata.version("cloudpickle")
    except metadata.PackageNotFoundError:
        return ""


def check_versions(bundle: Bundle) -> None:
    """Compare the bundle's versions with this interpreter's, as numbers, before anything is unpickled.

    The wire version must be equal for every kind; for OBJECT also Python's and cloudpickle's major and minor version.
    SOURCE travels between Python minors and NODE needs neither. Raises VersionMismatch.
    """
    if bundle.wire != WIRE_VERSION:
        raise VersionMismatch(
            f"the bundle speaks wire version {bundle.wire}, this executor {WIRE_VERSION}: install the same avlab on both sides"
        )
    if bundle.kind is not BundleKind.OBJECT:
        return
    for what, theirs, ours in (
        ("Python", bundle.python, python_version()),
        ("cloudpickle", bundle.cloudpickle, cloudpickle_version()),
    ):
        if _minor(theirs) is None or _minor(theirs) != _minor(ours):
            raise VersionMismatch(
                f"the bundle was packed with {what} {theirs or '(unknown)'}, this executor has {what} {ours or '(none)'}: "
                "use the same on both sides, or send the cell as source (--remote-imports)"
            )


def check_files(files: Sequence[File]) -> None:
    """Raises BundleError for paths that could leave the scratch folder or meet each other there, and for too many files."""
    if len(files) > MAX_FILES:
        raise BundleError(
            f"{len(files)} files are above the limit of {MAX_FILES} for one bundle: pack them into an archive"
        )
    total = sum(file.size for file in files)
    if total > MAX_BYTES:
        raise BundleError(
            f"{total} bytes of files are above the limit of {MAX_BYTES} for one bundle: send them as items"
        )
    taken: dict[str, str] = {}
    for file in files:
        check_path(file.path)
        folded = _folded(target(file))
        if folded in taken:
            raise BundleError(
                f"the files {taken[folded]!r} and {file.path!r} have one path where it ignores case: rename one"
            )
        taken[folded] = file.path
    for folded, path in taken.items():
        parts = folded.split("/")
        above = next((p for n in range(1, len(parts)) if (p := "/".join(parts[:n])) in taken), None)
        if above:
            raise BundleError(f"{taken[above]!r} is a file, and {path!r} needs a folder of that name: rename one")


def check_path(path: str, windows: bool = sys.platform == "win32") -> None:
    """Raises BundleError unless ``path`` is relative, plain and stays below its folder; ``windows``: also there, where some names
    are devices or mean another file."""
    parts = path.split("/")
    bad = (
        ("is empty", not path),
        (f"is longer than {MAX_PATH} bytes", len(path.encode("utf-8", "surrogatepass")) > MAX_PATH),
        ("has a part longer than 255 bytes", any(len(p.encode("utf-8", "surrogatepass")) > 255 for p in parts)),
        (f"lies more than {MAX_DEPTH} folders deep", len(parts) > MAX_DEPTH + 1),
        ("has a name that Windows reads as a device or as another name", windows and any(map(_is_special, parts))),
        ("is not relative", path.startswith("/") or bool(re.match(r"[A-Za-z]:", path))),
        ("has an empty, '.' or '..' part", any(p in ("", ".", "..") for p in parts)),
        ("holds a backslash or a character that cannot be shown", "\\" in path or not path.isprintable()),
    )
    reason = next((what for what, true in bad if true), None)
    if reason:
        raise BundleError(f"file path {path[:80]!r} {reason}: a bundle holds paths below its own folder only")


def _is_special(part: str) -> bool:
    return bool(_DEVICES.fullmatch(part.rstrip(" ."))) or part[-1:] in (" ", ".") or any(c in '<>:"|?*' for c in part)


def check_sha(name: str) -> None:
    """Raises BundleError unless ``name`` is a sha256 in lower-case hexadecimal."""
    if not _SHA.fullmatch(name):
        raise BundleError(f"blob name {name[:80]!r} is not a sha256")


def target(file: File) -> str:
    """Where the file goes, relative to the worker's scratch folder."""
    return f"{MODULES}/{file.path}" if file.module else file.path


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _minor(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
