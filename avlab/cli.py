"""The command line: ``avlab COMMAND …``.

Commands of other layers and packages join through the entry point group ``avlab.commands``: each entry is a function
``add_commands(subparsers)``; every parser that it adds sets ``run``, a function from the parsed arguments to an exit code
(None means 0). Such a module must be cheap to import: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Any

from avlab.commands import demo, doctor, nodes, pack, run
from avlab.core.errors import AvlabError

WRONG, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """A parser that, like all its sub-parsers, knows ``--traceback``."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        self.add_argument(
            "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for a mistake or an error of avlab's own, 130 when interrupted."""
    options = parser().parse_args(argv)
    try:
        return int(options.run(options) or 0)
    except AvlabError as error:
        if "traceback" in options:
            raise
        print(f"avlab: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; nothing may be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> Parser:
    """The parser with every command that is installed. A command that cannot be imported is named on stderr and left out."""
    top = Parser(
        prog="avlab", description="Pipelines of audio, video and data; any node can run in a sandbox elsewhere."
    )
    top.add_argument("--version", action="version", version=f"avlab {version('avlab')}")
    top.set_defaults(run=lambda _: top.print_help())
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for own in (demo, run, nodes, doctor, pack):
        own.add_commands(commands)
    for entry in entry_points(group="avlab.commands"):
        try:
            add_commands = entry.load()
        except (ImportError, AttributeError) as error:
            print(f"avlab: the commands of {entry.value} cannot be loaded: {error}", file=sys.stderr)
            continue
        add_commands(commands)
    return top
