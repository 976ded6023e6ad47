"""The knative driver against a real API server with KServe's real definition.

KServe's and Knative's controllers are the model of the driver's own tests: it reads the InferenceService that the
server holds and writes what they would into it, Revisions and pods.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from kubernetes import client

from kedge.doctor import accounts
from kedge.doctor.client import KubernetesCluster
from kedge.errors import Conflict, ReleaseError
from kedge.rollout.knative.driver import KnativeDriver
from kedge.rollout.knative.objects import inference_service
from kedge.rollout.kserve.address import Address
from kedge.rollout.kserve.api import MAPS, REVISIONS, SLOTS, Api, connect
from kedge.rollout.model import Rollout, Route
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import Namespace, small
from tests.rollout.fake_knative import FakeKnative
from tests.rollout.test_gateway import Seconds

OLD, NEW, THIRD = "a" * 40, "b" * 40, "c" * 40
S3 = "s3://store/bundles/fraud/"
START = datetime(2026, 3, 2, tzinfo=UTC)
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "revisions.serving.knative.dev"},
    "spec": {
        "group": "serving.knative.dev",
        "scope": "Namespaced",
        "names": {"kind": "Revision", "plural": "revisions", "singular": "revision"},
        "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                      "schema": {"openAPIV3Schema": ANYTHING}}],
    },
}  # fmt: skip
"""As much of Knative as its revisions need."""


@pytest.fixture(scope="module")
def knative_kinds(custom_kinds):
    """Knative's own definition where it is installed, else ours for as long as these tests run."""
    cluster, name = Namespace("default"), DEFINITION["metadata"]["name"]
    made = "NotFound" in cluster.kubectl("get", "customresourcedefinition", name, check=False)
    if made:
        cluster.kubectl("apply", "--server-side", "--filename=-", given=DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", "customresourcedefinition", name, "--timeout=60s")
    yield
    if made:
        cluster.kubectl("delete", "customresourcedefinition", name, "--wait=false")


@pytest.fixture
def namespace(make_namespace, knative_kinds):
    return make_namespace("knative")


@pytest.fixture
def api(namespace):
    connection = connect()
    yield Api(namespace.name, connection)
    connection.rest_client.pool_manager.clear()


class Controllers:
    """KServe and Knative: the model of the fake, on objects of the real server."""

    def __init__(self, api: Api, namespace: Namespace) -> None:
        self.time = Seconds()
        self.model = FakeKnative(time=self.time)
        self._api, self._namespace, self._written = api, namespace, {}

    def act(self) -> None:
        found = self._api.get(SLOTS, "fraud")
        self.model.objects = {key: each for key, each in self.model.objects.items() if key[0] != "inferenceservices"}
        if found is None:
            return
        self.model.objects["inferenceservices", "fraud"] = found
        self.model.tick()
        for (kind, name), each in sorted(self.model.objects.items()):
            if self._written.get((kind, name)) != (said := json.dumps(each["status"])):
                self._write(kind, name, each)
                self._written[kind, name] = said

    def sleep(self, seconds: float) -> None:
        self.time.sleep(seconds)
        self.act()

    def _write(self, kind, name, each) -> None:
        if kind != "inferenceservices" and (kind, name) not in self._written:
            head = {"pods": ("v1", "Pod"), "revisions": ("serving.knative.dev/v1", "Revision")}[kind]
            made = {"apiVersion": head[0], "kind": head[1], "metadata": dict(each["metadata"])}
            made["metadata"].pop("uid", None)
            if kind == "pods":
                made["spec"] = POD
            self._namespace.kubectl("create", "--filename=-", given=made)
        status = dict(each["status"])
        if kind == "pods":
            status["podIPs"] = [{"ip": status["podIP"]}]
        words = ["patch", kind, name, "--subresource=status", "--type=merge"]
        self._namespace.kubectl(*words, f"--patch={json.dumps({'status': status})}")


POD = {
    "schedulerName": "nobody",
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": name, "image": "kedge/serve:none", "ports": [{"containerPort": port}],
         "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
        for name, port in (("kserve-container", 8080), ("queue-proxy", 8012))
    ],
}  # fmt: skip


