"""The folder of wheels that tests of environments install from, and how it is filled: ``python wheelhouse.py FOLDER``.

Wheels and source distributions that no registry has are made by the tests themselves, here too.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

# Each differs from what the tests' own interpreter has installed.
PINNED = ("six==1.16.0", "idna==3.10", "markupsafe==2.1.5", "numpy==2.2.6")
WORKERS_NEED = ("av", "cloudpickle", "numpy", "protobuf")
FOLDER = Path(os.environ.get("AVLAB_WHEELS") or Path(__file__).parents[2] / ".venv" / "wheels")


def another_python() -> Path | None:
    """The newest other Python that avlab supports, on PATH or installed by pyenv; None if this is the only one."""
    folders = [
        *os.get_exec_path(),
        *map(str, Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")),
    ]
    found: dict[int, Path] = {}
    for folder in map(Path, folders):
        for path in folder.glob("python3.*") if folder.is_dir() else ():
            match = re.fullmatch(r"python3\.(\d+)", path.name)
            if match and int(match[1]) >= 11 and int(match[1]) != sys.version_info.minor and _works(path):
                found.setdefault(int(match[1]), path)
    return found[max(found)] if found else None


def _works(path: Path) -> bool:
    asked = subprocess.run(
        [path, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    )
    return asked.stdout.strip() == path.name.removeprefix(
        "python"
    )  # pyenv's shims answer for versions that are not chosen


def fill(folder: Path) -> None:
    """Download what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "-qq",
        "--only-binary",
        ":all:",
        "-d",
        str(folder),
    ]
    subprocess.run([*pip, "--no-deps", *PINNED], check=True)
    other = another_python()
    if other is not None:
        version = other.name.removeprefix("python")
        constraints = Path(__file__).parents[2] / "constraints.txt"
        pinned = [line for line in constraints.read_text().split() if line.partition("==")[0].lower() in WORKERS_NEED]
        subprocess.run([*pip, "--no-deps", "--python-version", version, *pinned, "six==1.16.0"], check=True)


def make_wheel(
    folder: Path, name: str, version: str = "1.0", files: Mapping[str, bytes | str] = {}, requires: Sequence[str] = ()
) -> Path:
    """A wheel with these files, by their paths in site-packages."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires
    )
    contents = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            archive.writestr(place, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{place},sha256={digest},{len(data)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def make_source(folder: Path, name: str, backend: str, version: str = "1.0") -> Path:
    """A source distribution that is built by the code in ``backend``, which needs no other package."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for place, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{place}")
            entry.size = len(text.encode())
            archive.addfile(entry, BytesIO(text.encode()))
    return path


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
