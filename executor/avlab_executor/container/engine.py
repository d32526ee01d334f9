"""The local Docker engine: finds, starts and removes executors' containers, and reads what they tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from avlab.core.errors import ConfigError, ConnectError
from avlab_executor.container.options import FOLDER, LABEL, PORT, Options, container_name
from avlab_executor.identity import CERTIFICATE, TOKEN

START_SECONDS = 60.0
_API_SECONDS = 30.0
_GLANCE_SECONDS = 0.05
_LAST_LINES = 5
_SERVING = "serving "
_BEGIN = "-----BEGIN"
_CONFLICT = 409
_PORT_TAKEN = ("port is already allocated", "address already in use")


@dataclass(frozen=True, slots=True)
class Door:
    """How an executor in a container is reached: a port of 127.0.0.1, and what its server made for itself."""

    port: int
    token: str = field(repr=False)
    certificate: bytes


class Engine:
    """A Docker engine. Get one from `engine`."""

    def __init__(self, client: Any, errors: Any) -> None:
        self._client, self._errors = client, errors

    def find(self, name: str) -> Any:
        """The container of the executor called ``name``, running or not, or None."""
        wanted = container_name(name)
        found = self._client.containers.list(all=True, filters={"label": LABEL, "name": f"^/{wanted}$"})
        return found[0] if found else None

    def running(self, name: str) -> Any:
        """The running container of that name, or None."""
        found = self.find(name)
        return found if found is not None and found.status == "running" else None

    def start(self, name: str, options: Options | None = None) -> Any:
        """The running container of that name; it is started if there is none, and serves when this returns.

        options: of a new one; default: those of the last one of that name, if its container is still there, or the default ones.
        Raises ConfigError for a missing image and a port in use, ConnectError if the server inside does not start.
        """
        found = self.find(name)
        if found is None or found.status != "running":
            if found is not None:
                options = options or Options.from_label(found.labels[LABEL])
                found.remove(force=True)
            found = self._run(name, options or Options())
        self._await_serving(found)
        return found

    def _run(self, name: str, options: Options) -> Any:
        try:
            # Docker's own API: its client for people knows nothing of masked paths.
            made = self._client.api.create_container(
                name=container_name(name), host_config=options.host(), **options.container()
            )
        except self._errors.ImageNotFound:
            raise ConfigError(
                f"the image {options.image} is not on this machine: build it in avlab's source with `make image`, or name another "
                "with `avlab executor up --image …`"
            ) from None
        except self._errors.APIError as error:
            if error.status_code != _CONFLICT:
                raise
            if (found := self.find(name)) is not None:  # another process was quicker
                return found
            raise ConfigError(f"a container {container_name(name)} exists that is no executor: rename it") from None
        found = self._client.containers.get(made["Id"])
        try:
            found.start()
        except self._errors.APIError as error:
            found.remove()
            if any(words in str(error) for words in _PORT_TAKEN):
                raise ConfigError(f"port {options.port} of 127.0.0.1 is in use: give another --port, or 0") from None
            raise
        return found

    def _await_serving(self, container: Any) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            lines = container.logs().decode(errors="replace").splitlines()
            if any(line.startswith(_SERVING) for line in lines):
                return
            container.reload()
            if container.status not in ("created", "running") or time.monotonic() > end:
                break
            time.sleep(
                _GLANCE_SECONDS
            )  # a log can be followed, but neither timed out nor left without leaking its socket
        state = "has ended" if container.status != "running" else f"does not serve after {START_SECONDS:g} s"
        last = " / ".join(lines[-_LAST_LINES:]) or "nothing"
        raise ConnectError(f"the executor in container {container.name} {state}; it said: {last}")

    def door(self, container: Any) -> Door:
        """The way into a container that serves. Raises ConnectError if it has ended meanwhile."""
        try:
            container.reload()
            ports = container.ports.get(f"{PORT}/tcp")
            read = container.exec_run(["cat", f"{FOLDER}/{TOKEN}", f"{FOLDER}/{CERTIFICATE}"], stderr=False)
        except self._errors.APIError:
            ports = read = None
        if not ports or read is None or read.exit_code:
            raise ConnectError(f"the executor in container {container.name} has ended: connect again")
        token, begin, rest = read.output.decode().partition(_BEGIN)
        return Door(int(ports[0]["HostPort"]), token, (begin + rest).encode())

    def down(self, name: str) -> bool:
        """Stop and remove the container of that name; whether there was one."""
        found = self.find(name)
        if found is None:
            return False
        found.stop()
        found.remove()
        return True

    def logs(self, name: str, lines: int, follow: bool) -> Iterator[bytes]:
        """What the container of that name has written, from ``lines`` before now on. Raises ConnectError if there is none."""
        found = self.find(name)
        if found is None:
            raise ConnectError(f"there is no container {container_name(name)}: `{' '.join(('avlab executor up', name)).strip()}` starts it")
        if follow:
            yield from found.logs(stream=True, follow=True, tail=lines)
        else:
            yield found.logs(tail=lines)


@contextmanager
def engine() -> Iterator[Engine]:
    """The engine that DOCKER_HOST names, or this machine's. Its errors leave as ConnectError.

    Raises ConfigError without the package docker, ConnectError if no engine answers.
    """
    try:
        import docker
        from docker import errors
        from requests import RequestException  # docker lets its transport's errors through
    except ImportError:
        raise ConfigError("docker: needs the Python package docker: pip install 'avlab[docker]'") from None
    try:
        client = docker.from_env(timeout=_API_SECONDS)
    except (errors.DockerException, RequestException) as error:
        raise ConnectError(
            f"no Docker engine answers ({error}): start it, set DOCKER_HOST, or let this user use it (group docker)"
        ) from None
    try:
        yield Engine(client, errors)
    except (errors.DockerException, RequestException) as error:
        raise ConnectError(f"the Docker engine refuses or fails: {error}") from None
    finally:
        client.close()
