"""Network policies and neighbours: who reaches whom."""

from __future__ import annotations

import pytest

from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import sleeper, small, until

OURS = {"app.kubernetes.io/name": "kedge", "app.kubernetes.io/instance": "kedge"}
SLOT = {"serving.kserve.io/inferenceservice": "fraud-blue"}


@pytest.fixture(scope="module")
def places(make_namespace):
    """Two releases of one name in two namespaces, and a third namespace that stands for Kubeflow's."""
    kubeflow = make_namespace("kubeflow")
    one, two = make_namespace("one"), make_namespace("two")
    kfp = {"host": f"http://ml-pipeline-ui.{kubeflow.name}.svc"}
    for namespace in (one, two):
        namespace.install(small(models=[{"policy": FRAUD}], kfp=kfp, policyCheck={"enabled": False}))
    server = sleeper("server")
    server["spec"]["containers"][0]["command"] = ["python", "-m", "http.server", "3000", "--directory", "/etc"]
    kubeflow.kubectl("create", "--filename=-", given=[server])
    one.kubectl("create", "--filename=-", given=[
        server,
        sleeper("stranger"),
        sleeper("slot", SLOT),
        sleeper("check", {**OURS, "app.kubernetes.io/component": "monitor"}),
    ])  # fmt: skip
    for namespace in (one, kubeflow):
        namespace.kubectl("wait", "--for=condition=Ready", "pods", "--all", "--timeout=180s")
    return one, two, kubeflow


def collector(namespace):
    return f"http://kedge-collector.{namespace.name}.svc:8080/readyz"


def address(namespace, pod):
    return f"http://{namespace.get('pod', pod)['status']['podIP']}:3000/"


def settled(namespace):
    """A new pod's rules take effect a moment after it started: wait until the stranger is kept out."""
    until("the rules to hold", lambda: not namespace.reaches("stranger", collector(namespace)), seconds=60)


def test_the_collector_answers_slots_and_its_own_and_no_stranger(places):
    one, _, _ = places
    settled(one)
    assert one.reaches("slot", collector(one))
    assert one.reaches("check", collector(one))
    assert not one.reaches("stranger", collector(one))


def test_a_check_reaches_kubeflow_and_nothing_it_was_not_told_of(places):
    one, _, kubeflow = places
    settled(one)
    assert one.reaches("check", address(kubeflow, "server"))
    assert one.reaches("stranger", address(one, "server"))  # it is there ...
    assert not one.reaches("check", address(one, "server"))  # ... but not for a check


def test_two_releases_do_not_see_each_other(places):
    one, two, _ = places
    settled(one)
    for pod in ("slot", "check", "stranger"):
        assert not one.reaches(pod, collector(two)), pod
    who = f"--as=system:serviceaccount:{one.name}:kedge-release"
    for verb, resource in (("list", "pods"), ("patch", "httproutes.gateway.networking.k8s.io/fraud")):
        assert one.kubectl("auth", "can-i", verb, resource, who).strip() == "yes"
        assert two.kubectl("auth", "can-i", verb, resource, who, check=False).strip() == "no"
