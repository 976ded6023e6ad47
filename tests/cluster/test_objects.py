"""What a real API server says to every object, and what each account may do."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from kedge import token_review
from kedge.doctor import accounts
from kedge.doctor.client import KubernetesCluster
from tests.chart.render import SCENARIOS, render
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import IDLE, SLOT, Namespace, small
from tests.manifests.build import OVERLAYS, build

EVERYONE = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}


def moved(objects, namespace: Namespace):
    """The objects in the test's own namespace, so that nothing else is touched."""
    for each in objects:
        each["metadata"]["namespace"] = namespace.name
        for subject in each.get("subjects", ()):
            subject["namespace"] = namespace.name
    return objects


def accepted(namespace, objects):
    """Kind and name of what the server would take, checked field by field."""
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-", "--output=name"]
    return namespace.kubectl(*words, given=moved(objects, namespace)).split()


@pytest.fixture(scope="module")
def place(make_namespace, custom_kinds):
    return make_namespace("objects")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda p: p.stem)
def test_the_server_takes_every_object_of_the_chart(place, scenario):
    objects = render(scenario)
    assert len(accepted(place, objects)) == len(objects)


def test_the_server_takes_every_object_of_the_chart_with_tokens(place):
    values = {"models": [{"policy": FRAUD}], "serving": {"enabled": True}, "collector": {"tokens": {"enabled": True}}}
    objects = render(values)
    assert len(accepted(place, objects)) == len(objects)


@pytest.fixture
def as_collector(make_namespace, tmp_path, monkeypatch):
    """This process in the place of the collector's: its address of the API server, its authority, its own token."""
    place = make_namespace("tokens")
    values = {"models": [{"policy": FRAUD}], "serving": {"enabled": True}, "collector": {"tokens": {"enabled": True}}}
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    made = [each for each in render(values, namespace=place.name) if each["kind"] in kinds]
    made = [each for each in made if each["metadata"].get("namespace", place.name) == place.name]
    place.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", given=made)
    config = json.loads(place.kubectl("config", "view", "--raw", "--minify", "--output=json"))
    cluster = config["clusters"][0]["cluster"]
    authority = cluster.get("certificate-authority-data")
    (tmp_path / "ca.crt").write_bytes(
        b64decode(authority) if authority else Path(cluster["certificate-authority"]).read_bytes()
    )
    (tmp_path / "token").write_text(place.kubectl("create", "token", "kedge-collector"))
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port.strip("/") or "443")
    monkeypatch.setattr(token_review, "OWN", tmp_path)
    yield place
    for each in made:
        if each["kind"] != "ServiceAccount":
            place.kubectl("delete", each["kind"], each["metadata"]["name"])


def test_the_collector_learns_whose_a_token_is_and_takes_none_for_the_api(as_collector, tmp_path):
    def token(account, *words):
        return as_collector.kubectl("create", "token", account, *words).strip()

    account_of = token_review.account_of
    ours = token("kedge-slots", "--audience=kedge-collector")
    assert account_of(ours, "kedge-collector") == f"{as_collector.name}/kedge-slots"
    assert account_of(token("kedge-slots"), "kedge-collector") is None
    assert account_of(ours, "another") is None
    assert account_of("nonsense", "kedge-collector") is None
    (tmp_path / "token").write_text(token("kedge-slots"))
    with pytest.raises(OSError, match="403"):  # an account without the right asks nothing
        account_of(ours, "kedge-collector")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_the_server_takes_every_object_of_the_overlays(place, overlay):
    objects = build(overlay)
    assert len(accepted(place, objects)) == len(objects)


@pytest.fixture(scope="module")
def installed(place):
    """The chart with slots and a route, without anything that runs."""
    place.install(small(models=SLOT, **IDLE))
    return place


