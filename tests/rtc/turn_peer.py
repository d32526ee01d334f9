"""One of two peers that know each other's texts alone: run inside a network namespace, it talks JSON lines with the test."""

import json
import sys

from avlab.core.errors import AvlabError
from avlab.media.rtc.manager import WebRTCManager
from avlab.media.runtime import MediaRuntime


def say(**what) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    role, servers = sys.argv[1], json.loads(sys.argv[2])
    runtime = MediaRuntime()
    manager = WebRTCManager(ice_servers=servers, media=False, runtime=runtime)
    try:
        if role == "offer":
            say(text=manager.offer())
            partner = manager.accept(sys.stdin.readline())
        else:
            say(text=manager.answer(sys.stdin.readline()))
            (partner,) = manager.partners
        try:
            manager.wait(20)  # who answers by hand would wait ten minutes for the answer to be carried
            partner.send(f"from {role}")
            heard = partner.receive(20).value
            say(heard=heard, path=partner.path, reason=partner.reason)
        except AvlabError:
            say(heard="", path=partner.path, reason=partner.reason)
        sys.stdin.readline()  # the other one may still be reading
    finally:
        manager.close()
        runtime.close()


main()
