"""A token and a certificate that a server makes for itself at start: for an executor whose callers can read its folder.

Nothing outlives the process: the key stays in memory, and the next start makes others.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from avlab.core.errors import ConfigError

TOKEN, CERTIFICATE = "token", "certificate.pem"
_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
_COMMAND = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=avlab-executor "
    "-keyout /dev/stdout -out /dev/stdout"
)
_END = "-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server shows and asks for. certificate and key are PEM."""

    token: str = field(repr=False)
    certificate: bytes
    key: bytes = field(repr=False)


def make(folder: Path) -> Identity:
    """A new identity for names of this machine's loopback; token and certificate are written to ``folder``, for its owner alone.

    Raises ConfigError where the folder cannot be written or openssl is missing.
    """
    try:
        done = subprocess.run([*_COMMAND.split(), "-addext", _NAMES], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"a certificate cannot be made ({error}): install openssl, or give --tls-cert and --tls-key"
        ) from None
    key, end, certificate = done.stdout.partition(_END)
    identity = Identity(secrets.token_urlsafe(32), certificate.encode(), (key + end).encode())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / TOKEN, identity.token.encode())
        _write(folder / CERTIFICATE, identity.certificate)
    except OSError as error:
        raise ConfigError(f"--self-signed {folder}: it cannot be written: {error.strerror}") from None
    return identity


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
