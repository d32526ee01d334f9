"""A widget's messages from the browser must not wait for the cell that happened to send to it last."""

from __future__ import annotations

from typing import Any


def unbind(comm: Any) -> None:
    """Let what the browser sends to this comm go where the front end sends it.

    ipykernel 7.4 remembers which shell published on a comm last and hands inbound messages to that one, which may be busy with
    a cell. Other versions have no such memory: nothing is changed there.
    """
    if not hasattr(type(comm), "_reply_subshell_for"):
        return
    publish = comm.publish_msg

    def publish_msg(*args: Any, **keys: Any) -> None:
        publish(*args, **keys)
        comm.__dict__.pop("_reply_subshell_id", None)

    comm.publish_msg = publish_msg
    comm.__dict__.pop("_reply_subshell_id", None)
