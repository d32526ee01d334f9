"""Where items come from."""

from avlab.media.sources.file import FileSource
from avlab.media.sources.test import TestSource, read_frame_number

__all__ = ["FileSource", "TestSource", "read_frame_number"]
