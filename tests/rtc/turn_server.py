"""coturn for tests, on loopback or inside a network namespace."""

from __future__ import annotations

import datetime
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SECRET = "only-for-tests"
REALM = "avlab"


def need(program: str, package: str) -> str:
    """The path of a program. Its absence fails the test."""
    return shutil.which(program) or pytest.fail(f"{program} is not installed: apt-get install {package}")


@dataclass(frozen=True)
class Turn:
    """A server that listens: ``authority`` is the file to trust for TLS, ``log`` what it says."""

    host: str
    port: int
    tls_port: int
    authority: Path
    log: Path
    process: subprocess.Popen

    def urls(self, *ways: str) -> list[str]:
        forms = {
            "udp": f"turn:{self.host}:{self.port}",
            "tcp": f"turn:{self.host}:{self.port}?transport=tcp",
            "tls": f"turns:{self.host}:{self.tls_port}?transport=tcp",
        }
        return [forms[way] for way in ways]


@contextmanager
def turnserver(
    folder: Path,
    addresses: Sequence[str] = ("127.0.0.1",),
    *,
    inside: Sequence[str] = (),
    port: int = 0,
    tls_port: int = 0,
    options: Sequence[str] = (),
) -> Iterator[Turn]:
    """Runs coturn until the block ends. inside: command prefix that enters a namespace; relays from the first address."""
    program = need("turnserver", "coturn")
    folder.mkdir(parents=True, exist_ok=True)
    port, tls_port = port or free_port(), tls_port or free_port()
    certificate, key = certify(folder, addresses)
    lines = [
        *(f"listening-ip={address}" for address in addresses), f"relay-ip={addresses[0]}",
        f"listening-port={port}", f"tls-listening-port={tls_port}", f"cert={certificate}", f"pkey={key}",
        "use-auth-secret", f"static-auth-secret={SECRET}", f"realm={REALM}", "no-dtls", "no-cli", "allow-loopback-peers",
        f"userdb={folder / 'users'}", f"pidfile={folder / 'pid'}", "log-file=stdout", "simple-log", "verbose", *options,
    ]  # fmt: skip
    config, log = folder / "turnserver.conf", folder / "turnserver.log"
    config.write_text("\n".join(lines) + "\n")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*inside, program, "-c", config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        wait_for(lambda: "TLS" in log.read_text() and listens(inside, tls_port), process, log)
        yield Turn(addresses[0], port, tls_port, certificate, log, process)
    finally:
        process.terminate()
        process.wait(10)


def listens(inside: Sequence[str], port: int) -> bool:
    command = [*inside, need("ss", "iproute2"), "-Hltn", f"sport = :{port}"]
    return bool(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def wait_for(condition, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 20
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"coturn does not listen:\n{log.read_text()[-2000:]}")
        threading.Event().wait(0.05)  # coturn announces nothing


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def certify(folder: Path, addresses: Sequence[str]) -> tuple[Path, Path]:
    """A certificate for these addresses, made now, and its key; it is its own authority."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "turn.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private
