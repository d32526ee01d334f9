"""The ways to reach an executor."""

import os

# gRPC reads it when it is imported; without it each failed handshake is printed, beside the error that says so.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
