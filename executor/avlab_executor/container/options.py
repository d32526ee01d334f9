"""How an executor's container is run: nothing of the host, no rights, bounded resources."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from avlab.core.errors import ConfigError
from avlab.remote.limits import parse_size
from avlab_executor.sandbox.profile import GVISOR

PORT = 7411
"""Inside; outside the engine takes a free one of 127.0.0.1."""
FOLDER = "/run/avlab"
"""Where the server inside leaves its token and certificate: memory of the container, readable to its user alone."""
IDLE_SECONDS = 300.0
"""A container that a client has started ends after so long without a session."""
LABEL = "avlab.executor"
"""Label with the options, by which containers are found and made again."""
CACHE = "/var/cache/avlab"
"""Inside: where environments with sessions' packages are kept, on a volume that outlives containers."""
IMAGE_VARIABLE = "AVLAB_IMAGE"
"""Environment variable with the image's name, if it is not the one that `make image` gives."""
PIP_INDEX_VARIABLE, PIP_CA_VARIABLE = "AVLAB_PIP_INDEX", "AVLAB_PIP_CA"
"""Environment variables with the index for packages and its authorities, for containers that ``docker:`` starts by itself."""
USER = "10001:10001"
_AUTHORITIES = "/run/authorities.pem"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,50}")


@dataclass(frozen=True, slots=True)
class Options:
    """Of one container. port: on 127.0.0.1, 0 takes a free one. memory: bytes, no swap. cpus: processors. pids: processes and threads.
    tier: the weakest isolation that may serve; "gvisor" also lifts Docker's masks of /proc. sessions: most at once. idle: seconds without a session after which it ends, or
    None: when it is told to. seccomp: whether to use avlab's profile, with which the tier `namespaces` works, or the engine's.
    pip_index: URL of the index that sessions' packages come from, and pip_ca: PEM file of the engine's machine with the authorities that
    vouch for it (default: the variables AVLAB_PIP_INDEX and AVLAB_PIP_CA); "": as the installer itself knows. Nothing is taken
    from how this machine's pip is configured. Raises ConfigError.
    """

    image: str = field(default_factory=lambda: os.environ.get(IMAGE_VARIABLE) or f"avlab-executor:{version('avlab')}")
    port: int = 0
    memory: str = "2G"
    cpus: float = 2.0
    pids: int = 512
    tier: str | None = None
    sessions: int = 16
    idle: float | None = IDLE_SECONDS
    seccomp: bool = True
    pip_index: str = field(default_factory=lambda: os.environ.get(PIP_INDEX_VARIABLE, ""))
    pip_ca: str = field(default_factory=lambda: os.environ.get(PIP_CA_VARIABLE, ""))

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if not (self.cpus > 0 and self.pids > 0):
            raise ConfigError(f"cpus={self.cpus:g}, pids={self.pids}: both are more than 0")
        if self.idle is not None and not self.idle > 0:
            raise ConfigError(f"idle={self.idle:g} is not a positive number of seconds")
        parse_size(self.memory)
        if self.pip_index and not re.fullmatch(r"https?://[^\s@]+", self.pip_index):  # not shown: it may hold a password
            raise ConfigError("the index for packages is a URL https://host/path, without credentials: they would be in the container's label")
        if self.pip_ca and not os.path.isabs(self.pip_ca):
            raise ConfigError(f"{self.pip_ca!r} is not the absolute path of a PEM file of authorities")

    def label(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_label(cls, text: str) -> Options:
        """The inverse of label; of another version's options those that this one knows."""
        return cls(**{name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__})

    def command(self) -> list[str]:
        """What the image is told to do."""
        words = ["serve", "--host", "0.0.0.0", "--port", str(PORT), "--self-signed", FOLDER]
        words += ["--sessions", str(self.sessions), "--pip-policy", "wheels"]
        words += ["--min-tier", self.tier] if self.tier else []
        return words + (["--idle-exit", f"{self.idle:g}"] if self.idle is not None else [])

    def container(self) -> dict[str, Any]:
        """What is run: arguments of docker's ``create_container``."""
        return {
            "image": self.image,
            "command": self.command(),
            "labels": {LABEL: self.label()},
            "user": USER,
            "ports": [PORT],
            "environment": {
                **({"PIP_INDEX_URL": self.pip_index} if self.pip_index else {}),
                **({"PIP_CERT": _AUTHORITIES} if self.pip_ca else {}),
            },
        }

    def host(self) -> dict[str, Any]:
        """How it is run: HostConfig of Docker's API. docker/compose.yaml says the same."""
        size = parse_size(self.memory)
        # gVisor mounts a /proc of its own, which the kernel allows only where nothing of the first one is masked.
        authorities = {"Type": "bind", "Source": self.pip_ca, "Target": _AUTHORITIES, "ReadOnly": True}
        unmasked: dict[str, Any] = {"MaskedPaths": [], "ReadonlyPaths": []} if self.tier == GVISOR else {}
        return {
            "Init": True,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", *([f"seccomp={profile()}"] if self.seccomp else [])],
            "Tmpfs": {
                "/tmp": "size=512m,mode=1777",
                FOLDER: "size=1m,mode=0700,uid={},gid={}".format(*USER.split(":")),
            },
            "Binds": [f"avlab-environments:{CACHE}"],
            "Memory": size,
            "MemorySwap": size,
            "NanoCpus": int(self.cpus * 1e9),
            "PidsLimit": self.pids,
            "PortBindings": {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]},
            **({"Mounts": [authorities]} if self.pip_ca else {}),
            **unmasked,
        }


def profile() -> str:
    """The seccomp profile that allows sandboxes inside a container, as JSON."""
    return json.dumps(json.loads(files(__package__).joinpath("seccomp.json").read_text()))


def container_name(name: str) -> str:
    """Of the executor called ``name``; "" is the one of all who do not name theirs. Raises ConfigError."""
    if not name:
        return "avlab-executor"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"docker:{name}: a container's name holds letters, digits and _ . - only")
    return f"avlab-executor-{name}"
