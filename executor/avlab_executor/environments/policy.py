"""What an executor installs for sessions, and how much it lets that cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avlab.core.errors import ConfigError, Denied
from avlab.remote.requirements import Requirement, canonical

MODES = ("off", "wheels", "any")


@dataclass(frozen=True, slots=True)
class Policy:
    """mode: "off"; "wheels": built packages only, so that nothing of them is executed while they are installed; "any": also from
    source, whose build runs their code, confined and with the network. allow: the projects that may be asked for, by name (what they
    need themselves comes along); empty: all. folder: where environments are kept (default: in the user's cache folder). size: bytes
    kept; the least recently used go first. Of one build: seconds; disk, in bytes; memory, in bytes; processes: tasks at once. builds:
    at once. Raises ConfigError.
    """

    mode: str = "off"
    allow: tuple[str, ...] = ()
    folder: str = ""
    size: int = 10 << 30
    seconds: float = 900.0
    disk: int = 6 << 30
    memory: int = 2 << 30
    processes: int = 256
    builds: int = 2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"{self.mode!r} is no policy for packages: write one of {', '.join(MODES)}")
        object.__setattr__(self, "allow", tuple(sorted(map(canonical, self.allow))))
        for name in ("size", "seconds", "disk", "memory", "processes", "builds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} of the policy for packages must be positive")

    def check(self, requirements: Sequence[Requirement]) -> None:
        """Raises Denied for what this executor does not install."""
        if self.mode == "off":
            raise Denied(
                "this executor installs no packages and starts no other Python for sessions: its operator allows it with --pip-policy "
                "wheels, or installs them where it runs"
            )
        refused = [each.name for each in requirements if self.allow and each.name not in self.allow]
        if refused:
            raise Denied(f"this executor does not install {', '.join(refused)}: only {', '.join(self.allow)}")

    @property
    def place(self) -> Path:
        """The folder that environments are kept in."""
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return Path(self.folder or os.path.join(cache, "avlab", "environments")).absolute()


OFF = Policy("off")
