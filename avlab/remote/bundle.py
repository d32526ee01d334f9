"""Packing: what a user's class, function, node or cell needs to run elsewhere, as a manifest and content-addressed blobs."""

from __future__ import annotations

import functools
import hashlib
import json
import linecache
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError, VersionMismatch
from avlab.core.message import Bundle, BundleKind, File, Source
from avlab.remote.captures import Label, check_source
from avlab.remote.construct import Construct
from avlab.remote.files import collect
from avlab.remote.finder import Finder, is_installed
from avlab.remote.imports import Walk, decode
from avlab.remote.manifest import check_files, check_versions, cloudpickle_version, python_version
from avlab.remote.requirements import normal

__all__ = ["MAX_CAPTURE", "Construct", "Packed", "check_versions", "needing", "pack", "pack_node", "pack_source"]

MAX_CAPTURE = 64 << 20
"""Most bytes that one captured variable may hold: 64 MiB."""


@dataclass(frozen=True)
class Packed:
    """A manifest and the blobs that it names, by their sha256. The other fields are for people: ``captured`` variables with
    their bytes, ``installed`` packages and ``missing`` optional imports that are left to the executor's environment."""

    manifest: Bundle
    blobs: Mapping[str, bytes]
    captured: Mapping[str, int]
    installed: Sequence[str] = ()
    missing: Sequence[str] = ()

    def explain(self) -> str:
        """What would be sent, as a table: kind, path, bytes, start of the sha256. Shows no contents."""
        m = self.manifest
        rows = [("object", m.name or m.kind.name.lower(), len(self.blobs[m.object]), m.object)] if m.object else []
        rows += [("module" if f.module else "file", f.path, f.size, f.blob) for f in m.files]
        rows += [("source", s.filename, len(self.blobs[s.blob]), s.blob) for s in m.sources]
        width = max([len(path) for _, path, _, _ in rows] + [4])
        lines = [f"{'kind':<8}{'path':<{width}}  {'bytes':>11}  sha256"]
        lines += [f"{kind:<8}{path:<{width}}  {size:>11}  {sha[:12]}" for kind, path, size, sha in rows]
        lines.append(
            f"{len(self.blobs)} blobs, {sum(map(len, self.blobs.values()))} bytes; blobs the executor has are not sent again"
        )
        lines += [f"captured: {name}, {size} bytes" for name, size in self.captured.items()]
        if self.installed:
            lines.append(f"from the executor's environment: {', '.join(self.installed)}")
        if m.requirements:
            lines.append(f"installed there: {', '.join(m.requirements)}")
        if self.missing:
            lines.append(f"not found here: {', '.join(self.missing)}")
        lines.append(f"versions: Python {m.python or 'any'}, cloudpickle {m.cloudpickle or 'any'}, wire {m.wire}")
        return "\n".join(lines)


def pack(
    obj: object,
    *,
    files: Sequence[str | Path] = (),
    sources: Mapping[str, str] | None = None,
    base: Path | None = None,
    max_capture: int = MAX_CAPTURE,
    originals: Callable[[object], object | None] | None = None,
    allow_secrets: Sequence[str] = (),
    missing_ok: bool = False,
) -> Packed:
    """Pack a class, a function, an instance, or a ``Construct`` (then the instance is made in the worker).

    What the notebook or script defines travels by value, what local modules define as their source files as they are on
    disk now, everything installed by name. ``files``: data files and folders below ``base`` (default: the current folder).
    ``sources``: text of cells by filename; the cells of functions that travel are found by themselves. ``originals``: called
    with every class, function and instance, returns what to pickle instead, or None. ``allow_secrets``: names of variables,
    attributes and keys that may hold what looks like a secret. ``missing_ok``: imports that resolve nowhere are left to the
    executor's environment.

    Raises SecretRefused; BundleError for live handles, captures above ``max_capture`` bytes, what cannot be pickled, imports
    that resolve nowhere, compiled local modules, and files outside of ``base``.
    """
    from avlab.remote.capturing import Capturing
    from avlab.remote.pickler import Pickler

    parts = _Parts(base, allow_secrets, missing_ok=missing_ok)
    capturing = Capturing(max_capture, parts.allowed)
    pickler = Pickler(parts.finder, capturing, originals=originals)
    name, label = _name(obj)
    pickled = parts.blob(pickler.pack(obj, label))
    for filename, text in (sources or {}).items():
        parts.source(filename, text)
    for filename, text, within in _texts_of(pickler.codes, sources or {}):
        parts.source(filename, text, within)
    for module, why in pickler.modules.items():
        parts.walk.module(module, why)
    parts.files(files)
    manifest = parts.manifest(BundleKind.OBJECT, name, pickled)
    manifest.python, manifest.cloudpickle = python_version(), cloudpickle_version()
    return parts.packed(manifest, capturing.captured())


def needing(manifest: Bundle, pip: Sequence[str], python: str) -> Bundle:
    """The manifest with what its session needs of the executor: requirements and a minor version of Python ("" for none).

    Raises ConfigError for requirements that are none, VersionMismatch for an object that was pickled by another Python than ``python``.
    """
    if python and manifest.kind is BundleKind.OBJECT and python != python_version():
        raise VersionMismatch(
            f"an object pickled by Python {python_version()} cannot be loaded by Python {python}: send the cell as source "
            "(--remote-imports), or open a registered node"
        )
    if not pip and not python:
        return manifest
    return replace(manifest, requirements=tuple(map(str, normal(pip))), python=python or manifest.python)


