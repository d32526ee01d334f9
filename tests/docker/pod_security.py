"""The Pod Security Standard `restricted`, as far as Linux pods go: each control with the fields it looks at.

Source: Kubernetes documentation, "Pod Security Standards" (kubernetes.io/docs/concepts/security/pod-security-standards), the tables
Baseline and Restricted; `restricted` is both.
"""

from collections.abc import Callable, Iterator
from typing import Any

Pod = dict[str, Any]

SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def containers(pod: Pod) -> list[Pod]:
    """All containers of a pod."""
    return [each for kind in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(kind, ())]


def contexts(pod: Pod) -> Iterator[Pod]:
    """The security contexts of the pod and of its containers."""
    yield pod.get("securityContext", {})
    yield from (each.get("securityContext", {}) for each in containers(pod))


def everywhere(pod: Pod, field: str, allowed: Callable[[Any], bool]) -> bool:
    """Whether a field is allowed in each container, which takes the pod's value if it has none."""
    whole = pod.get("securityContext", {}).get(field)
    return allowed(whole) | (whole is None) and all(
        allowed(each.get("securityContext", {}).get(field, whole)) for each in containers(pod)
    )


def handlers(pod: Pod) -> Iterator[Pod]:
    for each in containers(pod):
        found = [each.get(name, {}) for name in PROBES] + list(each.get("lifecycle", {}).values())
        yield from (handler.get(kind, {}) for handler in found for kind in ("httpGet", "tcpSocket"))


def drops_all(pod: Pod) -> bool:
    return all(
        "ALL" in each.get("securityContext", {}).get("capabilities", {}).get("drop", ()) for each in containers(pod)
    )


def adds(pod: Pod) -> set[str]:
    return {name for each in contexts(pod) for name in each.get("capabilities", {}).get("add", ())}


CONTROLS: dict[str, Callable[[Pod], bool]] = {
    # Baseline.
    "HostProcess": lambda pod: not any(each.get("windowsOptions", {}).get("hostProcess") for each in contexts(pod)),
    "host namespaces": lambda pod: not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
    "privileged containers": lambda pod: not any(each.get("privileged") for each in contexts(pod)),
    "HostPath volumes": lambda pod: not any("hostPath" in each for each in pod.get("volumes", ())),
    "host ports": lambda pod: (
        not any(port.get("hostPort") for each in containers(pod) for port in each.get("ports", ()))
    ),
    "host probes": lambda pod: not any(handler.get("host") for handler in handlers(pod)),
    "AppArmor": lambda pod: all(
        each.get("appArmorProfile", {}).get("type", "RuntimeDefault") in ("RuntimeDefault", "Localhost")
        for each in contexts(pod)
    ),
    "SELinux": lambda pod: all(
        options.get("type", "") in SELINUX_TYPES and not options.get("user") and not options.get("role")
        for each in contexts(pod)
        for options in [each.get("seLinuxOptions", {})]
    ),
    "/proc mount type": lambda pod: all(each.get("procMount", "Default") == "Default" for each in contexts(pod)),
    "sysctls": lambda pod: {s["name"] for each in contexts(pod) for s in each.get("sysctls", ())} <= SYSCTLS,
    # Restricted.
    "volume types": lambda pod: all(each.keys() - {"name"} <= VOLUMES for each in pod.get("volumes", ())),
    "privilege escalation": lambda pod: all(
        each.get("securityContext", {}).get("allowPrivilegeEscalation") is False for each in containers(pod)
    ),
    "running as non-root": lambda pod: everywhere(pod, "runAsNonRoot", lambda value: value is True),
    "running as non-root user": lambda pod: not any(each.get("runAsUser") == 0 for each in contexts(pod)),
    "seccomp": lambda pod: everywhere(
        pod, "seccompProfile", lambda value: (value or {}).get("type") in ("RuntimeDefault", "Localhost")
    ),
    "capabilities": lambda pod: drops_all(pod) and adds(pod) <= {"NET_BIND_SERVICE"},
}


def violations(pod: Pod) -> list[str]:
    """The controls that a pod's spec does not meet."""
    return [name for name, holds in CONTROLS.items() if not holds(pod)]
