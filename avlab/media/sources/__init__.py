"""Where items come from."""

from avlab.media.sources.capture import CaptureSource
from avlab.media.sources.file import FileSource
from avlab.media.sources.test import TestSource, read_frame_number

__all__ = ["CaptureSource", "FileSource", "TestSource", "read_frame_number"]
