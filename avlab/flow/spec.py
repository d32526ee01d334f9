"""Pipelines as JSON: ``{"version": 1, "nodes": [{"node": "Resize", "config": {…}}, {"tee": [[…], […]]}]}``.

Nodes are named as in the entry-point group ``avlab.nodes``; ``config`` holds their parameters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from avlab.core.errors import ConfigError
from avlab.core.node import join, parameters
from avlab.core.registry import close_matches, name_of, registered
from avlab.flow.structure import Row, Tee, branch

VERSION = 1
MAX_TEES = 32
"""How deeply tees may lie within each other."""


def nodes_to_spec(row: Row) -> list[dict[str, Any]]:
    """The nodes of a row as JSON values. Raises UnknownNode for one that is not registered and ConfigError for a parameter
    that JSON cannot carry, naming both."""
    return [
        {"tee": [nodes_to_spec(each) for each in element.branches]}
        if isinstance(element, Tee)
        else _node_to_spec(element)
        for element in row
    ]


def nodes_from_spec(spec: object, where: str = "nodes") -> list[Any]:
    """The nodes that a list of specs describes. Raises UnknownNode, and ConfigError naming the place that is wrong."""
    if not isinstance(spec, list):
        raise ConfigError(f"{where} of a pipeline spec must be a list, not {type(spec).__name__}")
    return [_from_spec(each, f"{where}[{index}]") for index, each in enumerate(spec)]


def _node_to_spec(node: Any) -> dict[str, Any]:
    name = name_of(type(node))
    config = {}
    for parameter, (_, default) in parameters(type(node)).items():
        try:
            value = getattr(node, parameter)
        except AttributeError:
            raise ConfigError(f"{name} does not keep its parameter {parameter!r}: set self.{parameter}") from None
        if value is not default:
            config[parameter] = _json(value, f"parameter {parameter!r} of {name}")
    spec: dict[str, Any] = {"node": name, "config": config}
    remote = getattr(node, "remote", None)
    if remote is not None:
        spec["remote"] = _url(remote, name)
    return spec


def _url(remote: Any, name: str) -> str:
    """Where a node runs, if a URL says all of it: a spec must not lose a limit, and never holds a credential."""
    url = remote if isinstance(remote, str) else getattr(remote, "url", None)
    if isinstance(remote, str):
        remote = join.config(remote)
    if not isinstance(url, str) or join.config(url) != remote:
        raise ConfigError(
            f"{name}.remote is {remote!r}: a spec holds only its URL; set limits and credentials where it is read"
        )
    return url


def _json(value: Any, what: str) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is {value!r}, which JSON cannot carry: {error}") from error


def _from_spec(spec: object, where: str) -> Any:
    if not isinstance(spec, Mapping):
        raise ConfigError(f'{where} must be {{"node": …}} or {{"tee": …}}, not {spec!r}')
    if "tee" in spec:
        known_keys(spec, {"tee"}, where)
        if not isinstance(spec["tee"], list) or not spec["tee"]:
            raise ConfigError(f"{where}: a tee is a list of branches")
        if where.count(".tee") >= MAX_TEES:
            raise ConfigError(f"{where}: tees lie within each other more than {MAX_TEES} levels deep")
        return Tee(tuple(branch(nodes_from_spec(b, f"{where}.tee[{i}]")) for i, b in enumerate(spec["tee"])))
    known_keys(spec, {"node", "config", "remote"}, where)
    name, config = spec.get("node"), spec.get("config", {})
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ConfigError(f"{where} needs a node name and a config of parameters: {dict(spec)!r}")
    cls = registered(name)
    known_keys(config, set(parameters(cls)), f"{where} ({name})")
    try:
        node = cls(**config)
    except TypeError as error:
        raise ConfigError(f"{where} ({name}): {error}") from error
    if "remote" in spec:
        node.remote = join.config(spec["remote"])
    return node


def known_keys(spec: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise ConfigError for a key that nobody reads, with its closest match."""
    for key in spec:
        if key not in known:
            close = close_matches(str(key), known)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(sorted(known)) or 'nothing'}"
            raise ConfigError(f"{where} does not take {key!r}; {hint}")
