"""The rights of an installation are what is done with them: the drivers' own calls beside the Role and the doctor."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from kedge.collect_token import FILE, REQUESTED
from kedge.collector.admission import senders_of
from kedge.doctor.accounts import releasing, submitting
from kedge.errors import ReleaseError
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.knative.driver import KnativeDriver
from kedge.rollout.kserve.address import Address
from kedge.rollout.model import Route
from tests.chart.render import SCENARIOS, Object, one, render, template, validate
from tests.chart.test_values import FRAUD
from tests.manifests.build import MANIFESTS, build
from tests.rollout.conftest import NEW, OLD
from tests.rollout.connected import Seconds, connected
from tests.rollout.fake_knative import FakeKnative
from tests.rollout.fake_kubernetes import FakeCluster

S3 = "s3://store/bundles/fraud/"
VALUES: Object = {
    "models": [{"policy": FRAUD}],
    "store": {"url": "s3://kedge/prod"},
    "serving": {"enabled": True},
    "route": {"enabled": True},
}
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}

Call = tuple[str, str, str]
"""Verb, kind and name; a name is empty where none is asked for."""


@dataclass
class Recorded:
    """An API server that notes what it is asked."""

    calls: set[Call] = field(default_factory=set)

    def ask(self, verb, plural, name, query, body, content):
        if verb == "PATCH" and (plural, name) not in self.objects:
            self.calls.add(("create", plural, ""))  # server-side apply of what is not there
        self.calls.add((VERBS.get(verb, "get" if name else "list"), plural, name))
        return super().ask(verb, plural, name, query, body, content)


@dataclass
class Standard(Recorded, FakeCluster):
    pass


@dataclass
class Knative(Recorded, FakeKnative):
    pass


def calls(mode: str) -> set[Call]:
    """Everything a driver asks of Kubernetes, through each of its verbs."""
    seconds = Seconds()
    cluster = Standard() if mode == "Standard" else Knative(time=seconds)
    cluster.put("configmaps", {"metadata": {"name": "kedge-slots"}, "data": {"predictor.json": '{"minReplicas": 2}'}})
    address = Address(namespace="models", gateway="a/b", domain="c", slots="kedge-slots")
    if mode == "Knative":
        address = replace(address, gateway="", domain="")
    with connected(GatewayDriver if mode == "Standard" else KnativeDriver, cluster, address, seconds) as make:
        driver = make()
        driver.deploy("blue", OLD, S3 + OLD)
        seconds.sleep(20)
        route = driver.set_route(Route(weights={"blue": 100}))
        cluster.behaviours[NEW] = "no room"
        driver.deploy("green", NEW, S3 + NEW)
        driver.slot("green")
        seconds.sleep(20)
        driver.slot("blue")
        driver._events(driver._service() if mode == "Knative" else driver._service("blue"))  # where no revision comes
        with suppress(ReleaseError):
            driver.readings(driver.mark())
        driver.flush()
        driver.set_route(replace(route, weights={}))
        with suppress(ReleaseError):
            driver.remove("green")
        with suppress(ReleaseError):
            driver.remove("blue")
    return cluster.calls


def granted(role: Object) -> set[Call]:
    return {
        (verb, resource, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def charts_role(mode: str) -> Object:
    values = {**VALUES, "serving": {"enabled": True, "deploymentMode": mode}, "route": {"enabled": mode == "Standard"}}
    return one(render(values), "Role", "kedge-release")


NAMED_BY_OTHERS = {"revisions"}
"""Knative gives the names."""


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_a_release_may_do_all_that_its_driver_does_by_name_and_nothing_else(mode):
    may, done = granted(charts_role(mode)), calls(mode)
    done = {
        (verb, kind, "" if kind in NAMED_BY_OTHERS or verb in ("create", "list") else name) for verb, kind, name in done
    }
    assert done - may == set()
    kinds = {(verb, kind) for verb, kind, _ in done}
    assert {(verb, kind) for verb, kind, _ in may} - kinds == set()


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_the_doctor_asks_for_what_the_role_grants(mode):
    asked = releasing(["fraud"], knative=mode == "Knative", slots="kedge-slots")
    assert {(right.verb, right.resource, right.name) for right in asked} == granted(charts_role(mode))


def test_the_doctor_asks_for_what_submitting_needs():
    role = one(render(VALUES), "Role", "kedge-submit")
    assert {(right.verb, right.resource, right.name) for right in submitting()} == granted(role)


def test_without_a_model_no_rule_is_for_every_name():
    rules = one(render({"serving": {"enabled": True}}), "Role", "kedge-release")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"create", "list"}


@pytest.mark.parametrize("made", [*SCENARIOS, "dev", "prod"], ids=str)
def test_what_has_a_known_name_is_granted_by_name(made):
    objects = build(MANIFESTS / "overlays" / made) if made in ("dev", "prod") else render(made)
    for role in (each for each in objects if each["kind"] == "Role" and each["metadata"]["name"] == "kedge-release"):
        for rule in role["rules"]:
            free = {verb for verb in rule["verbs"] if not rule.get("resourceNames")}
            assert free <= {"create", "list"} or rule["resources"] == ["revisions"], rule


def test_release_steps_run_as_an_account_of_their_own_and_kubeflows_may_not_release():
    objects = render(VALUES)
    account = one(objects, "ServiceAccount", "kedge-ml-steps")
    assert account["metadata"]["namespace"] == "kubeflow"
    subjects = one(objects, "RoleBinding", "kedge-release")["subjects"]
    assert [each["name"] for each in subjects] == ["kedge-release", "kedge-ml-steps"]
    binding = one(objects, "RoleBinding", "kedge-ml-steps")
    assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) == ("kubeflow", "pipeline-runner")
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in check["containers"][0]["env"]}
    assert env["KEDGE_RELEASE_ACCOUNT"] == "kubeflow/kedge-ml-steps"


def test_in_a_profile_the_account_stands_beside_the_runs():
    objects = render({**VALUES, "kfp": {"namespace": "risk"}})
    binding = one(objects, "RoleBinding", "kedge-ml-steps")
    assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) == ("risk", "kubeflow-edit")


@pytest.mark.parametrize("values", [{"serving": {}}, {"release": {"steps": {"enabled": False}}}])
def test_nothing_is_made_in_kubeflows_namespace_where_nothing_is_released_from_there(values):
    assert not [
        each for each in render({**VALUES, "route": {}, **values}) if each["metadata"]["namespace"] == "kubeflow"
    ]


def test_the_file_for_kustomize_makes_the_account_that_the_overlay_names():
    (account,) = [each for each in build(MANIFESTS / "kubeflow") if each["kind"] == "ServiceAccount"]
    subjects = one(build(MANIFESTS / "overlays" / "prod"), "RoleBinding", "kedge-release")["subjects"]
    assert (account["metadata"]["name"], account["metadata"]["namespace"]) in {
        (each["name"], each["namespace"]) for each in subjects
    }


def test_the_guard_may_see_why_a_step_beside_kubeflows_runs_does_not_begin():
    objects = render(VALUES)
    role = one(objects, "Role", "kedge-ml-steps-pods")
    assert granted(role) == {("list", "pods", "")}
    binding = one(objects, "RoleBinding", "kedge-ml-steps-pods")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "kubeflow"
    assert [(each["name"], each["namespace"]) for each in binding["subjects"]] == [("kedge-release", "ml")]
    assert not [
        each
        for each in render({**VALUES, "guard": {"enabled": False}})
        if "-pods" in each["metadata"]["name"] and each["kind"] == "Role"
    ]


TOKENS: Object = {**VALUES, "collector": {"tokens": {"enabled": True}}}


def test_with_tokens_the_collector_may_ask_whose_they_are_and_nothing_else():
    objects = render(TOKENS)
    (role,) = [each for each in objects if each["kind"] == "ClusterRole"]
    assert granted(role) == {("create", "tokenreviews", "")}
    (binding,) = [each for each in objects if each["kind"] == "ClusterRoleBinding"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(each["name"], each["namespace"]) for each in binding["subjects"]] == [("kedge-collector", "ml")]
    others = {each["metadata"]["name"] for each in render(TOKENS, namespace="ml2") if each["kind"] == "ClusterRole"}
    assert role["metadata"]["name"] not in others  # two installations: two roles
    collector = one(objects, "StatefulSet", "kedge-collector")["spec"]["template"]["spec"]
    assert collector["automountServiceAccountToken"] is True
    egress = one(objects, "NetworkPolicy", "kedge-collector")["spec"]["egress"]
    assert 6443 in [port["port"] for rule in egress for port in rule["ports"]]


def test_slots_and_release_steps_show_tokens_that_the_collector_takes():
    values = {**TOKENS, "models": [{"policy": FRAUD, "logger": True}]}
    values["collector"]["tokens"]["senders"] = [{"namespace": "billing", "name": "outcomes", "may": ["labels"]}]
    objects = render(values)
    collector = one(objects, "StatefulSet", "kedge-collector")["spec"]["template"]["spec"]["containers"][0]
    words = [word for before, word in pairwise(collector["args"]) if before == "--sender"]
    senders = {account: sorted(may) for account, may in senders_of(words).items()}
    assert senders == {
        "ml/kedge-slots": ["events"],
        "kubeflow/kedge-ml-steps": ["flush"],
        "billing/outcomes": ["labels"],
    }
    assert "--untokened-logger=fraud" in collector["args"]
    runtime = one(objects, "ServingRuntime", "kedge")["spec"]
    slot = runtime["containers"][0]
    mount = next(each for each in slot["volumeMounts"] if each["name"] == "collector-token")
    token = next(each for each in runtime["volumes"] if each["name"] == "collector-token")["projected"]["sources"][0]
    assert f"--audience={token['serviceAccountToken']['audience']}" in collector["args"]
    assert {"name": FILE, "value": f"{mount['mountPath']}/token"} in slot["env"]
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in check["containers"][0]["env"]}
    assert json.loads(env["KEDGE_STEP_POD"])["env"][REQUESTED] == "kubeflow/kedge-ml-steps@kedge-collector"
    role = one(objects, "Role", "kedge-ml-steps-token")
    assert granted(role) == {("create", "serviceaccounts/token", "kedge-ml-steps")}
    validate(template(values).stdout)


def test_without_tokens_nothing_of_them_is_there():
    text = template(VALUES).stdout
    assert not [word for word in ("tokenreviews", "--sender", "collector-token", REQUESTED, FILE) if word in text]
