"""Data files and folders that the user names: read, and listed by their paths below the base folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from avlab.core.errors import BundleError, SecretRefused
from avlab.remote.captures import shape_of
from avlab.remote.manifest import MAX_BYTES, MAX_FILES, check_path

_LEFT_OUT = {"__pycache__", ".git", ".ipynb_checkpoints"}
_SECRET = {".env", ".netrc", ".pgpass", ".pypirc", "credentials.json", "id_rsa", "id_ecdsa", "id_ed25519"}
_SCANNED = 1 << 20  # bytes: larger files are data, not credentials


def collect(files: Sequence[str | Path], base: Path) -> Mapping[str, bytes]:
    """Content by POSIX path relative to ``base``, sorted. Folders are sent whole, without caches, .git and checkpoints.

    Symbolic links are followed inside ``base``. Raises BundleError for a path that does not exist, lies or leads outside
    ``base``, is neither file nor folder, or exceeds MAX_FILES or MAX_BYTES; SecretRefused for a credential in a file that
    was not named itself.
    """
    root = Path(os.path.realpath(base))
    found: dict[str, bytes] = {}
    total = 0
    for named in files:
        start = Path(os.path.abspath(base / named))
        for path in _below(start, root, ()):
            name = _relative(path, base, named)
            if name in found:
                continue
            check_path(name)
            total += path.stat().st_size
            if len(found) >= MAX_FILES:
                raise BundleError(
                    f"files={str(named)!r}: more than {MAX_FILES} files in one bundle: pack them into an archive"
                )
            if total > MAX_BYTES:
                raise BundleError(
                    f"files={str(named)!r}: more than {MAX_BYTES} bytes in one bundle: send the data as items"
                )
            content = found[name] = _read(path)
            what = "credentials" if path.name in _SECRET else shape_of(content) if len(content) <= _SCANNED else ""
            if what and path != start:
                raise SecretRefused(
                    f"{name} holds what looks like {what}: take it out of {named}, or name the file itself in files="
                )
    return dict(sorted(found.items()))


def _below(path: Path, root: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(root):
        raise BundleError(
            f"file {path} is outside of {root}: copy it below that folder, a bundle keeps paths relative to it"
        )
    try:
        mode = os.stat(real).st_mode
    except OSError as error:
        raise BundleError(f"file {path}: {error.strerror}: correct the path in files=") from error
    if stat.S_ISREG(mode):
        yield path
    elif not stat.S_ISDIR(mode):
        raise BundleError(f"{path} is neither a file nor a folder and cannot be sent")
    elif real not in above:  # a link may lead back up
        for entry in sorted(os.listdir(real)):
            if entry not in _LEFT_OUT:
                yield from _below(path / entry, root, (*above, real))


def _relative(path: Path, base: Path, named: str | Path) -> str:
    for start in (Path(os.path.abspath(base)), Path(os.path.realpath(base))):
        if path.is_relative_to(start):
            return path.relative_to(start).as_posix()
    raise BundleError(
        f"file {named} is outside of {base}: copy it below that folder, a bundle keeps paths relative to it"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"file {path} cannot be read: {error.strerror}") from error
