"""The overlays: valid, restricted, whole; the policies in them good."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from kedge import policy
from tests.chart.render import ROOT, SCENARIOS, containers, one, pods, render, tool, validate
from tests.manifests.build import MANIFESTS, OVERLAYS, build, build_text

MOVES_TRAFFIC = ("CronJob/kedge-guard-", "Deployment/kedge-tools")
overlays = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)


@pytest.mark.parametrize("folder", [MANIFESTS / "base", MANIFESTS / "model", *OVERLAYS], ids=lambda p: p.name)
def test_kubeconform_accepts_every_object(folder):
    assert validate(build_text(folder)) == len(build(folder)) > 0


@overlays
def test_every_pod_is_restricted_and_only_what_moves_traffic_has_a_token(overlay):
    for place, pod in pods(build(overlay)):
        assert pod["securityContext"]["runAsNonRoot"] is True, place
        assert pod["securityContext"]["runAsUser"] > 0, place
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, place
        if not place.startswith("ServingRuntime"):  # an InferenceService says it for its pods
            assert pod["automountServiceAccountToken"] is place.startswith(MOVES_TRAFFIC), place
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
    places = [
        "manifests",
        "charts/kedge/values.yaml",
        "charts/kedge/Chart.yaml",
        "charts/kedge/ci",
        "charts/kedge/files",
        "skaffold.yaml",
    ]
    found = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "--config-file", "tests/manifests/yamllint.yaml", *places],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


KNOWN = {
    "container-image-pull-policy": "images come by digest or by a version's tag",
    "container-ephemeral-storage-request-and-limit": "an emptyDir has its sizeLimit, and nothing else can be written",
    "networkpolicy-targets-pod": "the pods of slots are KServe's",
}
"""What kube-score asks for and is not done, and why. No CPU limit either: a throttled server answers late."""


@pytest.mark.parametrize("place", [*OVERLAYS, *SCENARIOS], ids=lambda p: p.stem)
def test_kube_score_finds_nothing(place):
    """All of what an overlay makes but what is for development only, and the chart's scenarios."""
    objects = build(place) if place.is_dir() else render(place)
    kept = [each for each in objects if each["metadata"]["name"] not in ("mlflow", "object-store")]
    ignored = [word for name in KNOWN for word in ("--ignore-test", name)]
    told = ["score", "--ignore-container-cpu-limit", "--exit-one-on-warning", "--output-format", "ci", *ignored, "-"]
    done = subprocess.run(
        [tool("kube-score"), *told], input=yaml.safe_dump_all(kept), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, [each for each in done.stdout.splitlines() if not each.startswith(("[OK]", "[SKIP"))]
    assert "[OK]" in done.stdout


@overlays
def test_alerts_watch_the_overlays_own_namespace(overlay):
    for found in build(overlay):
        if found["kind"] == "PrometheusRule":
            rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
            assert all('namespace="kedge-prod"' in rule["expr"] for rule in rules)
            assert "NAMESPACE" not in yaml.safe_dump(found)
