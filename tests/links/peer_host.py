"""A script that serves sandboxed sessions to one peer, who must show the token that is its argument: takes an offer from stdin, prints
the answer, ends with stdin."""

import sys

from avlab_executor.peers import PeerExecutor

import avlab

if __name__ == "__main__":
    with PeerExecutor(token=sys.argv[1]) as executor, avlab.WebRTCManager(media=False) as manager:
        manager.serve(executor)
        print(manager.answer(sys.stdin.readline()), flush=True)
        sys.stdin.read()
        manager.close()
