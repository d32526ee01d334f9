"""What the browser sends to a widget arrives while cells run and when they end: mends for the kernels in which it may not."""

from __future__ import annotations

from typing import Any


def keep_reachable(comm: Any) -> None:
    """Mend what this comm needs in the kernel at hand; elsewhere (marimo, no kernel) nothing is changed."""
    _unbind(comm)
    _wake(getattr(comm, "kernel", None))


def _unbind(comm: Any) -> None:
    """Let what the browser sends to this comm go where the front end sends it.

    ipykernel 7.4 asks the comm which shell published on it last and hands inbound messages to that one, which may be busy with
    a cell. Other versions do not ask.
    """
    if hasattr(type(comm), "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, addressed: addressed


def _wake(kernel: Any) -> None:
    """Let what comes while a cell's reply is sent be read.

    ipykernel 7.0 to 7.3 reads the shell's socket through a stream and writes replies past it. libzmq says once that something has
    come, and a write past the stream takes the word for itself: what came just then, and all after it, is never read. Since 7.4
    replies go through the stream (ipython/ipykernel#1529); here they are made to.
    """
    manager: Any = getattr(getattr(kernel, "shell_channel_thread", None), "_manager", None)
    if hasattr(manager, "_shell_socket"):
        manager._shell_socket = kernel.shell_stream  # of both, all that is used is send_multipart, in the thread that reads
