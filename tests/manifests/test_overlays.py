"""The overlays: valid, restricted, whole; the policies in them good."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from components import policy
from tests.chart.render import ROOT, SCENARIOS, TOOLS, containers, one, pods, template, validate
from tests.manifests.build import MANIFESTS, OVERLAYS, build, build_text

overlays = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)


@pytest.mark.parametrize("folder", [MANIFESTS / "base", MANIFESTS / "model", *OVERLAYS], ids=lambda p: p.name)
def test_kubeconform_accepts_every_object(folder):
    assert validate(build_text(folder)) == len(build(folder)) > 0


@overlays
def test_every_pod_is_restricted_and_without_a_token(overlay):
    for place, pod in pods(build(overlay)):
        assert pod["securityContext"]["runAsNonRoot"] is True, place
        assert pod["securityContext"]["runAsUser"] > 0, place
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, place
        if not place.startswith("ServingRuntime"):  # an InferenceService says it for its pods
            assert pod["automountServiceAccountToken"] is False, place
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, place
            assert own["readOnlyRootFilesystem"] is True, place
            assert own["capabilities"] == {"drop": ["ALL"]}, place
            assert "memory" in container["resources"]["limits"], place


@overlays
def test_what_an_overlay_refers_to_is_there(overlay):
    objects = build(overlay)
    there = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for place, pod in pods(objects):
        for volume in pod.get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there, place
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there, place
        if "serviceAccountName" in pod:
            assert ("ServiceAccount", pod["serviceAccountName"]) in there, place
    assert ("ConfigMap", "settings") not in there  # it only carries addresses to where they are read


@overlays
def test_every_policy_is_good_collected_and_checked_when_it_says(overlay):
    objects = build(overlay)
    collector = one(objects, "StatefulSet", "kedge-collector")["spec"]["template"]["spec"]["containers"][0]
    files = sorted((overlay / "policies").glob("*.yaml"))
    assert files
    for file in files:
        asked = policy.load(file)
        assert file.stem == asked.name
        assert f"--policy=/etc/kedge/policies/{file.name}" in collector["args"]
        job = one(objects, "CronJob", f"kedge-check-{asked.name}")
        assert job["spec"]["schedule"] == asked.monitor.schedule
        assert job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]["kedge.dev/model"] == asked.name


def test_a_changed_policy_rolls_the_collector(tmp_path):
    """Its ConfigMap's name holds a hash."""
    names = [o["metadata"]["name"] for o in build(MANIFESTS / "overlays" / "dev") if o["kind"] == "ConfigMap"]
    assert len(names) == 1
    assert names[0].startswith("kedge-policies-")


def test_yamllint_finds_nothing():
    places = ["manifests", "charts/kedge/values.yaml", "charts/kedge/Chart.yaml", "charts/kedge/ci", "skaffold.yaml"]
    found = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "--config-file", "tests/manifests/yamllint.yaml", *places],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


def test_kube_linter_finds_nothing(tmp_path):
    """All of what an overlay makes, and the chart with everything on."""
    linter = shutil.which("kube-linter", path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    if linter is None:  # its module is not to be had from every proxy, so that CI may go without it
        pytest.skip("kube-linter is not there: go install golang.stackrox.io/kube-linter/cmd/kube-linter@v0.8.3")
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay.name}.yaml").write_text(build_text(overlay))
    for scenario in SCENARIOS:
        (tmp_path / f"{scenario.stem}.yaml").write_text(template(scenario).stdout)
    found = subprocess.run(
        [linter, "lint", "--config", ROOT / "tests" / "manifests" / "kube-linter.yaml", tmp_path],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr


@overlays
def test_alerts_watch_the_overlays_own_namespace(overlay):
    for found in build(overlay):
        if found["kind"] == "PrometheusRule":
            rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
            assert all('namespace="kedge-prod"' in rule["expr"] for rule in rules)
            assert "NAMESPACE" not in yaml.safe_dump(found)
