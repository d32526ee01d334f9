"""What the tests run in the container."""

import errno
import os

import av


class Dim:
    """Halves the brightness."""

    def process(self, frame: av.VideoFrame) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24") // 2, format="rgb24")


class Prober:
    """What user code finds around it."""

    def read(self, path: str) -> str:
        try:
            with open(path) as file:
                return file.read()
        except OSError as error:
            return type(error).__name__

    def fill(self, folder: str, size: int) -> str:
        """What ends the writing of ``size`` bytes there."""
        try:
            with open(f"{folder}/much", "wb") as file:
                file.write(bytes(size))
            return "nothing"
        except OSError as error:
            return errno.errorcode[error.errno]

    def uid(self) -> int:
        return os.getuid()