def pack_node(name: str, config: Mapping[str, Any]) -> Packed:
    """Pack the name and parameters of a node that the executor has registered.

    Raises ConfigError naming the parameter that is not JSON.
    """
    for key, value in config.items():
        try:
            equal = isinstance(key, str) and _plain(json.loads(json.dumps(value, allow_nan=False))) == _plain(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"parameter {key!r} of node {name!r} cannot be sent as JSON: {error}") from error
        if not equal:
            raise ConfigError(
                f"parameter {key!r} of node {name!r} would change as JSON: use string keys, lists and plain values"
            )
    text = json.dumps(dict(config), allow_nan=False, sort_keys=True).encode()
    return Packed(Bundle(kind=BundleKind.NODE, name=name, config=text), {}, {})


def pack_source(
    text: str,
    filename: str,
    name: str,
    *,
    state: Mapping[str, object] | None = None,
    files: Sequence[str | Path] = (),
    base: Path | None = None,
    arguments: tuple[Sequence[object], Mapping[str, object]] | None = None,
    max_capture: int = MAX_CAPTURE,
    allow_secrets: Sequence[str] = (),
) -> Packed:
    """Pack a cell as text: the worker executes it and takes the object called ``name``.

    ``state``: the namespace the cell runs in; what the text reads travels: plain values, modules by name, and what modules
    define. ``arguments``: positional and keyword arguments that the worker calls the object with, so that the session holds
    the instance. Works across Python minors; imports that do not resolve here are left to the executor, local modules
    travel. Raises like ``pack``, and BundleError for text that does not parse.
    """
    from avlab.remote.state import encode_source

    parts = _Parts(base, allow_secrets, missing_ok=True)
    parts.source(filename, text)
    encoded, modules, captured = encode_source(
        text, filename, name, state or {}, arguments, parts.finder, max_capture, parts.allowed
    )
    for module, why in modules.items():
        parts.walk.module(module, why)
    parts.files(files)
    return parts.packed(parts.manifest(BundleKind.SOURCE, name, parts.blob(encoded)), captured)


def _plain(value: Any) -> Any:
    """The value with tuples as lists, which is all that JSON may change."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


class _Parts:
    """Gathers the blobs of one bundle."""

    def __init__(self, base: Path | None, allow_secrets: Sequence[str], *, missing_ok: bool) -> None:
        self.allowed = frozenset(allow_secrets)
        self.finder = Finder(Path(base) if base is not None else Path.cwd())
        self.walk = Walk(self.finder, missing_ok=missing_ok)
        self._blobs: dict[str, bytes] = {}
        self._files: list[File] = []
        self._sources: list[Source] = []

    def blob(self, content: bytes) -> str:
        sha = hashlib.sha256(content).hexdigest()
        self._blobs[sha] = content
        return sha

    def source(self, filename: str, text: str, within: Callable[[int], bool] = lambda line: True) -> None:
        """Take in a text that is no module; only the lines that ``within`` chooses travel, where they stand."""
        self.walk.text(text, filename, within)
        check_source(text, filename, self.allowed, names=True, within=within)
        sent = "".join(line if within(n) else "\n" for n, line in enumerate(text.splitlines(keepends=True), 1))
        self._sources.append(Source(filename, self.blob(sent.encode())))

    def files(self, named: Sequence[str | Path]) -> None:
        for path, content in collect(named, self.finder.base).items():
            self._files.append(File(path, self.blob(content), len(content)))
            if path.endswith(".py"):
                self.walk.declared(path)

    def manifest(self, kind: BundleKind, name: str, blob: str) -> Bundle:
        for module in self.walk.modules.values():
            check_source(
                decode(module.content, str(module.spot.file)), str(module.spot.file), self.allowed, names=False
            )
            self._files.append(File(module.spot.path, self.blob(module.content), len(module.content), module=True))
        self._files.sort(key=lambda f: (not f.module, f.path))
        check_files(self._files)
        return Bundle(kind=kind, name=name, object=blob, files=tuple(self._files), sources=tuple(self._sources))

    def packed(self, manifest: Bundle, captured: Mapping[str, int]) -> Packed:
        return Packed(manifest, self._blobs, captured, sorted(self.walk.installed), sorted(self.walk.missing))


def _name(obj: object) -> tuple[str, Label]:
    if isinstance(obj, Construct):
        name = str(getattr(obj.cls, "__name__", obj.cls))
        return name, Label("", "", f"{name}()")
    own = getattr(obj, "__qualname__", None)
    if isinstance(own, str):
        return own, Label("", "", own)
    return type(obj).__name__, Label("", "", f"{type(obj).__name__} instance")


def _texts_of(codes: Sequence[Any], known: Mapping[str, str]) -> list[tuple[str, str, Callable[[int], bool]]]:
    """The texts that these code objects come from, and which of their lines they cover."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for code in codes:
        last = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
        spans.setdefault(code.co_filename, []).append((code.co_firstlineno, last))
    texts: list[tuple[str, str, Callable[[int], bool]]] = []
    for filename, lines in spans.items():
        if filename in known or (os.path.isabs(filename) and is_installed(os.path.dirname(filename))):
            continue
        linecache.checkcache(filename)
        text = "".join(linecache.getlines(filename))
        if text:
            texts.append((filename, text, functools.partial(_covered, lines)))
    return texts


def _covered(spans: Sequence[tuple[int, int]], line: int) -> bool:
    return any(first <= line <= last for first, last in spans)