@pytest.fixture
def controllers(api, namespace):
    return Controllers(api, namespace)


@pytest.fixture
def driver_of(controllers):
    http = httpx.Client(transport=httpx.MockTransport(controllers.model.slots))

    def make(api):
        return KnativeDriver(
            Address(namespace=api.namespace), "fraud", api,
            http=http, sleep=controllers.sleep, monotonic=controllers.time.monotonic,
        )  # fmt: skip

    yield make
    http.close()


@pytest.fixture
def canary(driver_of, api, controllers):
    """Blue serves, green has 10 %."""
    driver = driver_of(api)
    driver.deploy("blue", OLD, S3 + OLD)
    controllers.sleep(20)
    controllers.sleep(20)
    served = driver.set_route(Route(weights={"blue": 100}))
    driver.deploy("green", NEW, S3 + NEW)
    controllers.sleep(20)
    controllers.sleep(20)
    driver.set_route(replace(served, weights={"blue": 90, "green": 10}))
    controllers.act()
    return driver


def asked(api):
    """The percentage that the server holds."""
    return api.get(SLOTS, "fraud")["spec"]["predictor"].get("canaryTrafficPercent")


def test_canary_promotion_and_the_next_release_are_taken_by_the_real_definition(canary, api, controllers):
    assert controllers.model.bore[-1][1] == {OLD: 90, NEW: 10}
    canary.set_route(replace(canary.route(), weights={"green": 100}))
    assert asked(api) == 99
    canary.remove("blue")
    assert asked(api) is None
    assert controllers.model.bore[-1][1] == {NEW: 100}
    canary.deploy("blue", THIRD, S3 + THIRD)
    assert asked(api) == 0
    canary.deploy("blue", THIRD, S3 + THIRD)
    controllers.sleep(20)
    controllers.sleep(20)
    canary.set_route(replace(canary.route(), weights={"blue": 10, "green": 90}))
    controllers.act()
    assert controllers.model.bore[-1][1] == {NEW: 90, THIRD: 10}


def test_refused_revision_never_serves_again_after_a_rollback(canary, api, controllers):
    canary.set_route(replace(canary.route(), weights={"blue": 100}))
    assert asked(api) == 0
    controllers.act()
    before = len(controllers.model.bore)
    canary.remove("green")
    assert asked(api) is None
    assert [share for _, share in controllers.model.bore[before - 1 :]] == [{OLD: 100}]
    assert controllers.model.created == 3


def test_champion_that_does_not_answer_gets_nothing_and_comes_back_as_a_new_revision(canary, api, controllers):
    rollout = Rollout(
        bundle=NEW, uri=S3 + NEW, slot="green", champion=OLD, attempt=1, run="r", started=START, since=START,
        state="failover",
    )  # fmt: skip
    canary.set_route(replace(canary.route(), weights={"green": 100}, rollout=rollout))
    assert (asked(api), controllers.model.bore[-1][1]) == (0, {NEW: 100})
    for _ in range(2):
        controllers.sleep(20)
    back = replace(canary.route(), weights={"blue": 90, "green": 10}, rollout=replace(rollout, state="canary"))
    canary.set_route(back)
    controllers.act()
    assert controllers.model.bore[-1][1] == {OLD: 90, NEW: 10}
    assert controllers.model.created == 3


def test_state_of_a_rollout_changes_nothing_that_revisions_are_made_of(canary, api, controllers):
    before = api.get(SLOTS, "fraud")["metadata"]["generation"]
    rollout = Rollout(
        bundle=NEW, uri=S3 + NEW, slot="green", champion=OLD, attempt=1, run="r", started=START, since=START
    )
    written = canary.set_route(replace(canary.route(), rollout=rollout))
    assert canary.route() == written
    controllers.act()
    assert api.get(SLOTS, "fraud")["metadata"]["generation"] == before
    assert controllers.model.created == 2


