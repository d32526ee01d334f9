"""Where items go."""

from avlab.media.sinks.collect import Collect
from avlab.media.sinks.file import FileSink

__all__ = ["Collect", "FileSink"]
