"""One contender in a process of its own, so that threads and interpreter locks do not meet: ``host.py NAME``.

Reads commands as lines of JSON on standard input and answers each with one on what was standard output. It ends with its
input.
"""

import importlib
import json
import os
import sys

import echo


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    try:
        module = importlib.import_module(f"peers.{name}")
    except ModuleNotFoundError as missing:
        print(json.dumps({"missing": missing.name}), file=answers)
        return
    peer = module.Contender()
    try:
        print(json.dumps({"value": peer.about}), file=answers)
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            value = peer.first() if command == "first" else getattr(echo, command)(peer, *arguments)
            print(json.dumps({"value": value}), file=answers)
    finally:
        peer.close()


if __name__ == "__main__":
    main(sys.argv[1])