def test_second_writer_meets_a_conflict_and_the_service_follows_the_first(driver_of, canary, api):
    other, route = driver_of(api), canary.route()
    found, declared = canary._declared()
    other.set_route(replace(route, weights={"blue": 100}))
    with pytest.raises(Conflict):
        canary.set_route(replace(route, weights={"green": 100}))
    with pytest.raises(Conflict):
        canary._swap(found, declared)
    assert asked(api) == 0


def test_share_that_a_person_patched_is_taken_over_and_removed_at_the_end(canary, api, namespace, controllers):
    patch = json.dumps({"spec": {"predictor": {"canaryTrafficPercent": 42}}})
    namespace.kubectl("patch", "inferenceservice", "fraud", "--type=merge", f"--patch={patch}")
    canary.readings(canary.mark())
    assert asked(api) == 10
    namespace.kubectl("patch", "inferenceservice", "fraud", "--type=merge", f"--patch={patch.replace('42', '99')}")
    canary.set_route(replace(canary.route(), weights={"green": 100}))
    canary.remove("blue")
    assert asked(api) is None


def test_share_that_a_gitops_tool_applies_is_an_error_that_names_it(canary, api, namespace):
    theirs = {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "fraud"},
        "spec": {"predictor": {"canaryTrafficPercent": 10}},
    }  # fmt: skip
    words = ["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "--filename=-"]
    namespace.kubectl(*words, given=theirs)
    with pytest.raises(ReleaseError, match="canaryTrafficPercent is applied by argocd-controller too") as caught:
        canary.set_route(replace(canary.route(), weights={"blue": 80, "green": 20}))
    assert not isinstance(caught.value, Conflict)
    assert asked(api) == 10


def test_service_that_was_deleted_meanwhile_is_not_made_anew_by_an_apply(canary, api, namespace):
    current = canary._seen()
    asked = inference_service(Address(namespace=api.namespace), "fraud", "green", current.placed, 20, current.service)
    namespace.kubectl("delete", "inferenceservice", "fraud")
    with pytest.raises(Conflict):
        canary._apply(asked, current.service)
    assert api.get(SLOTS, "fraud") is None


def test_cluster_without_knative_says_so_by_the_missing_revision(canary, api):
    assert api.get(REVISIONS, "nobody") is None
    assert api.get(MAPS, "fraud-release") is not None


def test_the_charts_release_account_may_do_all_of_it_in_knative_mode(namespace, api, driver_of, controllers):
    idle = {
        "serving": {"enabled": True, "deploymentMode": "Knative"},
        "collector": {"enabled": False},
        "policyCheck": {"enabled": False},
        "store": {"url": "s3://kedge/test"},
    }
    namespace.install(small(models=[{"policy": FRAUD, "bundle": OLD}], **idle))
    found = {each.what: each for each in accounts.permissions(KubernetesCluster(namespace.name))}
    assert found[f"may: {namespace.name}/kedge-release"].state == "good"
    connection = client.ApiClient(connect().configuration)
    connection.set_default_header("Impersonate-User", f"system:serviceaccount:{namespace.name}:kedge-release")
    driver = driver_of(Api(namespace.name, connection))
    controllers.act()
    controllers.sleep(20)
    controllers.sleep(20)
    assert driver.slot("blue").bundle == OLD
    assert driver.route() == Route(weights={"blue": 100})
    driver.deploy("green", NEW, S3 + NEW)
    controllers.sleep(20)
    controllers.sleep(20)
    driver.set_route(replace(driver.route(), weights={"blue": 90, "green": 10}))
    controllers.act()
    assert controllers.model.bore[-1][1] == {OLD: 90, NEW: 10}
    connection.rest_client.pool_manager.clear()
