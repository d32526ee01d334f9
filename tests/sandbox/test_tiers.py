"""Tiers are probed, not assumed, and chosen fail-closed."""

import os
import subprocess
import sys

import pytest
from avlab_executor.sandbox import gvisor
from avlab_executor.sandbox.tiers import Layer, TierReport, candidates, choose, pick, probe, report

from avlab.core.errors import ConfigError, TierUnavailable


def reports(**available: bool) -> list[TierReport]:
    return [TierReport(name, on, "" if on else f"{name} is missing") for name, on in available.items()]


def test_this_system_has_every_tier():
    found = {report.name: report for report in probe()}
    assert list(found) == ["gvisor", "namespaces", "landlock", "process"]
    for name in ("namespaces", "landlock"):
        assert found[name].available, found[name]
        layers = {layer.name: layer for layer in found[name].layers}
        assert layers["seccomp"].on and layers["Landlock"].on and layers["rlimits"].on
    assert found["gvisor"].available, found["gvisor"]
    assert {layer.name for layer in found["gvisor"].layers if layer.on} >= {
        "gVisor",
        "namespaces",
        "seccomp",
        "rlimits",
    }
    assert "not a security boundary" in found["process"].reason
    assert choose() == "namespaces"
    assert choose("landlock") == "landlock"


def test_a_report_survives_the_way_as_json():
    report = TierReport("landlock", True, "", (Layer("seccomp", False, "why"),))
    assert TierReport.from_json(report.to_json()) == report


def test_the_strongest_tier_that_works_is_picked():
    assert pick(reports(gvisor=False, namespaces=True, landlock=True, process=True), None, None) == "namespaces"
    assert pick(reports(gvisor=False, namespaces=False, landlock=True, process=True), None, None) == "landlock"


def test_nothing_weaker_than_the_minimum_is_picked():
    weak = reports(gvisor=False, namespaces=False, landlock=True, process=True)
    with pytest.raises(TierUnavailable, match="namespaces is missing"):
        pick(weak, None, "namespaces")
    with pytest.raises(TierUnavailable, match="weaker than the minimum"):
        pick(weak, "landlock", "namespaces")


def test_a_wanted_tier_is_never_replaced():
    with pytest.raises(TierUnavailable, match="landlock is missing"):
        pick(reports(namespaces=True, landlock=False), "landlock", None)


def test_process_is_never_picked_silently_on_linux():
    with pytest.raises(TierUnavailable):
        pick(reports(gvisor=False, namespaces=False, landlock=False, process=True), None, None)
    assert pick(reports(process=True), "process", None) == "process"
    assert candidates(None, None) == ["namespaces", "landlock"]


def test_gvisor_is_taken_only_when_it_is_asked_for():
    assert pick(reports(gvisor=True, namespaces=True), None, None) == "namespaces"
    assert pick(reports(gvisor=True, namespaces=True), "gvisor", None) == "gvisor"
    assert pick(reports(gvisor=True, namespaces=True), None, "gvisor") == "gvisor"
    with pytest.raises(TierUnavailable, match="gvisor is missing"):
        pick(reports(gvisor=False, namespaces=True), None, "gvisor")
    with pytest.raises(TierUnavailable, match="weaker than the minimum"):
        pick(reports(gvisor=True, namespaces=True), "namespaces", "gvisor")


def test_a_system_without_runsc_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gvisor, "_PATH", "/nowhere")
    found = report("gvisor", ())
    assert not found.available
    assert "apt install runsc" in found.reason


def test_unknown_names_are_refused():
    for wanted, minimum in (("chroot", None), (None, "chroot")):
        with pytest.raises(ConfigError, match="chroot"):
            choose(wanted, minimum)


@pytest.mark.parametrize("arguments", [("gvisor", None), (None, "gvisor")], ids=["wanted", "minimum"])
def test_a_pool_refuses_a_tier_that_does_not_work(arguments):
    """Where runsc is covered: nothing weaker takes its place."""
    if os.geteuid() != 0:
        pytest.fail("covering runsc needs root: run the suite as root")
    code = f"from avlab_executor.pool import Pool; Pool{arguments!r}"
    cover = 'mount --bind /dev/null "$1" && exec "$2" -c "$3"'
    words = ["unshare", "-m", "sh", "-c", cover, "sh", gvisor.program(), sys.executable, code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "TierUnavailable" in done.stderr and "runsc" in done.stderr
