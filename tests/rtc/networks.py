"""Two networks without a route between them, made of network namespaces, and a host that stands in both. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

import pytest
from turn_server import need

RELAY = "10.91.3.1"
"""An address of the host in both, that neither network has a route to: only the host itself reaches what is there."""
SERVER, PORT, TLS_PORT = "10.91.4.1", 3478, 443
"""Where both networks reach the TURN server."""
BLOCKED = {"udp": f"ipproto udp dport {PORT}", "tcp": f"ipproto tcp dport {PORT}"}


def ip(*words: str) -> None:
    done = subprocess.run([need("ip", "iproute2"), *words], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Networks:
    """Namespaces ``a`` and ``b``, each with a wire to ``t``, which forwards nothing. A context manager."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            pytest.fail("networks of a test's own need root: run this test as root")
        self.names = {each: f"avlab-{os.getpid()}-{each}" for each in "abt"}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._held.close()
            raise
        return self

    def _make(self) -> None:
        middle = self.names["t"]
        for name in self.names.values():
            ip("netns", "add", name)
            self._held.callback(ip, "netns", "del", name)  # takes its interfaces along
            ip("-n", name, "link", "set", "lo", "up")
        for number, each in enumerate("ab", 1):
            here, gate = self.names[each], f"10.91.{number}.1"
            ip("-n", here, "link", "add", "wire", "type", "veth", "peer", "name", f"to-{each}", "netns", middle)
            ip("-n", here, "addr", "add", f"10.91.{number}.2/24", "dev", "wire")
            ip("-n", middle, "addr", "add", f"{gate}/24", "dev", f"to-{each}")
            ip("-n", here, "link", "set", "wire", "up")
            ip("-n", middle, "link", "set", f"to-{each}", "up")
            ip("-n", here, "route", "add", SERVER, "via", gate)
        for address in (RELAY, SERVER):
            ip("-n", middle, "addr", "add", f"{address}/32", "dev", "lo")
        subprocess.run([*self.inside("t"), "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"], check=True)

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def inside(self, each: str) -> list[str]:
        """What to put before a command so that it runs in a namespace."""
        return [need("ip", "iproute2"), "netns", "exec", self.names[each]]

    @contextmanager
    def blocked(self, *ways: str) -> Iterator[None]:
        """What comes for the server these ways vanishes, as behind a firewall."""
        name = self.names["t"]
        with ExitStack() as stack:
            if ways:  # rules that stand before the table of own addresses
                ip("-n", name, "rule", "add", "pref", "10", "lookup", "local")
                ip("-n", name, "rule", "del", "pref", "0")
                stack.callback(ip, "-n", name, "rule", "del", "pref", "10")
                stack.callback(ip, "-n", name, "rule", "add", "pref", "0", "lookup", "local")
            for way in ways:
                rule = ("pref", "5", *BLOCKED[way].split(), "blackhole")
                ip("-n", name, "rule", "add", *rule)
                stack.callback(ip, "-n", name, "rule", "del", *rule)
            yield
