"""The JSON blob of a SOURCE bundle: text, the name to take from it, plain state, arguments.

Every value is ``{"json": value}``, ``{"module": name}`` or ``{"pickle": base64}``; the last holds no code, only data and names
of what modules define, so it suits every Python minor.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from avlab.core.errors import BundleError
from avlab.remote.captures import Label
from avlab.remote.finder import Finder
from avlab.remote.source import free_names

Arguments = tuple[Sequence[object], Mapping[str, object]]


def encode_source(
    text: str,
    filename: str,
    name: str,
    state: Mapping[str, object],
    arguments: Arguments | None,
    finder: Finder,
    max_capture: int,
    allowed: frozenset[str],
) -> tuple[bytes, dict[str, str], dict[str, int]]:
    """The blob, the modules it needs by name with what needs them, and the bytes of every variable."""
    from avlab.remote.capturing import Capturing
    from avlab.remote.pickler import Pickler

    capturing = Capturing(max_capture, allowed)
    modules: dict[str, str] = {}

    def encode(value: object, label: Label) -> dict[str, Any]:
        if isinstance(value, ModuleType):
            modules.setdefault(value.__name__, str(label))
            return {"module": value.__name__}
        if _is_json(value):
            capturing.enter(value, label)
            return {"json": value}
        pickler = Pickler(finder, capturing, code=False)
        pickled = pickler.pack(value, label)
        modules.update(pickler.modules)
        return {"pickle": base64.b64encode(pickled).decode()}

    free, bound = free_names(text)
    if name not in bound:
        raise BundleError(
            f"{filename} defines no {name!r} at its top level: it defines {', '.join(sorted(bound)) or 'nothing'}"
        )
    used = {key: encode(value, Label("global", key, filename, last=key)) for key, value in state.items() if key in free}
    content: dict[str, Any] = {"filename": filename, "text": text, "name": name, "state": used}
    if arguments is not None:
        args, kwargs = arguments
        content["args"] = [encode(v, Label("argument", str(n), f"{name}()")) for n, v in enumerate(args, 1)]
        content["kwargs"] = {k: encode(v, Label("argument", k, f"{name}()", last=k)) for k, v in kwargs.items()}
    blob = json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")
    return blob, modules, capturing.captured()


def _is_json(value: object) -> bool:
    """Whether JSON gives back exactly this value."""
    try:
        return json.loads(json.dumps(value)) == value and _is_plain(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _is_plain(value: object) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    return type(value) in (type(None), bool, int, float, str)
