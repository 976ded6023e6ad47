"""What every object keeps: Pod Security "restricted", least rights, nothing secret, nothing reachable by default."""

from __future__ import annotations

import pytest
import yaml

from tests.chart.render import CHART, SCENARIOS, containers, one, pods, render, template, validate

FULL = CHART / "ci" / "full-values.yaml"
MOVES_TRAFFIC = ("CronJob/kedge-guard-", "Deployment/kedge-tools")
everywhere = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda p: p.stem)


@everywhere
def test_kubeconform_accepts_every_object(scenario):
    assert validate(template(scenario).stdout) == len(render(scenario))


@everywhere
def test_every_pod_is_restricted(scenario):
    for place, pod in pods(render(scenario)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, place
        assert security["runAsUser"] > 0, place
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, place
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, place
            assert own["readOnlyRootFilesystem"] is True, place
            assert own["capabilities"] == {"drop": ["ALL"]}, place


@everywhere
def test_no_pod_takes_from_the_node(scenario):
    for place, pod in pods(render(scenario)):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), place
        assert not [v for v in pod.get("volumes", ()) if "hostPath" in v], place


@everywhere
def test_every_scratch_volume_has_a_size(scenario):
    for place, pod in pods(render(scenario)):
        for volume in pod.get("volumes", ()):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], place


@everywhere
def test_every_container_says_what_it_needs(scenario):
    for place, pod in pods(render(scenario)):
        for container in containers(pod):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, place
            assert "memory" in container["resources"]["limits"], place


@everywhere
def test_no_image_is_called_latest(scenario):
    for place, pod in pods(render(scenario)):
        for container in containers(pod):
            name, _, tag = container["image"].rpartition(":")
            assert name, place
            assert tag != "latest", place


@everywhere
def test_no_pod_gets_a_token_it_has_no_use_for(scenario):
    for place, pod in pods(render(scenario)):
        if not place.startswith("ServingRuntime"):  # an InferenceService says it for its pods
            assert pod["automountServiceAccountToken"] is place.startswith(MOVES_TRAFFIC), place


@everywhere
def test_roles_hold_no_wildcard_and_no_secret(scenario):
    for role in render(scenario):
        assert role["kind"] not in ("ClusterRole", "ClusterRoleBinding")
        if role["kind"] == "Role":
            for rule in role["rules"]:
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
                assert "secrets" not in rule["resources"]


@everywhere
def test_secrets_are_only_named(scenario):
    assert not [o for o in render(scenario) if o["kind"] == "Secret"]


@everywhere
def test_every_object_names_its_namespace_and_its_release(scenario):
    for found in render(scenario):
        assert found["metadata"]["namespace"] in ("ml", "risk-profile", "kubeflow")
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "kedge"
        assert labels["app.kubernetes.io/instance"] == "kedge"


def test_two_releases_select_only_their_own_pods():
    first, second = (
        one(
            render(CHART / "ci" / "volume-values.yaml", release=name, namespace=name),
            "NetworkPolicy",
            "kedge-collector",
        )
        for name in ("one", "two")
    )
    assert first["spec"]["podSelector"] != second["spec"]["podSelector"]


@everywhere
def test_selectors_never_hold_a_version(scenario):
    for found in render(scenario):
        spec = found.get("spec", {})
        selector = yaml.safe_dump([spec.get("selector"), spec.get("podSelector")])
        assert "version" not in selector
        assert "chart" not in selector


def test_a_new_chart_version_alone_restarts_no_pod(tmp_path):
    objects = render(FULL)
    for kind, name in (("StatefulSet", "kedge-collector"), ("CronJob", "kedge-check-fraud")):
        spec = one(objects, kind, name)["spec"]
        labels = (spec if kind == "StatefulSet" else spec["jobTemplate"]["spec"])["template"]["metadata"]["labels"]
        assert "helm.sh/chart" not in labels
        assert "app.kubernetes.io/version" not in labels


def test_nothing_goes_in_or_out_but_names_unless_a_policy_says_so():
    deny = one(render(FULL), "NetworkPolicy", "kedge-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert [port["port"] for rule in deny["egress"] for port in rule["ports"]] == [53, 53]


TRACKING = {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tracking"}}}]}


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("http://mlflow", {"to": [{"podSelector": {}}]}),
        ("http://mlflow.tracking:5000", TRACKING),
        ("http://mlflow.tracking.svc.cluster.local:5000", TRACKING),
        ("https://mlflow.example.com", {"ports": [{"port": 443, "protocol": "TCP"}]}),
        ("http://mlflow.example.com:8443/x", {"ports": [{"port": 8443, "protocol": "TCP"}]}),
    ],
)
def test_the_monitor_may_reach_the_registry_it_is_told(address, rule):
    policy = one(render({"registry": {"uri": address}, "kfp": {"host": ""}}), "NetworkPolicy", "kedge-monitor")
    assert policy["spec"]["egress"][1:] == [rule]
