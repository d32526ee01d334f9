"""avlab: items flow through nodes; a remote node is a node whose far bank lies in a sandbox.

Everything public is here; each name is loaded when it is first used, so that ``import avlab`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avlab.core.errors import (
    AvlabError,
    BundleError,
    Cancelled,
    CodecError,
    ConfigError,
    ConnectError,
    Denied,
    ItemTooLarge,
    LimitExceeded,
    LimitUnsupported,
    LinkClosed,
    LinkError,
    MediaError,
    NodeError,
    PipelineError,
    PoisonItem,
    RemoteError,
    SecretRefused,
    SessionClosed,
    SessionError,
    SessionLost,
    TierUnavailable,
    TimedOut,
    TimingError,
    UnknownNode,
    VersionMismatch,
    WorkerDied,
)
from avlab.core.item import Item, Stamp
from avlab.core.node import Node, join, node

if TYPE_CHECKING:
    from avlab.flow.graph import Pipeline, tee
    from avlab.media.rtc.manager import WebRTCManager
    from avlab.media.rtc.nodes import WebRTCSink, WebRTCSource
    from avlab.media.sinks import Collect, FileSink
    from avlab.media.sources import CaptureSource, FileSource, TestSource
    from avlab.media.sync import Sync
    from avlab.media.zip import zip_by_pts
    from avlab.remote.client import Executor
    from avlab.remote.config import TLS, RemoteExecutorConfig
    from avlab.remote.connect import aconnect, connect
    from avlab.remote.limits import Limits
    from avlab.remote.nodes import RemoteExecutionNode, RemoteObjectExecutionNode, SerializedClassExecutorNode
    from avlab.remote.session import Session

    AudioConvert: Any
    AudioFilter: Any
    Camera: Any
    Microphone: Any
    Preview: Any
    Resample: Any
    Resize: Any
    Screen: Any
    VideoConvert: Any
    VideoFilter: Any
    measure_glass_to_glass: Any

_HOMES = {
    "CaptureSource": "avlab.media.sources",
    "Collect": "avlab.media.sinks",
    "Executor": "avlab.remote.client",
    "FileSink": "avlab.media.sinks",
    "FileSource": "avlab.media.sources",
    "Limits": "avlab.remote.limits",
    "Pipeline": "avlab.flow.graph",
    "RemoteExecutionNode": "avlab.remote.nodes",
    "RemoteExecutorConfig": "avlab.remote.config",
    "TLS": "avlab.remote.config",
    "RemoteObjectExecutionNode": "avlab.remote.nodes",
    "SerializedClassExecutorNode": "avlab.remote.nodes",
    "Session": "avlab.remote.session",
    "Sync": "avlab.media.sync",
    "TestSource": "avlab.media.sources",
    "WebRTCManager": "avlab.media.rtc.manager",
    "WebRTCSink": "avlab.media.rtc.nodes",
    "WebRTCSource": "avlab.media.rtc.nodes",
    "aconnect": "avlab.remote.connect",
    "connect": "avlab.remote.connect",
    "tee": "avlab.flow.graph",
    "zip_by_pts": "avlab.media.zip",
}

__all__ = [
    "TLS",
    "AudioConvert",
    "AudioFilter",
    "AvlabError",
    "BundleError",
    "Camera",
    "Cancelled",
    "CaptureSource",
    "CodecError",
    "Collect",
    "ConfigError",
    "ConnectError",
    "Denied",
    "Executor",
    "FileSink",
    "FileSource",
    "Item",
    "ItemTooLarge",
    "LimitExceeded",
    "LimitUnsupported",
    "Limits",
    "LinkClosed",
    "LinkError",
    "MediaError",
    "Microphone",
    "Node",
    "NodeError",
    "Pipeline",
    "PipelineError",
    "PoisonItem",
    "Preview",
    "RemoteError",
    "RemoteExecutionNode",
    "RemoteExecutorConfig",
    "RemoteObjectExecutionNode",
    "Resample",
    "Resize",
    "Screen",
    "SecretRefused",
    "SerializedClassExecutorNode",
    "Session",
    "SessionClosed",
    "SessionError",
    "SessionLost",
    "Stamp",
    "Sync",
    "TestSource",
    "TierUnavailable",
    "TimedOut",
    "TimingError",
    "UnknownNode",
    "VersionMismatch",
    "VideoConvert",
    "VideoFilter",
    "WebRTCManager",
    "WebRTCSink",
    "WebRTCSource",
    "WorkerDied",
    "aconnect",
    "connect",
    "measure_glass_to_glass",
    "node",
    "tee",
    "zip_by_pts",
]


_NODES = {"AudioConvert", "AudioFilter", "Resample", "Resize", "VideoConvert", "VideoFilter"}
_REGISTERED = {"Camera", "Microphone", "Preview", "Screen"} | _NODES
_NOTEBOOK = {"measure_glass_to_glass"}
"""Public names of built-in nodes and of the notebook side, which stand above: found by their entry points, of nodes and of functions."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _REGISTERED:
        value = _registered(name)
    elif name in _NOTEBOOK:
        value = _notebook(name)
    else:
        raise AttributeError(f"module 'avlab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext avlab``: the notebook side is another package, found by its entry point."""
    _notebook("load_ipython_extension")(shell)


def _notebook(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="avlab.notebook", name=name):
        return point.load()
    raise ConfigError(f"{name} belongs to avlab's notebook side, which is not installed: pip install 'avlab[notebook]'")


def _pipeline(nodes: list[object]) -> Any:
    return importlib.import_module("avlab.flow.graph").Pipeline(nodes)


def _config(url: str) -> Any:
    return importlib.import_module("avlab.remote.config").RemoteExecutorConfig.from_url(url)


def _place(node: object, config: Any) -> Any:
    return importlib.import_module("avlab.remote.nodes").place(node, config)


def _registered(name: str) -> Any:
    return importlib.import_module("avlab.core.registry").registered(name)


def _preview(shown: object, options: Any, process: bool = False) -> Any:
    preview = _registered("Preview")
    return preview.in_process(shown, options) if process else preview.of(shown, options)


join.preview = staticmethod(_preview)
join.pipeline, join.config, join.place = staticmethod(_pipeline), staticmethod(_config), staticmethod(_place)
