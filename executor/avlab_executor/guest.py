"""A worker inside gVisor: our own code between the start of its interpreter and the first user byte.

There is no zygote to fork from: each guest imports what workers need, while it waits in the pool. Of a worker's descriptors runsc
takes three; the others follow over the session's socket, with a pipe that stands for SIGINT, which runsc would keep to itself.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from avlab_executor import newborn
from avlab_executor.sandbox import gvisor, launch, selfprobe
from avlab_executor.sandbox.nest import Nest
from avlab_executor.sandbox.profile import GVISOR, Profile

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_FOLLOWING = 3
_NO_ZYGOTE = 0


def start(
    nest: Nest, profile: Profile, work: Sequence[object], import_path: Sequence[str], streams: Sequence[int]
) -> NoReturn:
    """In the zygote's fork: become runsc with a guest that runs `main`. ``work``: a `newborn.Work`, ``streams``: stdout, stderr, session. Raises OSError."""
    words = json.dumps({"profile": profile.to_json(), "work": work})
    out, err, session = streams[:3]
    command = launch.command(f"{__name__}:main", import_path, words)
    gvisor.start(profile, nest.administrator, nest.proc, command, (session, out, err))


def follow(session: socket.socket, inbox: int, outbox: int, interrupts: int) -> None:
    """In the host: send a guest the descriptors that runsc does not take."""
    socket.send_fds(session, [b"\0"], [inbox, outbox, interrupts])


def main(words: str) -> None:
    """In the guest: take the descriptors, import, lock, and live as any worker."""
    config = json.loads(words)
    link = socket.socket(fileno=_STDIN)
    following = socket.recv_fds(link, 1, _FOLLOWING)[1]
    link.detach()
    entry = newborn.load(newborn.Work(*config["work"]))
    profile = Profile.from_json(config["profile"])
    newborn.live(Nest(GVISOR), profile, _NO_ZYGOTE, entry, (_STDOUT, _STDERR, _STDIN, *following))


def trial(words: str) -> None:
    """In a guest of `tiers.report`: lock, and print the answers of selfprobe as JSON."""
    nest, profile = Nest(GVISOR), Profile.from_json(json.loads(words))
    nest.lock(profile, _NO_ZYGOTE)
    failures = selfprobe.failures(profile, selfprobe.answers(profile))
    os.write(_STDOUT, json.dumps({"proc": nest.has_proc, "landlock": "", "failures": failures}).encode())
    sys.exit()
