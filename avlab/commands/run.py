"""``avlab run``: a pipeline from a JSON spec, or a file through nodes into a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from avlab.core.errors import ConfigError

USAGE = """examples:
  avlab run pipeline.json
  avlab run in.mp4 'Resize(width=640)' out.mp4
  avlab run in.mp4 'my_nodes:Edges(strength=2)' out.mp4 --on local:
"""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("run", help="run a pipeline: a spec, or file, nodes, file", epilog=USAGE)
    parser.add_argument(
        "steps", nargs="+", metavar="STEP", help="a spec.json alone, or an input file, nodes, an output file"
    )
    parser.add_argument("--on", metavar="URL", help="run the nodes on this executor, for example local:")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run to the end and print the statistics."""
    print(pipeline(options.steps, options.on).run())


def pipeline(steps: list[str], on: str | None = None) -> Any:
    """The pipeline that the arguments say. Raises ConfigError for arguments that say none."""
    import avlab
    from avlab.commands.named import build

    if len(steps) > 1:
        source, *nodes, sink = steps
        built = [build(text) for text in nodes]
        if on:
            built = [node.on(on) for node in built]
        return avlab.Pipeline([avlab.FileSource(source), *built, avlab.FileSink(sink)])
    if on:
        raise ConfigError("--on places nodes given on the command line; in a spec each node says where it runs")
    path = Path(steps[0])
    try:
        spec = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a pipeline spec (JSON): {error}; a media file needs nodes and an output behind it"
        ) from error
    return avlab.Pipeline.from_spec(spec)
