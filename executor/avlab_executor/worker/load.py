"""Loading a bundle. Runs only inside a locked worker: this is the one place where user objects are unpickled."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import linecache
import os
import pickle
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from avlab.core.errors import BundleError
from avlab.core.message import Bundle, BundleKind, File
from avlab.core.registry import registered
from avlab.remote.construct import Construct
from avlab.remote.manifest import MAX_FILES, MODULES, check_files, check_sha, check_versions, target


def load(bundle: Bundle, blobs: Mapping[str, bytes | memoryview], scratch: Path) -> object:
    """Make the object that ``bundle`` describes.

    Files go below ``scratch``, shipped modules below ``scratch/modules``, which is appended to ``sys.path``; cell texts go into
    ``linecache``. A ``Construct`` and a SOURCE bundle with arguments give an instance. One call per process.

    Raises VersionMismatch; BundleError for a missing, damaged or misplaced blob or file; UnknownNode; and whatever the user's
    own code raises while it is imported, unpickled or constructed.
    """
    check_versions(bundle)
    if bundle.kind is BundleKind.NODE:
        return _node(bundle)
    check_files(bundle.files)
    if len(bundle.sources) > MAX_FILES:
        raise BundleError(f"{len(bundle.sources)} texts are above the limit of {MAX_FILES} for one bundle")
    contents = {name: _verified(name, blobs) for name in _names(bundle)}
    for file in bundle.files:
        if len(contents[file.blob]) != file.size:
            raise BundleError(f"file {file.path!r} has {len(contents[file.blob])} bytes, the manifest says {file.size}")
    for file in bundle.files:
        _write(scratch / target(file), contents[file.blob])
    for source in bundle.sources:
        _show_lines(source.filename, contents[source.blob])
    _make_importable([f for f in bundle.files if f.module], contents, scratch)
    content = contents[bundle.object]
    if bundle.kind is BundleKind.SOURCE:
        return _execute(content)
    made = pickle.loads(content)
    return made.build() if isinstance(made, Construct) else made


def _names(bundle: Bundle) -> set[str]:
    return {bundle.object, *(f.blob for f in bundle.files), *(s.blob for s in bundle.sources)}


def _verified(name: str, blobs: Mapping[str, bytes | memoryview]) -> bytes | memoryview:
    check_sha(name)
    content = blobs.get(name)
    if content is None:
        raise BundleError(f"blob {name[:12]} is missing: send it before the session is opened")
    if hashlib.sha256(content).hexdigest() != name:
        raise BundleError(f"blob {name[:12]} does not have the content that its name promises: send it again")
    return content


def _write(path: Path, content: bytes | memoryview) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
            stream.write(content)
    except OSError as error:
        raise BundleError(f"file {path.name!r} cannot be written to the scratch folder: {error.strerror}") from error


def _show_lines(filename: str, content: bytes | memoryview) -> None:
    text = bytes(content).decode("utf-8", "replace")
    # Without a modification time linecache never looks for the file.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


def _make_importable(modules: list[File], contents: Mapping[str, bytes | memoryview], scratch: Path) -> None:
    # Data files lie in the current folder: nothing there may pass for an installed module.
    here = os.path.realpath(scratch)
    sys.path[:] = [p for p in sys.path if p and os.path.realpath(p) != here]
    for top in sorted({f.path.partition("/")[0].removesuffix(".py") for f in modules}):
        _check_shadow(top, modules, contents)
    sys.path.append(str(scratch / MODULES))
    importlib.invalidate_caches()


def _check_shadow(top: str, modules: list[File], contents: Mapping[str, bytes | memoryview]) -> None:
    """Refuse a shipped module whose name this environment already has for something else: that would be imported."""
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else PathFinder.find_spec(top)
    if top not in sys.stdlib_module_names and (
        spec is None or not spec.has_location
    ):  # absent, or a namespace to extend
        return
    origin = Path(spec.origin if spec is not None and spec.has_location and spec.origin else "/built/in")
    root = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    for file in modules:
        if file.path == f"{top}.py" or file.path.startswith(f"{top}/"):
            try:
                equal = (root / file.path).read_bytes() == contents[file.blob]
            except OSError:
                equal = False
            if not equal:
                raise BundleError(
                    f"the module {file.path} has the name of one that is installed on the executor, which would be imported "
                    "instead of it: rename it"
                )


def _node(bundle: Bundle) -> object:
    try:
        config = json.loads(bytes(bundle.config) or b"{}")
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the parameters of node {bundle.name[:80]!r} are not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BundleError(f"the parameters of node {bundle.name!r} are not a JSON object")
    node: object = registered(bundle.name)(**config)
    return node


def _execute(blob: bytes | memoryview) -> object:
    """Run a cell's text in a fresh main module and take the object that the bundle names."""
    try:
        content = json.loads(bytes(blob))
        text, filename, name = str(content["text"]), str(content["filename"]), str(content["name"])
        state, kwargs = dict(content["state"]), dict(content.get("kwargs", {}))
        args = None if content.get("args") is None else list(content["args"])
        for value in (*state.values(), *(args or ()), *kwargs.values()):
            _check(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"the source blob is not what its format says: {type(error).__name__}: {error}") from error
    main = ModuleType("__main__")
    sys.modules["__main__"] = main  # where dataclasses and typing look for the names of the cell's classes
    _show_lines(filename, text.encode("utf-8", "surrogatepass"))
    try:
        code = compile(text, filename, "exec", dont_inherit=True)
    except ValueError as error:  # NULs and lone surrogates; a SyntaxError is the user's own
        raise BundleError(f"the text of {filename[:80]!r} is none: {error}") from error
    vars(main).update({key: _decode(value) for key, value in state.items()})
    exec(code, vars(main))
    if name not in vars(main):
        raise BundleError(f"{filename} ran and defined no {name!r}")
    made: Any = vars(main)[name]
    return made if args is None else made(*map(_decode, args), **{key: _decode(value) for key, value in kwargs.items()})


def _check(value: Any) -> None:
    """Raises ValueError for what is no module, pickle or JSON value of a source blob."""
    if not isinstance(value, dict) or not value.keys() & {"module", "pickle", "json"}:
        raise ValueError("a value is none of module, pickle and json")
    if not all(isinstance(value.get(name, ""), str) for name in ("module", "pickle")):
        raise ValueError("the name of a module or a pickle is not text")


def _decode(value: dict[str, Any]) -> Any:
    if "module" in value:
        return importlib.import_module(value["module"])
    return pickle.loads(base64.b64decode(value["pickle"])) if "pickle" in value else value["json"]
