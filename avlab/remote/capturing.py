"""By which name each value of an object graph is reached, and how much every captured variable holds."""

from __future__ import annotations

import pickle
from types import CodeType, FunctionType
from typing import Any

from avlab.core.errors import BundleError
from avlab.remote.captures import Label, check_text
from avlab.remote.construct import Construct

_ATOMS = (type(None), bool, int, float, complex)
_TEXT = (str, bytes, bytearray)


class Capturing:
    """Labels values before the pickler meets them, looks into plain containers, counts bytes in ``sizes``; ``deep`` is where
    it went far down.

    The pickler shows it every reduction. Raises SecretRefused, and BundleError for a variable above ``max_capture`` bytes.
    """

    def __init__(self, max_capture: int, allowed: frozenset[str]) -> None:
        self.sizes: dict[Label, int] = {}
        self.deep: Label | None = None
        self._max_capture = max_capture
        self._allowed = allowed
        self._labels: dict[int, Label] = {}
        self._alive: list[Any] = []  # an id names a value only while the value lives

    def label(self, value: Any, default: Label) -> Label:
        return self._labels.get(id(value), default)

    def enter(self, value: Any, label: Label) -> None:
        """Label ``value`` and, through plain containers, all that it holds."""
        self._alive.append(value)
        todo = [(value, label)]
        while todo:
            value, label = todo.pop()
            kind = type(value)
            if kind in _ATOMS:
                self._count(label, 8)
            elif kind in _TEXT:
                self._count(label, len(value))
                check_text(value, label, self._allowed)
            elif id(value) not in self._labels:
                self._labels[id(value)] = label
                self.deep = label if label.deep else self.deep
                if kind is dict:
                    todo += [(k, label.unnamed) for k in value if type(k) not in _ATOMS]
                    todo += [(v, label.key(k)) for k, v in value.items()]
                elif kind in (list, tuple):
                    atoms = sum(type(v) in _ATOMS for v in value)
                    self._count(label, 8 * atoms)
                    if atoms < len(value):
                        todo += [(v, label.key(n)) for n, v in enumerate(value) if type(v) not in _ATOMS]
                elif kind in (set, frozenset):
                    todo += [(v, label.unnamed) for v in value]
                elif kind is pickle.PickleBuffer:
                    self._count(label, value.raw().nbytes)

    def reduction(self, value: Any, parts: list[Any], label: Label) -> None:
        """Label what the reduction of ``value`` holds: a list as ``__reduce__`` returns it, its iterators read."""
        self._alive.append((value, parts))
        args, state, items, pairs = [*parts, None, None, None][1:5]
        if isinstance(value, Construct):
            return self._construct(value)
        if isinstance(value, FunctionType) and isinstance(state, tuple):
            return self._function(value, args, state)
        if isinstance(value, type):
            label = Label("", "", f"class {value.__qualname__}")
        elif isinstance(value, CodeType):
            label = Label("", "", f"a constant in {value.co_qualname}")
        for each in args:
            self._attributes(each, label) if type(each) is dict else self.enter(each, label)
        for each in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            self._attributes(each, label) if type(each) is dict else self.enter(each, label)
        for n, each in enumerate(items or ()):
            self.enter(each, label.key(n))
        for key, each in pairs or ():
            self.enter(key, label.unnamed)
            self.enter(each, label.key(key))

    def captured(self) -> dict[str, int]:
        """Bytes by captured variable, for people; without what Python itself puts into classes and functions."""
        shown = {
            label: size
            for label, size in self.sizes.items()
            if label.name and not label.name.lstrip(".").startswith("__")
        }
        return {str(label): size for label, size in shown.items()}

    def _construct(self, value: Construct) -> None:
        name = str(getattr(value.cls, "__qualname__", value.cls))
        self.enter(value.cls, Label("", "", name))
        for n, each in enumerate(value.args, 1):
            self.enter(each, Label("argument", str(n), f"{name}()"))
        for key, each in value.kwargs.items():
            self.enter(each, Label("argument", key, f"{name}()", last=key))

    def _function(self, function: Any, args: Any, state: Any) -> None:
        code, who = function.__code__, function.__qualname__
        attributes, slots = state
        self._attributes(attributes, Label("", "", who))
        self.enter(args[0], Label("", "", who))
        for name, each in slots["__globals__"].items():
            self.enter(each, Label("global", name, who, last=name))
        for name, cell in zip(code.co_freevars, slots["__closure__"] or (), strict=False):
            self.enter(cell, Label("variable", name, who, last=name))
        names = code.co_varnames[: code.co_argcount]
        defaults = slots["__defaults__"] or ()
        named = [
            *zip(names[len(names) - len(defaults) :], defaults, strict=False),
            *(slots["__kwdefaults__"] or {}).items(),
        ]
        for name, each in named:
            self.enter(each, Label("default", name, who, last=name))
        for each in (
            *(slots.get("__annotations__") or {}).values(),
            slots["__doc__"],
            *slots["_cloudpickle_submodules"],
        ):
            self.enter(each, Label("", "", who))

    def _attributes(self, attributes: dict[Any, Any], label: Label) -> None:
        for name, each in attributes.items():
            if name == "__annotations__":  # its keys are names of fields, its values types
                for annotation in each.values():
                    self.enter(annotation, label.unnamed)
            elif not isinstance(name, str):
                self.enter(each, label.key(name))
            elif label.name:
                self.enter(each, label.attribute(name))
            else:
                self.enter(each, Label("attribute", f".{name}", label.owner, last=name))

    def _count(self, label: Label, size: int) -> None:
        variable = label.variable
        total = self.sizes[variable] = self.sizes.get(variable, 0) + size
        if total > self._max_capture:
            raise BundleError(
                f"{variable} holds {total} bytes or more, above the limit of {self._max_capture} (max_capture): send it as an "
                "item or as an argument to a call, put it into a file named in files=, or raise max_capture"
            )
