"""The Kubernetes manifests, without a cluster: fields that exist, the restricted Pod Security Standard, and what the image expects."""

import copy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from avlab_executor.container.options import CACHE, FOLDER, PORT, USER, Options
from conftest import ROOT
from pod_security import CONTROLS, violations

FOLDERS = ROOT / "docker/kubernetes"
VARIANTS = ("base", "namespaces", "gvisor", "kata")
POD = "spec.template.spec"
BREACHES = {
    "HostProcess": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "host namespaces": {"hostPID": True},
    "privileged containers": {"containers": [{"securityContext": {"privileged": True}}]},
    "HostPath volumes": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
    "host ports": {"containers": [{"ports": [{"hostPort": 7411}]}]},
    "host probes": {"containers": [{"livenessProbe": {"httpGet": {"host": "192.0.2.1"}}}]},
    "AppArmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "SELinux": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "/proc mount type": {"containers": [{"securityContext": {"procMount": "Unmasked"}}]},
    "sysctls": {"securityContext": {"sysctls": [{"name": "kernel.core_pattern"}]}},
    "volume types": {"volumes": [{"name": "x", "nfs": {"server": "x", "path": "/"}}]},
    "privilege escalation": {"containers": [{"securityContext": {"allowPrivilegeEscalation": None}}]},
    "running as non-root": {"securityContext": {"runAsNonRoot": None}},
    "running as non-root user": {"containers": [{"securityContext": {"runAsUser": 0}}]},
    "seccomp": {"securityContext": {"seccompProfile": None}},
    "capabilities": {"containers": [{"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}]},
}


def merged(value: Any, change: Any) -> Any:
    """A strategic merge for what the patches and BREACHES use: mappings by key, lists of containers by place, else replaced."""
    if isinstance(value, dict) and isinstance(change, dict):
        return value | {name: merged(value.get(name), part) for name, part in change.items()}
    if isinstance(value, list) and isinstance(change, list) and len(value) == len(change) == 1:
        return [merged(value[0], change[0])]
    return change


@cache
def manifests(variant: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    folder = FOLDERS / variant
    about = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[dict[str, Any]] = []
    for name in about["resources"]:
        path = folder / name
        found += manifests(Path(name).name) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in about.get("patches", ()):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        (target,) = (each for each in found if key(each) == key(change))
        found = [merged(each, change) if each is target else each for each in found]
    return found


def key(manifest: dict[str, Any]) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def named(variant: str, kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests(variant) if each["kind"] == kind)
    return found


def pod(variant: str) -> dict[str, Any]:
    return named(variant, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_exists(variant) -> None:
    for manifest in manifests(variant):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pod_meets_the_restricted_standard(variant) -> None:
    assert violations(pod(variant)) == []
    labels = named(variant, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_is_noticed_where_it_is_not_met(control) -> None:
    assert control in violations(merged(copy.deepcopy(pod("base")), BREACHES[control]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pod_is_run_as_the_container_is(variant) -> None:
    spec = pod(variant)
    (container,) = spec["containers"]
    security = spec["securityContext"] | container["securityContext"]
    given = Options().host()
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == USER
    assert security["readOnlyRootFilesystem"] is given["ReadonlyRootfs"] is True
    assert [port["containerPort"] for port in container["ports"]] == [PORT]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {*given["Tmpfs"], CACHE} <= mounted
    assert container["image"] == f"avlab-executor:{version('avlab')}"
    assert FOLDER in mounted
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]  # it would set AVLAB_EXECUTOR_PORT


def test_what_each_variant_changes() -> None:
    assert pod("namespaces")["securityContext"]["seccompProfile"]["type"] == "Localhost"
    for variant in ("gvisor", "kata"):
        assert pod(variant)["runtimeClassName"] == named(variant, "RuntimeClass")["metadata"]["name"]
    assert "runtimeClassName" not in pod("base")


def test_only_the_port_is_reached_and_nothing_is_reached_from_inside() -> None:
    policy = named("base", "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": "grpc"}]]