def rules(namespace: Namespace, account: str) -> set[tuple[str, str]]:
    """(verb, resource) of all an account may do in its namespace beyond what everyone may."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace.name},
    }
    who = f"--as=system:serviceaccount:{namespace.name}:{account}"
    said = namespace.kubectl("create", who, "--validate=false", "--filename=-", "--output=json", given=review)
    return {
        (verb, resource)
        for rule in json.loads(said)["status"]["resourceRules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        if resource not in EVERYONE
    }


def matrix(**allowed: str) -> set[tuple[str, str]]:
    return {(verb, resource) for resource, verbs in allowed.items() for verb in verbs.split()}


RELEASE = matrix(
    inferenceservices="get create patch delete",
    httproutes="get create patch",
    deployments="get",
    pods="list",
    services="get",
    events="list",
    configmaps="get",
)
SUBMIT = matrix(
    runs="create list terminate", experiments="create list", pipelines="list", pipelineversions="list"
)  # fmt: skip


@pytest.mark.parametrize(
    ("account", "may"),
    [
        ("kedge-collector", set()),
        ("kedge-slots", set()),
        ("kedge-monitor", SUBMIT),
        ("kedge-release", RELEASE | SUBMIT),
    ],
)
def test_an_account_may_do_what_the_list_says_and_nothing_else(installed, account, may):
    assert rules(installed, account) == may


def asked_of_accounts(namespace: Namespace) -> dict[str, str]:
    """What the doctor finds each account may do."""
    found = accounts.permissions(KubernetesCluster(namespace.name))
    return {each.what.rpartition("/")[2]: each.state for each in found if each.what != "may: you"}


def test_the_doctor_finds_that_the_charts_accounts_may_do_their_work_and_sees_when_not(installed):
    well = {"kedge-release": "good", "pipeline-runner": "good", "kedge-monitor": "good"}
    assert asked_of_accounts(installed) == well
    binding = installed.get("rolebinding", "kedge-release")
    for told in ("resourceVersion", "uid", "creationTimestamp"):
        del binding["metadata"][told]
    installed.kubectl("delete", "rolebinding", "kedge-release")
    ill = asked_of_accounts(installed)
    installed.kubectl("create", "--filename=-", given=binding)
    assert ill == {**well, "kedge-release": "bad", "pipeline-runner": "bad"}


def test_who_is_named_may_release_here(installed):
    who = "--as=system:serviceaccount:kubeflow:pipeline-runner"
    assert (
        installed.kubectl("auth", "can-i", "patch", "inferenceservices.serving.kserve.io/fraud-blue", who).strip()
        == "yes"
    )


def test_an_upgrade_with_another_bundle_leaves_slot_and_weights_to_releases(installed):
    slot = installed.get("inferenceservice", "fraud-blue")["spec"]
    weights = [
        {"group": "", "kind": "Service", "name": f"fraud-{name}-predictor", "port": 80, "weight": weight}
        for name, weight in (("blue", 20), ("green", 80))
    ]
    change = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "fraud"}}
    change["spec"] = {"rules": [{"backendRefs": weights, "matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]}
    words = ["apply", "--server-side", "--force-conflicts", "--field-manager=kedge", "--filename=-"]
    installed.kubectl(*words, given=change)
    installed.install(small(models=[{"policy": FRAUD, "bundle": "b" * 40}], **IDLE))
    assert installed.get("inferenceservice", "fraud-blue")["spec"] == slot
    found = installed.get("httproute", "fraud")["spec"]["rules"][0]["backendRefs"]
    assert [(each["name"], each["weight"]) for each in found] == [
        ("fraud-blue-predictor", 20),
        ("fraud-green-predictor", 80),
    ]


def test_uninstalling_leaves_what_serves(installed):
    installed.helm("uninstall", "kedge", "--wait", "--timeout", "60s")
    assert installed.get("inferenceservice", "fraud-blue")
    assert installed.get("httproute", "fraud")
    assert installed.get("servingruntime", "kedge")
