"""avlab's executor as a server of its own, over gRPC on loopback."""

import signal
import subprocess
import sys

from peers import avlab_local


class Contender(avlab_local.Contender):
    def __init__(self) -> None:
        command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.server.stdout.readline()
        if not line.startswith("serving "):
            raise RuntimeError(f"the server did not start: {line}")
        super().__init__(line.split()[1].rstrip(","))

    def close(self) -> None:
        super().close()
        self.server.send_signal(signal.SIGTERM)
        self.server.communicate(timeout=10)
